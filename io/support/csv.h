#pragma once
// Comma-separated values as in RFC 4180, with the liberties that files in the wild take.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/support/text_source.h"

namespace moleblend {

/// Reads rows one after another. Fields may be quoted and then hold delimiters, line ends and doubled quotes; rows end
/// with LF, CRLF or CR, mixed as they come; blank lines are skipped. A quote inside an unquoted field stands for
/// itself.
class CsvReader {
 public:
  explicit CsvReader(TextSource source, char delimiter = ',');

  /// The next row; false at the end. Throws Error for a quote that is never closed, naming the line where it opened.
  bool next(std::vector<std::string>& row);
  /// Number of the line, from 1, on which the last row began.
  std::uint64_t line() const { return row_line_; }
  const TextSource& source() const { return source_; }

 private:
  bool read_quoted(std::string& field);
  void end_line(int character);

  TextSource source_;
  char delimiter_;
  std::uint64_t line_ = 1, row_line_ = 0;
};

/// The delimiter of a file with this name: tab for .tsv and .tab (also .gz), else comma.
char csv_delimiter(std::string_view file_name);

/// One row with its line end; fields are quoted where they need it.
std::string csv_row(const std::vector<std::string>& fields, char delimiter = ',');

}  // namespace moleblend
