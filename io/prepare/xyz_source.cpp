#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "io/prepare/block_source.h"
#include "io/prepare/sources.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

// QM9's files (doi:10.6084/m9.figshare.978904, readme.txt): the comment holds "gdb", a number and these properties; each atom has a
// charge in a fifth column; lines with frequencies, SMILES (GDB-17, relaxed) and InChI follow. Names as in DeepChem's qm9.csv.
constexpr std::array<std::string_view, 15> kQm9Properties = {"A",  "B",    "C",  "mu",   "alpha", "homo", "lumo", "gap",
                                                             "r2", "zpve", "u0", "u298", "h298",  "g298", "cv"};

/// The number on a line that holds nothing else.
std::optional<std::uint64_t> lone_count(std::string_view line) {
  line = trimmed(line);
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), count);
  if (error != std::errc() || end != line.data() + line.size()) return std::nullopt;
  return count;
}

class XyzSource : public BlockSource {
 public:
  XyzSource(const std::filesystem::path& path, const ColumnNames& columns) : BlockSource(path) {
    for (const std::string& label : columns.labels) {
      const auto found = std::find(kQm9Properties.begin(), kQm9Properties.end(), label);
      if (found == kQm9Properties.end())
        throw UsageError(
            "{}: there is no label {} (--label-columns); XYZ files of QM9 have A, B, C, mu, alpha, homo, lumo, gap, "
            "r2, "
            "zpve, u0, u298, h298, g298, cv, other XYZ files none",
            path.string(), label);
      labels_.push_back(static_cast<std::size_t>(found - kQm9Properties.begin()));
    }
    if (labels_.empty()) return;
    LineReader head(path);
    std::string line;
    head.next(line);
    if (!head.next(line) || !is_qm9(line))
      throw UsageError(
          "{} has no labels (--label-columns): it is not one of QM9's XYZ files; give the labels in a table",
          path.string());
  }

  bool next(Record& record) override {
    begin(record, "xyz");
    do {
      if (!read_line()) {
        if (!damaged(record)) return false;
        ++records_;
        return true;
      }
    } while (trimmed(line_).empty());
    const auto atoms = lone_count(line_);
    add_line(record);
    if (!atoms)
      refuse(record, "a record of an XYZ file begins with a line that holds the number of atoms");
    else if (!read_atoms(record, *atoms) && !damaged(record))
      refuse(record, "the file ends in the middle of this record");
    if (!record.refused.empty()) skip_to_count(record);
    ++records_;
    return true;
  }

 private:
  static bool is_qm9(std::string_view comment) {
    if (take_word(comment) != "gdb") return false;
    int words = 0;
    while (!take_word(comment).empty()) ++words;
    return words == 1 + static_cast<int>(kQm9Properties.size());
  }

  /// False if the file ends inside the record.
  bool read_atoms(Record& record, std::uint64_t atoms) {
    if (!read_line()) return false;
    const bool qm9 = is_qm9(line_);
    if (qm9) {
      read_properties(record);
      line_ = record.identifier;
    }
    record.identifier = trimmed(line_);
    add_line(record);
    for (std::uint64_t i = 0; i < atoms && record.refused.empty(); ++i) {
      if (!read_line()) return false;
      if (qm9) plain_numbers(line_);
      std::string_view rest = line_;
      for (int word = 0; word < 4; ++word)
        if (take_word(rest).empty()) {
          refuse(record, fmt::format("atom {} of {} has no element and three coordinates on its line", i + 1, atoms));
          // The line may be the next record's count.
          put_back();
          return true;
        }
      add_line(record);
    }
    if (!qm9 || !record.refused.empty()) {
      record.labels.resize(labels_.size(), parse_label("", record.odd_labels));
      return true;
    }
    if (!read_line() || !read_line()) return false;  // frequencies, SMILES
    std::string_view words = line_;
    take_word(words);
    record.smiles = take_word(words);
    return read_line();  // InChI
  }

  void read_properties(Record& record) {
    std::string_view words = line_;
    take_word(words);
    record.identifier = "gdb_";
    record.identifier += take_word(words);
    std::array<double, kQm9Properties.size()> values{};
    for (double& value : values) {
      std::string number(take_word(words));
      plain_numbers(number);
      value = parse_label(number, record.odd_labels);
    }
    for (const std::size_t label : labels_) record.labels.push_back(values[label]);
  }

  /// QM9 writes some numbers as 1.5*^-6 (Mathematica).
  static void plain_numbers(std::string& text) {
    for (std::size_t at = text.find("*^"); at != std::string::npos; at = text.find("*^", at)) {
      text[at] = 'e';
      text.erase(at + 1, 1);
    }
  }

  /// After a record that is none: on to the next line that can begin one.
  void skip_to_count(Record& record) {
    record.labels.resize(labels_.size(), parse_label("", record.odd_labels));
    while (read_line())
      if (lone_count(line_)) {
        put_back();
        return;
      }
  }

  std::vector<std::size_t> labels_;  // places in kQm9Properties
};

}  // namespace

std::unique_ptr<RecordSource> open_xyz(const std::filesystem::path& path, const ColumnNames& columns) {
  return std::make_unique<XyzSource>(path, columns);
}

}  // namespace moleblend
