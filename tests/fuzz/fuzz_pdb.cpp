// PDB files: one molecule, or models.

#include "tests/fuzz/splitter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend::fuzz;
  // A model's text is put together from several places of the file, so it is not checked alone.
  reads([&] { split(text_of(data, size), "pdb"); });
  return 0;
}
