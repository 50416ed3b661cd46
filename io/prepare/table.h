#pragma once
// Rows of a CSV (RFC 4180) or tab-separated file with a header row, streaming.

#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/prepare/line_reader.h"
#include "io/prepare/record.h"

namespace moleblend {

struct TableRow {
  std::vector<std::string> fields;
  std::string text;        // the row as it stands
  std::uint64_t line = 0;  // its first line, from 1
  std::string refused;     // not empty: why it is no row
};

class Table {
 public:
  /// `format` tsv and tab: tab-separated; csv: whichever of comma, tab and semicolon the header row has most of.
  /// Throws Error if there is no header row.
  Table(const std::filesystem::path& path, const std::string& format);
  const std::vector<std::string>& columns() const { return columns_; }
  /// The column's place. Throws UsageError with the list of columns if there is none; `flag` is the flag that named it.
  std::size_t column(const std::string& name, const char* flag) const;
  /// The SMILES column: by name, or if that is empty the one called smiles in any case.
  std::size_t smiles_column(const std::string& name) const;

  /// The next row, blank lines left out. False at the end.
  bool next(TableRow& row);
  std::uint64_t bytes_read() const { return lines_.bytes_read(); }

 private:
  struct Line {
    std::string text;
    std::uint64_t number = 0;
    std::string refused;
  };
  bool next_line(Line& line);
  std::string column_list() const;

  std::string path_;
  LineReader lines_;
  std::deque<Line> waiting_;  // lines looked at and given back
  bool damage_told_ = false;
  char separator_ = ',';
  std::vector<std::string> columns_;
};

/// The columns that a record is made of.
class TableColumns {
 public:
  TableColumns(const Table& table, const ColumnNames& names);
  /// SMILES as text, identifier, labels.
  void read(const TableRow& row, Record& record) const;
  bool has_identifier() const { return identifier_.has_value(); }

 private:
  std::size_t smiles_;
  std::optional<std::size_t> identifier_;
  std::vector<std::size_t> labels_;
};

}  // namespace moleblend
