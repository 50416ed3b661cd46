#pragma once
// What the splitters of many-line records have in common: lines gathered into a text of bounded size.

#include <string>
#include <utility>

#include "io/prepare/line_reader.h"
#include "io/prepare/record.h"
#include "io/prepare/text.h"

namespace moleblend {

class BlockSource : public RecordSource {
 public:
  explicit BlockSource(const std::filesystem::path& path) : lines_(path) {}
  std::uint64_t bytes_read() const override { return lines_.bytes_read(); }

 protected:
  /// The next line into line_. False at the end.
  bool read_line() {
    if (has_line_) {
      has_line_ = false;
      return true;
    }
    return lines_.next(line_);
  }
  /// Gives line_ back: read_line() will deliver it again.
  void put_back() { has_line_ = true; }

  void begin(Record& record, const char* format) {
    record.clear();
    record.format = format;
    record.number = records_;
    started_ = false;
  }
  /// Adds line_ to the record's text.
  void add_line(Record& record) {
    if (!std::exchange(started_, true)) record.line = lines_.line_number();
    if (lines_.too_long() || record.text.size() + line_.size() >= kMaxRecordBytes)
      refuse(record, "the record is larger than 16 MB");
    else if (is_binary(line_))
      refuse(record, "the record holds bytes that are not text");
    if (record.refused.empty())
      (record.text += line_) += '\n';
    else if (record.text.empty())
      record.text = line_.substr(0, 256);
  }
  static void refuse(Record& record, std::string reason) {
    if (record.refused.empty()) record.refused = std::move(reason);
  }
  /// A record that is cut by the damage of its file; true once, if there is damage that no record has told yet.
  bool damaged(Record& record) {
    if (lines_.failure().empty() || std::exchange(damage_told_, true)) return false;
    if (record.line == 0) record.line = lines_.line_number();
    record.refused.clear();
    refuse(record, lines_.failure());
    return true;
  }

  LineReader lines_;
  std::string line_;
  std::uint64_t records_ = 0;

 private:
  bool has_line_ = false, started_ = false, damage_told_ = false;
};

}  // namespace moleblend
