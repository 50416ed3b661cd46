#include "engine/training/not_finite.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "engine/ranks/agreement.h"
#include "io/support/csv.h"
#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {

namespace fs = std::filesystem;

fs::path not_finite_folder(const fs::path& run, std::int64_t update) {
  return run / fmt::format("not-finite-step-{:08}", update);
}

void throw_not_finite(const NotFinite& found, Ranks& ranks) {
  std::string own, names;
  Molecule molecule;
  for (const Batch& part : found.step.micro_batches)
    for (std::int64_t b = 0; b < part.molecules(); ++b) {
      const auto place = static_cast<std::size_t>(b);
      found.data.read(part.index[place], molecule);
      own += csv_row({molecule.identifier, std::to_string(part.index[place]), fmt::format("{:016x}", part.key[place]),
                      std::to_string(ranks.rank())});
      names += molecule.identifier + '\n';
    }
  const std::vector<std::string> rows = ranks.gather(own);
  std::vector<std::string> all;
  for (const std::string& lines : ranks.gather(names))
    for (std::size_t begin = 0; begin < lines.size();) {
      const std::size_t end = lines.find('\n', begin);
      all.push_back(lines.substr(begin, end - begin));
      begin = end + 1;
    }
  first_tells(ranks);

  const std::int64_t update = found.step.step + 1;
  const fs::path folder = not_finite_folder(found.run, update);
  std::string left = fmt::format("all in {}", (folder / "molecules.csv").string());
  try {
    fs::create_directories(folder);
    save_checkpoint(folder / "checkpoint", found.model, found.state);
    write_file(folder / "molecules.csv", fmt::format("identifier,index,key,rank\n{}", fmt::join(rows, "")));
  } catch (const std::exception& error) {
    // What has happened must be told whether or not there is room to keep it.
    left = fmt::format("not kept: {}", error.what());
  }
  constexpr std::size_t kNamed = 8;
  const auto first_end = all.begin() + static_cast<std::ptrdiff_t>(std::min(kNamed, all.size()));
  const std::string look = found.state.kind == "pretrain"
                               ? fmt::format("see what each does with `moleblend replay --run {}`", found.run.string())
                               : std::string("look at them with `moleblend inspect`");
  throw Error("the {} of step {} is not finite; its {} molecules are {}{} ({}); {}, or lower --lr or --clip",
              found.what, update, all.size(), fmt::join(all.begin(), first_end, ", "), all.size() > kNamed ? ", …" : "",
              left, look);
}

}  // namespace moleblend
