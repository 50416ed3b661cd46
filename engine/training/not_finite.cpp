#include "engine/training/not_finite.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "engine/ranks/agreement.h"
#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {

void throw_not_finite(const Dataset& data, const std::filesystem::path& run, const LoadedStep& step,
                      std::string_view what, Ranks& ranks) {
  std::string own;
  Molecule molecule;
  for (const Batch& part : step.micro_batches)
    for (const std::uint64_t index : part.index) {
      data.read(index, molecule);
      own += molecule.identifier + '\n';
    }
  const std::vector<std::string> all = ranks.gather(own);
  first_tells(ranks);

  const std::string list_text = fmt::format("{}", fmt::join(all, ""));
  std::vector<std::string> names;
  std::istringstream lines(list_text);
  for (std::string name; std::getline(lines, name);) names.push_back(name);
  const std::filesystem::path list = run / fmt::format("not-finite-step-{:08}.txt", step.step + 1);
  write_file(list, list_text);
  constexpr std::size_t kNamed = 8;
  const auto first_end = names.begin() + static_cast<std::ptrdiff_t>(std::min(kNamed, names.size()));
  throw Error(
      "the {} of step {} is not finite; its {} molecules are {}{} (all in {}); look at them with `moleblend inspect`, "
      "or lower --lr or --clip",
      what, step.step + 1, names.size(), fmt::join(names.begin(), first_end, ", "), names.size() > kNamed ? ", …" : "",
      list.string());
}

}  // namespace moleblend
