// Lines of SMILES, with names behind them; plain or gzip.

#include "tests/fuzz/splitter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend;
  fuzz::reads([&] {
    for (const Record& record : fuzz::split(fuzz::text_of(data, size), "smi")) {
      if (!record.refused.empty()) continue;
      fuzz::must(!record.text.empty() && record.text.find_first_of(" \t\r\n") == std::string::npos,
                 "a SMILES is not one word");
      fuzz::must(heavy_atoms_in_smiles(record.text) >= -1, "a SMILES has a negative number of atoms");
      fuzz::must(heavy_atoms_in_smiles(record.text) <= static_cast<std::int64_t>(record.text.size()),
                 "a SMILES has more atoms than letters");
    }
  });
  return 0;
}
