// Parts that somebody else has chosen: from a file, or from a label column.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_map>

#include "engine/property/parts.h"
#include "io/support/csv.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

/// Reads rows of a file of parts; messages name file and line.
class PartsFile {
 public:
  explicit PartsFile(const std::filesystem::path& file)
      : name_(file.string()), reader_(TextSource(file), csv_delimiter(name_)) {
    std::vector<std::string> header;
    reader_.next(header);
    part_ = column(header, "part");
    index_ = column(header, "index");
    identifier_ = column(header, "identifier");
    if (!part_ || (!index_ && !identifier_))
      throw Error("{} gives no parts: its first line must name the columns part, and identifier or index; mend it",
                  name_);
  }

  bool next() {
    if (!reader_.next(row_)) return false;
    for (const auto& wanted : {part_, index_ ? index_ : identifier_}) {
      if (*wanted >= row_.size()) throw at_line("the row has too few columns");
    }
    return true;
  }

  bool by_index() const { return index_.has_value(); }
  const std::string& identifier() const { return row_[*identifier_]; }
  std::uint64_t index() const {
    const std::string& text = row_[*index_];
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      throw at_line(fmt::format("the index \"{}\" is no whole number from 0", text));
    return value;
  }
  Part part() const {
    const std::string& text = row_[*part_];
    if (text == "train") return Part::train;
    if (text == "valid") return Part::valid;
    if (text == "test") return Part::test;
    throw at_line(fmt::format("there is no part \"{}\", only train, valid and test", text));
  }
  std::uint64_t line() const { return reader_.line(); }
  Error at_line(const std::string& what) const { return at_line(what, line()); }
  Error at_line(const std::string& what, std::uint64_t line) const {
    return Error("{}, line {}: {}; mend the file", name_, line, what);
  }

 private:
  static std::optional<std::size_t> column(const std::vector<std::string>& header, std::string_view name) {
    const auto found = std::find(header.begin(), header.end(), name);
    if (found == header.end()) return std::nullopt;
    return static_cast<std::size_t>(found - header.begin());
  }

  std::string name_;
  CsvReader reader_;
  std::optional<std::size_t> part_, index_, identifier_;
  std::vector<std::string> row_;
};

std::vector<Part> by_index(PartsFile& file, std::uint64_t size) {
  std::vector<Part> part(size, Part::none);
  while (file.next()) {
    const std::uint64_t index = file.index();
    if (index >= size) throw file.at_line(fmt::format("there is no molecule {} in a data set of {}", index, size));
    if (part[index] != Part::none) throw file.at_line(fmt::format("molecule {} has a part already", index));
    part[index] = file.part();
  }
  return part;
}

std::vector<Part> by_identifier(PartsFile& file, const Dataset& data) {
  struct Wanted {
    Part part;
    std::uint64_t line;
    bool found = false;
  };
  std::unordered_map<std::string, Wanted> wanted;
  while (file.next()) {
    if (!wanted.emplace(file.identifier(), Wanted{file.part(), file.line()}).second)
      throw file.at_line(fmt::format("{} has a part already", file.identifier()));
  }
  std::vector<Part> part(data.size(), Part::none);
  Molecule molecule;
  for (std::uint64_t k = 0; k < data.size(); ++k) {
    data.read(k, molecule);
    const auto entry = wanted.find(molecule.identifier);
    if (entry == wanted.end()) continue;
    if (entry->second.found)
      throw file.at_line(
          fmt::format("several molecules of the data set are called {}, so name them by index", molecule.identifier),
          entry->second.line);
    entry->second.found = true;
    part[k] = entry->second.part;
  }
  // The first line that is wrong, whatever the map's order.
  const std::pair<const std::string, Wanted>* missing = nullptr;
  for (const auto& entry : wanted) {
    if (!entry.second.found && (!missing || entry.second.line < missing->second.line)) missing = &entry;
  }
  if (missing) throw file.at_line(fmt::format("the data set has no molecule {}", missing->first), missing->second.line);
  return part;
}

}  // namespace

Parts parts_from_file(const Dataset& data, const std::filesystem::path& path) {
  PartsFile file(path);
  return parts_of(file.by_index() ? by_index(file, data.size()) : by_identifier(file, data),
                  fmt::format("given by {}", path.filename().string()));
}

Parts parts_from_label(const Dataset& data, std::string_view column) {
  const std::vector<std::string>& names = data.info().labels;
  const auto found = std::find(names.begin(), names.end(), column);
  if (found == names.end())
    throw UsageError("the data set has no label column {} to split by; it has: {}", column,
                     names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")));
  const auto place = static_cast<std::size_t>(found - names.begin());
  std::vector<Part> part(data.size(), Part::none);
  MoleculeView molecule;
  for (std::uint64_t k = 0; k < data.size(); ++k) {
    data.view(k, molecule);
    double label = 0;
    std::memcpy(&label, molecule.labels + place * sizeof label, sizeof label);
    if (std::isnan(label)) continue;
    if (label != 0 && label != 1 && label != 2)
      throw Error(
          "molecule {} has {} in the column {}, which is no part: 0 is training, 1 validation, 2 test; prepare the "
          "data set with those",
          k, label, column);
    part[k] = static_cast<Part>(label);
  }
  return parts_of(part, fmt::format("label column {}", column));
}

}  // namespace moleblend
