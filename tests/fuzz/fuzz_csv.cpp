// Rows of CSV: what is read is written as rows that read the same.

#include "io/support/csv.h"
#include "tests/fuzz/fuzz_target.h"

namespace moleblend::fuzz {
namespace {

using Rows = std::vector<std::vector<std::string>>;

Rows rows_of(std::string text, char delimiter) {
  CsvReader reader(TextSource::of_text(std::move(text)), delimiter);
  Rows rows;
  for (std::vector<std::string> row; reader.next(row);) rows.push_back(row);
  return rows;
}

void check(std::string_view text, char delimiter) {
  reads([&] {
    const Rows rows = rows_of(std::string(text), delimiter);
    // A row of its own before them: what begins like a byte order mark must not stand at a file's beginning.
    std::string again = "first\n";
    for (const auto& row : rows) {
      must(!row.empty(), "a row has no field");
      again += csv_row(row, delimiter);
    }
    Rows read = rows_of(again, delimiter);
    read.erase(read.begin());
    must(read == rows, "rows change when written again");
  });
}

}  // namespace
}  // namespace moleblend::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const char delimiter : {',', '\t'}) moleblend::fuzz::check(moleblend::fuzz::text_of(data, size), delimiter);
  return 0;
}
