#include "io/support/csv.h"

#include "io/support/error.h"

namespace moleblend {

CsvReader::CsvReader(TextSource source, char delimiter) : source_(std::move(source)), delimiter_(delimiter) {}

/// Takes a line end whose first character, already taken, is `character`: CRLF is one.
void CsvReader::end_line(int character) {
  if (character == '\r' && source_.peek() == '\n') source_.get();
  ++line_;
}

/// The rest of a quoted field, after its opening quote. False if the file ends first.
bool CsvReader::read_quoted(std::string& field) {
  for (int c = source_.get(); c >= 0; c = source_.get()) {
    if (c == '"') {
      if (source_.peek() != '"') return true;
      source_.get();
    } else if (c == '\n') {
      ++line_;
    }
    field += static_cast<char>(c);
  }
  return false;
}

bool CsvReader::next(std::vector<std::string>& row) {
  while (source_.peek() == '\n' || source_.peek() == '\r') end_line(source_.get());
  if (source_.peek() < 0) return false;
  row_line_ = line_;

  std::size_t count = 0;
  const auto next_field = [&]() -> std::string& {
    if (count == row.size()) row.emplace_back();
    row[count].clear();
    return row[count++];
  };
  std::string* field = &next_field();
  bool at_start = true;
  for (;;) {
    const int c = source_.get();
    if (c == '"' && at_start) {
      const std::uint64_t opened = line_;
      if (!read_quoted(*field))
        throw Error("{}, line {}: a quoted field never ends; close its quote", source_.name(), opened);
      at_start = false;
    } else if (c == static_cast<unsigned char>(delimiter_)) {
      field = &next_field();
      at_start = true;
    } else if (c < 0) {
      break;
    } else if (c == '\n' || c == '\r') {
      end_line(c);
      break;
    } else {
      *field += static_cast<char>(c);
      at_start = false;
    }
  }
  row.resize(count);
  return true;
}

char csv_delimiter(std::string_view file_name) {
  if (file_name.ends_with(".gz")) file_name.remove_suffix(3);
  return file_name.ends_with(".tsv") || file_name.ends_with(".tab") ? '\t' : ',';
}

std::string csv_row(const std::vector<std::string>& fields, char delimiter) {
  const char special[] = {delimiter, '"', '\n', '\r', '\0'};
  std::string row;
  for (std::size_t k = 0; k < fields.size(); ++k) {
    const std::string& field = fields[k];
    if (k > 0) row += delimiter;
    // A row of one empty field would read as a blank line.
    if (field.find_first_of(special) == std::string::npos && !(field.empty() && fields.size() == 1)) {
      row += field;
      continue;
    }
    row += '"';
    for (const char c : field) {
      if (c == '"') row += '"';
      row += c;
    }
    row += '"';
  }
  return row += '\n';
}

}  // namespace moleblend
