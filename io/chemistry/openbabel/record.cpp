#include "io/chemistry/openbabel/record.h"

#include <fmt/format.h>
#include <openbabel/atom.h>
#include <openbabel/obconversion.h>
#include <openbabel/obiter.h>

#include <cmath>
#include <sstream>

#include "io/chemistry/openbabel/molfile.h"

namespace moleblend::chemistry {
namespace {

// PDB's columns end at 9,999.999 Å; larger numbers are overflowed columns, other units or garbage.
constexpr double kLargestCoordinate = 10000.0;

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

/// "SMILES |CXSMILES extension| name": the extension holds drawing data and is dropped; further tab-separated columns
/// too.
void split_smiles_line(std::string_view text, Record& record) {
  text = trimmed(text);
  const auto gap = text.find_first_of(" \t\r\n");
  record.smiles = text.substr(0, gap);
  if (gap == std::string_view::npos) return;
  auto rest = trimmed(text.substr(gap));
  if (rest.starts_with('|')) {
    const auto closing = rest.find('|', 1);
    rest = closing == std::string_view::npos ? std::string_view{} : trimmed(rest.substr(closing + 1));
  }
  record.name = trimmed(rest.substr(0, rest.find_first_of("\t\r\n")));
}

/// Open Babel takes "CC(C" for CC(C): a string cut short would become another molecule.
bool parentheses_match(std::string_view smiles) {
  int open = 0;
  for (const char c : smiles) {
    open += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (open < 0) return false;
  }
  return open == 0;
}

[[noreturn]] void reject_unreadable(std::string_view format) {
  const auto cause = cause_from_log();
  throw Rejected(cause.empty() ? fmt::format("Open Babel can't read it as {}", format)
                               : fmt::format("Open Babel can't read it as {}: {}", format, cause));
}

void read_text(std::string_view format, std::string text, OpenBabel::OBMol& mol) {
  const bool plain_lines = text.find('\r') == std::string::npos, empty = trimmed(text).empty();
  std::istringstream stream(std::move(text));
  OpenBabel::OBConversion conversion;
  // Given before the format, the stream is read as it is; otherwise through a filter for foreign line ends, byte by byte.
  if (plain_lines) conversion.SetInStream(&stream);
  if (!conversion.SetInFormat(std::string(format).c_str()))
    throw Rejected(fmt::format("Open Babel knows no format '{}'", format));
  if (!plain_lines) conversion.SetInStream(&stream);
  // Not through OBConversion::Read, which sets the locale each time: this program never leaves the classic one.
  if (conversion.GetInFormat()->ReadMolecule(&mol, &conversion)) return;
  if (empty) throw Rejected("the record is empty");
  reject_unreadable(format);
}

/// Throws Rejected for empty and huge molecules, queries and R groups, impossible coordinates.
void check_usable(OpenBabel::OBMol& mol, const ReadOptions& options) {
  if (mol.NumAtoms() == 0) throw Rejected("it has no atoms");
  std::uint32_t heavy = 0;
  FOR_ATOMS_OF_MOL(atom, mol) {
    if (atom->GetAtomicNum() == 0) throw Rejected("it has a query atom or an R group ('*'), which is no element");
    heavy += atom->GetAtomicNum() > 1;
    for (const double x : {atom->GetX(), atom->GetY(), atom->GetZ()}) {
      if (!(std::abs(x) <= kLargestCoordinate)) {
        throw Rejected(fmt::format("atom {} has the coordinate {}, which can't be ångström", atom->GetIdx(), x));
      }
    }
  }
  const auto counted = options.keep_hydrogens ? mol.NumAtoms() : heavy;
  if (counted > options.max_atoms) {
    throw Rejected(fmt::format("it has {} {}; the limit is {}", counted,
                               options.keep_hydrogens ? "atoms" : "heavy atoms", options.max_atoms));
  }
}

}  // namespace

void parse_record(std::string_view format, std::string_view text, const ReadOptions& options, Record& record) {
  clear_log();
  std::string input(text);
  if (format == "smi") {
    split_smiles_line(text, record);
    if (record.smiles.empty()) throw Rejected("the SMILES is empty");
    if (record.smiles.find('>') != std::string::npos) throw Rejected("it is a reaction, not a molecule");
    if (!parentheses_match(record.smiles))
      throw Rejected("its parentheses don't match: the SMILES is damaged or cut short");
    input = record.smiles;
  }
  record.mol.types_atoms = is_molfile(format);
  read_text(format, std::move(input), record.mol);
  if (is_molfile(format) && header_says_3d(text)) record.mol.SetDimension(3);
  finish_record(format, options, record);
  if (is_molfile(format)) record.either_bonds = either_double_bonds(text);
}

void finish_record(std::string_view format, const ReadOptions& options, Record& record) {
  check_log();
  check_usable(record.mol, options);
  if (format != "smi" || record.smiles.empty()) record.name = trimmed(record.mol.GetTitle());
}

bool has_positions(OpenBabel::OBMol& mol) {
  if (mol.GetDimension() < 2) return false;
  if (mol.NumAtoms() == 1) return mol.GetDimension() == 3;
  // Open Babel takes V3000 files without a dimension in their header for drawings, whatever z is.
  bool raised = false, spread = false;
  FOR_ATOMS_OF_MOL(atom, mol) {
    raised |= atom->GetZ() != 0;
    spread |= atom->GetX() != 0 || atom->GetY() != 0;
  }
  return raised || (spread && mol.GetDimension() == 3);
}

}  // namespace moleblend::chemistry
