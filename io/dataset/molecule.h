#pragma once
// One molecule as the data set keeps it: what was read, no derived data.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace moleblend {

/// The nine OGB atom features as category indices from 0: atomic number − 1, chirality, degree, formal charge + 5,
/// hydrogens, radical electrons, hybridisation, aromatic, in ring. Hybridisation: SP, SP2, SP3, SP3D, SP3D2, other.
using AtomCodes = std::array<std::uint8_t, 9>;

struct Bond {
  std::uint32_t begin = 0, end = 0;  // atom indices from 0
  std::uint8_t type = 0;             // single, double, triple, aromatic, misc
  std::uint8_t stereo = 0;           // none, Z, E, cis, trans, any
  std::uint8_t conjugated = 0;
  bool operator==(const Bond&) const = default;
};

/// Where the positions come from.
enum class ConformerSource : std::uint8_t { none = 0, file = 1, openbabel = 2, rdkit = 3 };

struct Molecule {
  std::string identifier;  // the record's name in its source; never empty (made from file and record number where there
                           // is none)
  std::string smiles;      // as given, or written by the reader for 3D formats
  std::uint32_t source_file = 0;    // index into the data set's list of source files
  std::uint64_t source_record = 0;  // record number in that file, from 0
  std::vector<AtomCodes> atoms;     // n
  std::vector<Bond> bonds;          // each once, begin ≠ end
  ConformerSource conformer_source = ConformerSource::none;
  std::uint32_t conformers = 0;
  std::vector<float> positions;  // conformers × n × 3, ångström
  std::vector<double> labels;    // one a label column, NaN = missing

  std::size_t size() const { return atoms.size(); }
  bool operator==(const Molecule&) const = default;
};

}  // namespace moleblend
