// The file that says which molecules are for training, validation and test.

#include <vector>

#include "engine/property/splits.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/io/molecules.h"

namespace moleblend::fuzz {
namespace {

const Dataset& molecules() {
  static const Dataset data = [] {
    testing::make_dataset(scratch_folder(), 1, 12);
    return Dataset::open(scratch_folder());
  }();
  return data;
}

void check(std::string_view bytes) {
  const MemoryFile file(bytes);
  reads([&] {
    const Parts parts = parts_from_file(molecules(), file.path());
    std::vector<int> uses(molecules().size());
    for (const Subset* part : {&parts.train, &parts.valid, &parts.test}) {
      must(!part->empty(), "a part is empty");
      for (std::uint64_t k = 0; k < part->size(); ++k) ++uses.at((*part)[k]);
    }
    std::uint64_t unused = 0;
    for (const int n : uses) {
      must(n <= 1, "a molecule is in two parts");
      unused += n == 0;
    }
    must(unused == parts.unused, "the count of unused molecules is wrong");
  });
}

}  // namespace
}  // namespace moleblend::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  moleblend::fuzz::check(moleblend::fuzz::text_of(data, size));
  return 0;
}
