#include "io/prepare/table.h"

#include <algorithm>
#include <limits>

#include "io/prepare/sources.h"
#include "io/prepare/text.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

// A quoted field that goes on for longer is taken for a stray quotation mark: without a bound it would swallow the file's rest.
constexpr std::size_t kMaxQuotedLines = 200;

/// Cuts a row into fields. False if it ends inside a quoted field.
bool split_fields(std::string_view row, char separator, std::vector<std::string>& fields) {
  fields.clear();
  std::size_t at = 0;
  while (true) {
    std::string& field = fields.emplace_back();
    if (at < row.size() && row[at] == '"') {
      ++at;
      while (true) {
        const std::size_t quote = row.find('"', at);
        if (quote == std::string_view::npos) return false;
        field.append(row.substr(at, quote - at));
        at = quote + 1;
        if (at == row.size() || row[at] != '"') break;
        field += '"';  // two quotation marks stand for one
        ++at;
      }
    }
    const std::size_t end = std::min(row.find(separator, at), row.size());
    field.append(row.substr(at, end - at));
    if (end == row.size()) return true;
    at = end + 1;
  }
}

}  // namespace

Table::Table(const std::filesystem::path& path, const std::string& format) : path_(path.string()), lines_(path) {
  Line header;
  do {
    if (!next_line(header) || !header.refused.empty())
      throw Error("{}: no header row{}; a table begins with the names of its columns", path_,
                  header.refused.empty() ? "" : " (" + header.refused + ")");
  } while (trimmed(header.text).empty());
  if (format == "csv") {
    const auto count = [&](char c) { return std::count(header.text.begin(), header.text.end(), c); };
    if (count('\t') > count(separator_)) separator_ = '\t';
    if (count(';') > count(separator_)) separator_ = ';';
  } else {
    separator_ = '\t';
  }
  // A column name may hold a line break in quotation marks; put the line back and read it as any row.
  waiting_.push_front(std::move(header));
  TableRow row;
  if (!next(row) || !row.refused.empty())
    throw Error("{}: the header row can't be read: {}; a table begins with the names of its columns", path_,
                row.refused);
  for (std::string& field : row.fields) columns_.emplace_back(trimmed(field));
}

bool Table::next_line(Line& line) {
  line.refused.clear();
  if (!waiting_.empty()) {
    line = std::move(waiting_.front());
    waiting_.pop_front();
    return true;
  }
  const bool read = lines_.next(line.text);
  line.number = lines_.line_number();
  if (!read) {
    if (lines_.failure().empty() || damage_told_) return false;
    damage_told_ = true;
    line.refused = lines_.failure();
  } else if (lines_.too_long()) {
    line.refused = "the row is longer than 16 MB";
  } else if (is_binary(line.text)) {
    line.refused = "the row holds bytes that are not text";
  }
  return true;
}

bool Table::next(TableRow& row) {
  Line line;
  do {
    if (!next_line(line)) return false;
  } while (line.refused.empty() && trimmed(line.text).empty());
  row.line = line.number;
  row.text = std::move(line.text);
  row.refused = std::move(line.refused);
  if (!row.refused.empty()) return true;

  if (!split_fields(row.text, separator_, row.fields)) {
    // A line break inside quotation marks: the row goes on. If the closing mark never comes, only this line is lost.
    std::vector<Line> taken;
    std::string whole = row.text;
    bool closed = false;
    while (!closed && taken.size() < kMaxQuotedLines && whole.size() < kMaxRecordBytes) {
      Line more;
      if (!next_line(more)) break;
      const bool usable = more.refused.empty();
      whole += '\n' + more.text;
      taken.push_back(std::move(more));
      if (!usable) break;
      closed = split_fields(whole, separator_, row.fields);
    }
    if (!closed) {
      for (auto back = taken.rbegin(); back != taken.rend(); ++back) waiting_.push_front(std::move(*back));
      row.refused = "a quotation mark is opened and not closed";
      return true;
    }
    row.text = std::move(whole);
  }
  if (columns_.empty()) return true;  // the header itself
  while (row.fields.size() > columns_.size() && trimmed(row.fields.back()).empty()) row.fields.pop_back();
  if (row.fields.size() != columns_.size())
    row.refused = fmt::format("the row has {} fields, the header {}", row.fields.size(), columns_.size());
  return true;
}

std::string Table::column_list() const {
  constexpr std::size_t shown = 40;
  std::string list;
  for (std::size_t i = 0; i < std::min(columns_.size(), shown); ++i) list += (i ? ", " : "") + columns_[i];
  if (columns_.size() > shown) list += fmt::format(" and {} more", columns_.size() - shown);
  return list;
}

std::size_t Table::column(const std::string& name, const char* flag) const {
  const auto found = std::find(columns_.begin(), columns_.end(), name);
  if (found == columns_.end())
    throw UsageError("{}: there is no column {} ({}); the columns are: {}", path_, name, flag, column_list());
  return static_cast<std::size_t>(found - columns_.begin());
}

