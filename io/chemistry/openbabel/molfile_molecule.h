#pragma once
// A molecule that spares Open Babel most of its work on atom types while it reads a mol file.

#include <openbabel/mol.h>

namespace moleblend::chemistry {

/// Gives every atom the hybridisation that Open Babel's own typing (the INTHYB patterns of its atomtyp.txt) would give, without its
/// general pattern matching, which takes a sixth of the time of reading a mol file. Only for molecules of H, C, N, O, S and halogens;
/// false for others, which are left to Open Babel. Perceives aromaticity.
bool assign_hybridisation(OpenBabel::OBMol& mol);

/// Where `types_atoms` is set, atoms have their hybridisation when the reader looks for stereo.
class MolfileMolecule : public OpenBabel::OBMol {
 public:
  bool types_atoms = false;
  /// Readers call it when all atoms and bonds are there.
  void EndModify(bool forget = true) override {
    OBMol::EndModify(forget);
    if (types_atoms) assign_hybridisation(*this);
  }
};

}  // namespace moleblend::chemistry
