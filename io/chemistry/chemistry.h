#pragma once
// Chemistry behind one interface: text of one record in, a Molecule out. Implemented on Open Babel (and RDKit) in a
// shared library of its own, libmoleblend_chemistry.so, that is loaded when molecules are read: a training node needs
// neither.
//
// Open Babel is not thread-safe, and some inputs crash it or never return: call this only inside a reader process
// (io/prepare/reader_process.h), one record at a time.

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "io/dataset/molecule.h"

namespace moleblend {

/// A record that can't become a molecule; the message is the reason, as it stands in rejected.csv.
class Rejected : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class ConformerEngine { openbabel, rdkit };

/// What to do about a molecule that comes without positions.
struct ConformerOptions {
  int count = 0;                                        // conformers to build; 0: none
  ConformerEngine engine = ConformerEngine::openbabel;  // tried first
  bool fallback = true;                                 // then the other one, where it is built in
  int force_field_steps = 50;                           // MMFF94 minimisation (UFF where MMFF94 has no parameters)
  int attempts = 3;                                     // seeds tried an engine before giving up
  bool required = false;  // reject the molecule if none passes the checks; else keep it as 2D only
};

struct ReadOptions {
  bool keep_hydrogens = false;
  bool use_positions = true;       // keep 3D positions that the record has
  std::uint32_t max_atoms = 4096;  // larger molecules are rejected: all pairs of atoms are computed with
  ConformerOptions conformers;
};

/// Molecules of a file in a format that can't be cut into records as text; read one after another.
class MoleculeStream {
 public:
  virtual ~MoleculeStream() = default;
  /// False at the end of the file. Throws Rejected for a record that is refused; the next call goes on with the one
  /// after it.
  virtual bool next(Molecule& out) = 0;
};

class Chemistry {
 public:
  virtual ~Chemistry() = default;

  /// Reads one record. `format` is Open Babel's name (smi, sdf, mol2, xyz, pdb …); for smi the text is the SMILES, then
  /// optionally white space and a name. `seed` decides everything random (conformers): the same text, options and seed
  /// give the same bytes in every process. Fills all but source_file, source_record and labels; identifier is empty if
  /// the record has no name. Throws Rejected with a reason that helps.
  virtual Molecule read(std::string_view format, std::string_view text, const ReadOptions& options,
                        std::uint64_t seed) = 0;

  /// Opens a whole file (gzip too) in any format that Open Babel reads. Throws Error if there is no such format. Record i is read
  /// with the seed `seed` + i. The stream must not outlive this object.
  virtual std::unique_ptr<MoleculeStream> open(const std::string& path, std::string_view format,
                                               const ReadOptions& options, std::uint64_t seed) = 0;

  /// Reads a file with Open Babel and does nothing with its molecules: what the speed of everything else is measured against.
  /// Returns how many there were; throws Error if the file can't be opened or Open Babel does not read the format.
  virtual std::uint64_t stream(const std::string& path, std::string_view format) = 0;

  /// Whether Open Babel reads molecules from this format name or file ending; it takes plain text for molecules without atoms.
  virtual bool knows_format(std::string_view format) = 0;
  virtual bool has_engine(ConformerEngine engine) = 0;
  /// "Open Babel 3.1.1, RDKit 2022.09.3": part of a data set's provenance.
  virtual std::string versions() = 0;
};

/// Loads libmoleblend_chemistry.so from the program's folder. Throws Error with the remedy if this build has none.
std::unique_ptr<Chemistry> load_chemistry();

}  // namespace moleblend
