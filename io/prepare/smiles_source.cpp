#include <utility>

#include "io/prepare/line_reader.h"
#include "io/prepare/sources.h"
#include "io/prepare/text.h"

namespace moleblend {
namespace {

class SmilesSource : public RecordSource {
 public:
  explicit SmilesSource(const std::filesystem::path& path) : lines_(path) {}

  bool next(Record& record) override {
    record.clear();
    while (lines_.next(line_)) {
      const std::string_view line = trimmed(line_);
      if (line.empty() || line.front() == '#') continue;
      const bool first = !std::exchange(begun_, true);
      if (first && is_header(line)) continue;
      record.number = records_++;
      record.line = lines_.line_number();
      record.format = "smi";
      if (lines_.too_long())
        record.refused = "the line is longer than 16 MB";
      else if (is_binary(line))
        record.refused = "the line holds bytes that are not text";
      set_smiles(record, line);
      return true;
    }
    return std::exchange(damage_told_, true) ? false : damaged_end(record);
  }

  std::uint64_t bytes_read() const override { return lines_.bytes_read(); }

 private:
  // A column title that says so; as a SMILES the word is impossible.
  static bool is_header(std::string_view line) {
    for (std::string_view word = take_word(line); !word.empty(); word = take_word(line))
      if (lower_case(word).find("smiles") != std::string::npos) return true;
    return false;
  }

  bool damaged_end(Record& record) {
    if (lines_.failure().empty()) return false;
    record.number = records_++;
    record.line = lines_.line_number() + 1;
    record.format = "smi";
    record.refused = lines_.failure();
    record.text = line_;
    return true;
  }

  LineReader lines_;
  std::string line_;
  std::uint64_t records_ = 0;
  bool begun_ = false, damage_told_ = false;
};

}  // namespace

void set_smiles(Record& record, std::string_view line) {
  record.text = take_word(line);
  line = trimmed(line);
  if (line.starts_with('|')) {
    const std::size_t close = line.find('|', 1);
    line = close == std::string_view::npos ? std::string_view() : trimmed(line.substr(close + 1));
  }
  record.identifier = line;
}

std::unique_ptr<RecordSource> open_smiles(const std::filesystem::path& path) {
  return std::make_unique<SmilesSource>(path);
}

}  // namespace moleblend
