// SD files: records end at $$$$.

#include "tests/fuzz/splitter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend::fuzz;
  const std::string_view text = text_of(data, size);
  check_splitter(text, "sdf");
  check_splitter(text, "sdf", {.smiles = "", .labels = {"gap"}, .identifier = "name"});
  return 0;
}
