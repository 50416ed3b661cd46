// XYZ files, QM9's among them.

#include "tests/fuzz/splitter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend::fuzz;
  const std::string_view text = text_of(data, size);
  check_splitter(text, "xyz");
  check_splitter(text, "xyz", {.smiles = "", .labels = {"gap", "cv"}, .identifier = ""});
  return 0;
}
