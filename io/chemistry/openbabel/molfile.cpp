#include "io/chemistry/openbabel/molfile.h"

#include <algorithm>
#include <charconv>

namespace moleblend::chemistry {
namespace {

using Pairs = std::vector<std::pair<unsigned, unsigned>>;

std::string_view next_line(std::string_view& text) {
  const auto end = std::min(text.find('\n'), text.size());
  const auto line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

/// The number at the start of `text` after blanks; 0 if there is none.
unsigned number(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  unsigned value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// A field of three columns, as the fixed-width V2000 lines have them.
unsigned field(std::string_view line, std::size_t index) {
  return 3 * index < line.size() ? number(line.substr(3 * index, 3)) : 0;
}

Pairs from_v2000(std::string_view counts, std::string_view text) {
  Pairs bonds;
  for (unsigned i = 0; i < field(counts, 0) && !text.empty(); ++i) next_line(text);
  for (unsigned i = 0; i < field(counts, 1) && !text.empty(); ++i) {
    const auto line = next_line(text);
    if (field(line, 2) == 2 && field(line, 3) == 3) bonds.emplace_back(field(line, 0), field(line, 1));
  }
  return bonds;
}

/// "M  V30 index type atom1 atom2 … CFG=2" between BEGIN BOND and END BOND.
Pairs from_v3000(std::string_view text) {
  constexpr std::string_view kPrefix = "M  V30 ";
  Pairs bonds;
  bool in_bonds = false;
  while (!text.empty()) {
    auto line = next_line(text);
    if (!line.starts_with(kPrefix)) continue;
    line.remove_prefix(kPrefix.size());
    if (line.starts_with("BEGIN BOND")) in_bonds = true;
    if (line.starts_with("END BOND")) break;
    if (!in_bonds || line.find("CFG=2") == std::string_view::npos) continue;
    unsigned values[4] = {};  // index, type, atoms
    for (unsigned& value : values) {
      line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
      value = number(line);
      line.remove_prefix(std::min(line.find(' '), line.size()));
    }
    if (values[1] == 2) bonds.emplace_back(values[2], values[3]);
  }
  return bonds;
}

}  // namespace

bool is_molfile(std::string_view format) {
  return format == "sdf" || format == "mol" || format == "sd" || format == "mdl";
}

bool header_says_3d(std::string_view text) {
  next_line(text);
  const auto header = next_line(text);
  const auto blank = [&](std::size_t at) { return at >= header.size() || header[at] == ' ' || header[at] == '\r'; };
  for (auto at = header.find("3D"); at != header.npos; at = header.find("3D", at + 1)) {
    if (at > 0 && blank(at - 1) && blank(at + 2)) return true;
  }
  return false;
}

std::vector<std::pair<unsigned, unsigned>> either_double_bonds(std::string_view text) {
  for (int i = 0; i < 3; ++i) next_line(text);
  const auto counts = next_line(text);
  return counts.find("V3000") == std::string_view::npos ? from_v2000(counts, text) : from_v3000(text);
}

}  // namespace moleblend::chemistry
