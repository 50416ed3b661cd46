#include <algorithm>
#include <set>

#include "io/prepare/block_source.h"
#include "io/prepare/sources.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

// Where a data field that is asked for must show up first: a name that none of so many records has is taken for a mistake.
constexpr int kRecordsSearched = 10'000;

class SdfSource : public BlockSource {
 public:
  SdfSource(const std::filesystem::path& path, const ColumnNames& columns) : BlockSource(path), columns_(columns) {}

  bool next(Record& record) override {
    begin(record, "sdf");
    values_.assign(columns_.labels.size(), std::string());
    std::string identifier;
    bool anything = false, molecule_ended = false, closed = false;
    std::size_t line_of_record = 0;
    std::string* value = nullptr;  // of the data field that is being read
    while (!closed && read_line()) {
      closed = line_.starts_with("$$$$");
      anything = anything || closed || !trimmed(line_).empty();
      if (!molecule_ended) {
        if (line_of_record++ == 0) record.identifier = trimmed(line_);
        add_line(record);
        molecule_ended = line_.starts_with("M  END");
        continue;
      }
      // Data fields are not molecule: they stay out of the text, so that nothing in them can disturb the reader.
      if (line_.starts_with('>')) {
        value = wanted(field_name(line_), identifier);
      } else if (value != nullptr) {
        *value = trimmed(line_);  // the first line of a value; labels and names have no more
        value = nullptr;
      }
    }
    if (!anything) {  // blank lines behind the last record
      if (!damaged(record)) return false;
      ++records_;
      return true;
    }
    if (!closed && !damaged(record) && !molecule_ended && records_ > 0)
      refuse(record, "the file ends in the middle of this record");
    if (molecule_ended) record.text += "$$$$\n";
    if (!identifier.empty()) record.identifier = identifier;
    for (const std::string& text : values_) record.labels.push_back(parse_label(text, record.odd_labels));
    ++records_;
    return true;
  }

  /// Throws if a column is in none of the first records.
  static void check_columns(const std::filesystem::path& path, const ColumnNames& columns) {
    SdfSource source(path, {});
    Record record;
    for (int i = 0; i < kRecordsSearched && source.next(record); ++i) {
    }
    const auto check = [&](const std::string& name, const char* flag) {
      if (source.seen_.contains(name)) return;
      std::string list;
      for (const std::string& field : source.seen_) list += (list.empty() ? "" : ", ") + field;
      throw UsageError("{}: none of the first {} records has a data field {} ({}); the fields are: {}", path.string(),
                       source.records_, name, flag, list.empty() ? "none" : list);
    };
    for (const std::string& label : columns.labels) check(label, "--label-columns");
    if (!columns.identifier.empty()) check(columns.identifier, "--id-column");
  }

 private:
  /// `>  25 <NAME> (7)` gives NAME.
  static std::string_view field_name(std::string_view line) {
    const std::size_t open = line.find('<'), close = line.rfind('>');
    return open == std::string_view::npos || close == std::string_view::npos || close <= open
               ? std::string_view()
               : line.substr(open + 1, close - open - 1);
  }

  std::string* wanted(std::string_view name, std::string& identifier) {
    if (columns_.labels.empty() && columns_.identifier.empty()) seen_.emplace(name);
    if (!columns_.identifier.empty() && name == columns_.identifier) return &identifier;
    const auto found = std::find(columns_.labels.begin(), columns_.labels.end(), name);
    return found == columns_.labels.end() ? nullptr
                                          : &values_[static_cast<std::size_t>(found - columns_.labels.begin())];
  }

  ColumnNames columns_;
  std::vector<std::string> values_;  // [label columns]
  std::set<std::string, std::less<>> seen_;
};

}  // namespace

std::unique_ptr<RecordSource> open_sdf(const std::filesystem::path& path, const ColumnNames& columns) {
  if (!columns.labels.empty() || !columns.identifier.empty()) SdfSource::check_columns(path, columns);
  return std::make_unique<SdfSource>(path, columns);
}

}  // namespace moleblend