std::size_t Table::smiles_column(const std::string& name) const {
  if (!name.empty()) return column(name, "--smiles-column");
  for (std::size_t i = 0; i < columns_.size(); ++i)
    if (lower_case(columns_[i]) == "smiles") return i;
  throw UsageError(
      "{}: no column is called smiles; name the one to read with --smiles-column, or read a table without a header row "
      "with --format smi; the columns are: {}",
      path_, column_list());
}

TableColumns::TableColumns(const Table& table, const ColumnNames& names) : smiles_(table.smiles_column(names.smiles)) {
  if (!names.identifier.empty()) identifier_ = table.column(names.identifier, "--id-column");
  for (const std::string& label : names.labels) labels_.push_back(table.column(label, "--label-columns"));
}

void TableColumns::read(const TableRow& row, Record& record) const {
  record.format = "smi";
  record.line = row.line;
  if (!row.refused.empty()) {
    record.refused = row.refused;
    record.text = row.text;
    return;
  }
  set_smiles(record, row.fields[smiles_]);
  if (identifier_) record.identifier = trimmed(row.fields[*identifier_]);
  for (const std::size_t column : labels_) record.labels.push_back(parse_label(row.fields[column], record.odd_labels));
  if (record.text.empty()) {
    record.refused = "the SMILES is empty";
    record.text = row.text;
  }
}

namespace {
class TableSource : public RecordSource {
 public:
  TableSource(const std::filesystem::path& path, const std::string& format, const ColumnNames& names)
      : table_(path, format), columns_(table_, names) {}

  bool next(Record& record) override {
    record.clear();
    if (!table_.next(row_)) return false;
    columns_.read(row_, record);
    record.number = records_++;
    return true;
  }
  std::uint64_t bytes_read() const override { return table_.bytes_read(); }

 private:
  Table table_;
  TableColumns columns_;
  TableRow row_;
  std::uint64_t records_ = 0;
};

/// SDF record i belongs to row i.
class PairedSource : public RecordSource {
 public:
  PairedSource(const std::filesystem::path& table, const std::filesystem::path& sdf, const ColumnNames& names)
      : table_(table, format_of(table)), columns_(table_, names), sdf_(open_sdf(sdf, {})) {}

  bool next(Record& record) override {
    record.clear();
    const bool has_geometry = !sdf_ended_ && sdf_->next(geometry_);
    sdf_ended_ = !has_geometry;
    const bool has_row = !table_ended_ && table_.next(row_);
    table_ended_ = !has_row;
    if (!has_row && !has_geometry) return false;
    record.number = records_++;
    if (!has_row) {
      record.line = geometry_.line;
      record.format = geometry_.format;
      record.identifier = geometry_.identifier;
      record.text = std::move(geometry_.text);
      record.refused = "the SDF has more records than the table has rows";
      ++geometries_;
      return true;
    }
    columns_.read(row_, record);
    // A row that can't be read stays refused; one whose SMILES alone is missing has its graph from the SDF.
    if (!has_geometry || !row_.refused.empty()) return true;
    record.smiles = record.refused.empty() ? record.text : std::string();
    record.refused = geometry_.refused;
    record.format = geometry_.format;
    record.text = std::move(geometry_.text);
    ++geometries_;
    if (record.identifier.empty())
      record.identifier = geometry_.identifier;
    else if (columns_.has_identifier() && !geometry_.identifier.ends_with(record.identifier) && other_names_++ == 0)
      first_other_name_ =
          fmt::format("row {}: {} in the table, {} in the SDF", record.number, record.identifier, geometry_.identifier);
    return true;
  }
  std::uint64_t bytes_read() const override { return table_.bytes_read() + sdf_->bytes_read(); }
  std::string remark() const override {
    std::string text;
    if (geometries_ < records_)
      text = fmt::format("{} of {} rows have no record in the SDF and were read from their SMILES",
                         records_ - geometries_, records_);
    if (other_names_ > 0)
      text += fmt::format("{}{} rows have another name than their SDF record (first {})", text.empty() ? "" : "; ",
                          other_names_, first_other_name_);
    return text;
  }

 private:
  Table table_;
  TableColumns columns_;
  std::unique_ptr<RecordSource> sdf_;
  TableRow row_;
  Record geometry_;
  std::uint64_t records_ = 0, geometries_ = 0, other_names_ = 0;
  std::string first_other_name_;
  bool sdf_ended_ = false, table_ended_ = false;
};
}  // namespace

std::unique_ptr<RecordSource> open_table(const std::filesystem::path& path, const std::string& format,
                                         const ColumnNames& columns) {
  return std::make_unique<TableSource>(path, format, columns);
}

std::unique_ptr<RecordSource> open_paired_records(const std::filesystem::path& table, const std::filesystem::path& sdf,
                                                  const ColumnNames& columns) {
  return std::make_unique<PairedSource>(table, sdf, columns);
}

}  // namespace moleblend
