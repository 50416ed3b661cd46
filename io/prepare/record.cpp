#include "io/prepare/record.h"

#include <charconv>
#include <limits>
#include <map>

#include "io/prepare/sources.h"
#include "io/prepare/text.h"
#include "io/support/error.h"

namespace moleblend {

void Record::clear() {
  number = line = 0;
  format.clear();
  text.clear();
  identifier.clear();
  smiles.clear();
  labels.clear();
  odd_labels = 0;
  refused.clear();
  skipped = false;
  position = 0;
}

Splitter splitter_of(const std::string& format) {
  static const std::map<std::string, Splitter> splitters = {
      {"smi", Splitter::smiles},   {"smiles", Splitter::smiles}, {"ism", Splitter::smiles}, {"can", Splitter::smiles},
      {"cxsmi", Splitter::smiles}, {"csv", Splitter::table},     {"tsv", Splitter::table},  {"tab", Splitter::table},
      {"sdf", Splitter::sdf},      {"sd", Splitter::sdf},        {"mol", Splitter::sdf},    {"mdl", Splitter::sdf},
      {"mol2", Splitter::mol2},    {"ml2", Splitter::mol2},      {"xyz", Splitter::xyz},    {"pdb", Splitter::pdb},
      {"ent", Splitter::pdb}};
  const auto found = splitters.find(format);
  return found == splitters.end() ? Splitter::whole_file : found->second;
}

std::string format_of(const std::filesystem::path& path) {
  std::filesystem::path name = path.filename();
  if (lower_case(name.extension().string()) == ".gz") name = name.stem();
  std::string ending = lower_case(name.extension().string());
  if (!ending.empty()) ending.erase(0, 1);
  return ending;
}

std::unique_ptr<RecordSource> open_records(const std::filesystem::path& path, const std::string& format,
                                           const ColumnNames& columns) {
  const Splitter splitter = splitter_of(format);
  if (!columns.labels.empty() && splitter != Splitter::table && splitter != Splitter::sdf && splitter != Splitter::xyz)
    throw UsageError(
        "{} has no label columns: labels come from tables (CSV, TSV), from data fields of an SDF and from QM9's XYZ "
        "files",
        path.string());
  switch (splitter) {
    case Splitter::smiles:
      return open_smiles(path);
    case Splitter::table:
      return open_table(path, format, columns);
    case Splitter::sdf:
      return open_sdf(path, columns);
    case Splitter::mol2:
      return open_mol2(path);
    case Splitter::xyz:
      return open_xyz(path, columns);
    case Splitter::pdb:
      return open_pdb(path);
    case Splitter::whole_file:
      break;
  }
  throw Error("{}: files of the format {} can't be cut into records; give another --format", path.string(), format);
}

double parse_label(std::string_view text, std::uint32_t& odd) {
  constexpr double missing = std::numeric_limits<double>::quiet_NaN();
  text = trimmed(text);
  if (text.empty()) return missing;
  std::string_view digits = text;
  if (digits.front() == '+') digits.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  // An infinite label would make every loss infinite: it counts as text.
  if (error == std::errc() && end == digits.data() + digits.size() && value - value == 0) return value;
  const std::string word = lower_case(text);
  if (word == "true") return 1;
  if (word == "false") return 0;
  if (word != "nan" && word != "na" && word != "n/a" && word != "none" && word != "null" && word != "?") ++odd;
  return missing;
}

std::int64_t heavy_atoms_in_smiles(std::string_view smiles) {
  std::int64_t atoms = 0;
  for (std::size_t i = 0; i < smiles.size(); ++i) {
    const char c = smiles[i];
    if (c == '[') {
      std::size_t j = i + 1;
      while (j < smiles.size() && std::isdigit(static_cast<unsigned char>(smiles[j]))) ++j;
      const std::size_t close = smiles.find(']', j);
      if (close == std::string_view::npos || close == j) return -1;
      // [H], [2H], [H+] are hydrogen; [He], [Hg], [Ho], [Hf], [Hs] are not.
      const bool hydrogen = smiles[j] == 'H' && !std::islower(static_cast<unsigned char>(smiles[j + 1]));
      if (!hydrogen) ++atoms;
      i = close;
    } else if (c == 'C' || c == 'B') {
      ++atoms;
      if (i + 1 < smiles.size() && smiles[i + 1] == (c == 'C' ? 'l' : 'r')) ++i;
    } else if (std::string_view("NOPSFIbcnops*").find(c) != std::string_view::npos) {
      ++atoms;
    }
  }
  return atoms;
}

}  // namespace moleblend
