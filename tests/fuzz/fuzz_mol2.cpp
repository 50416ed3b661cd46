// MOL2 files: records begin at @<TRIPOS>MOLECULE.

#include "tests/fuzz/splitter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend::fuzz;
  const std::string_view text = text_of(data, size);
  check_splitter(text, "mol2");

  return 0;
}
