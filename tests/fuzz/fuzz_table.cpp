// Tables with a SMILES column, an identifier and labels.

#include "tests/fuzz/splitter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend;
  const std::string_view text = fuzz::text_of(data, size);
  for (const char* format : {"csv", "tsv"}) {
    fuzz::reads([&] { fuzz::split(text, format); });
    fuzz::reads([&] {
      for (const Record& record :
           fuzz::split(text, format, {.smiles = "smiles", .labels = {"gap"}, .identifier = "name"})) {
        fuzz::must(!record.refused.empty() || !record.text.empty(), "a row without a SMILES is not refused");
        fuzz::must(record.odd_labels <= 1, "one label is odd twice");
      }
    });
  }
  return 0;
}
