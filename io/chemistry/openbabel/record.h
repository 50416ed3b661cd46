#pragma once
// Text of one record → Open Babel's molecule, with a reason a chemist understands where that fails.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/chemistry/chemistry.h"
#include "io/chemistry/openbabel/molfile_molecule.h"

namespace moleblend::chemistry {

struct Record {
  MolfileMolecule mol;
  std::string name;    // empty if there is none
  std::string smiles;  // as given; empty for other formats
  std::vector<std::pair<unsigned, unsigned>>
      either_bonds;  // of a mol file: double bonds of unknown geometry, atoms from 1
};

/// Sends Open Babel's log to memory instead of standard error. Once a process, before the first call into Open Babel.
void keep_log_in_memory();
void clear_log();
/// Rejects the molecule just read if the log holds a message that means its bonds are nonsense.
void check_log();
/// The cause of the last failure in one line, from Open Babel's log; empty if it gave none.
std::string cause_from_log();

/// Throws Rejected if the format is unknown, the text is no molecule, or the molecule can't be used.
void parse_record(std::string_view format, std::string_view text, const ReadOptions& options, Record& record);

/// For a molecule that Open Babel has just read: takes its name; throws Rejected if it is of no use: no atoms or too many, query
/// atoms and R groups, impossible coordinates, bonds that Open Babel could not make sense of.
void finish_record(std::string_view format, const ReadOptions& options, Record& record);

/// Whether the record has three-dimensional positions (2D drawings and all-zero coordinates are none).
bool has_positions(OpenBabel::OBMol& mol);

}  // namespace moleblend::chemistry
