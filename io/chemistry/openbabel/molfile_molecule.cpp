#include "io/chemistry/openbabel/molfile_molecule.h"

#include <openbabel/atom.h>
#include <openbabel/bond.h>
#include <openbabel/obiter.h>

#include <algorithm>

namespace moleblend::chemistry {
namespace {

using namespace OpenBabel;

constexpr int kOther = -1;  // an element that is left to Open Babel

/// An atom's bonds that are not aromatic, by order.
struct BondCounts {
  int single = 0, twofold = 0, threefold = 0;
};

BondCounts count_bonds(OBAtom& atom) {
  BondCounts counts;
  FOR_BONDS_OF_ATOM(bond, &atom) {
    if (bond->IsAromatic()) continue;
    counts.single += bond->GetBondOrder() == 1;
    counts.twofold += bond->GetBondOrder() == 2;
    counts.threefold += bond->GetBondOrder() == 3;
  }
  return counts;
}

/// Whether a C, N or O at the other end of a plain single bond has a double, an aromatic or (if `triple`) a triple bond.
bool is_beside_pi_bond(OBAtom& atom, bool triple) {
  FOR_BONDS_OF_ATOM(bond, &atom) {
    if (bond->IsAromatic() || bond->GetBondOrder() != 1) continue;
    OBAtom& neighbour = *bond->GetNbrAtom(&atom);
    const unsigned element = neighbour.GetAtomicNum();
    if (element < 6 || element > 8) continue;
    FOR_BONDS_OF_ATOM(other, &neighbour)
    if (other->IsAromatic() || other->GetBondOrder() == 2 || (triple && other->GetBondOrder() == 3)) return true;
  }
  return false;
}

bool has_aromatic_neighbour(OBAtom& atom) {
  FOR_BONDS_OF_ATOM(bond, &atom) {
    const bool plain = bond->IsAromatic() || bond->GetBondOrder() == 1;
    if (plain && bond->GetNbrAtom(&atom)->IsAromatic()) return true;
  }
  return false;
}

/// One of two oxygens without other neighbours that are joined to the same carbon by single bonds.
bool is_in_dioxide(OBAtom& oxygen) {
  if (oxygen.GetExplicitDegree() != 1) return false;
  FOR_BONDS_OF_ATOM(bond, &oxygen) {
    OBAtom& carbon = *bond->GetNbrAtom(&oxygen);
    if (carbon.GetAtomicNum() != 6 || bond->GetBondOrder() != 1) continue;
    FOR_BONDS_OF_ATOM(other, &carbon) {
      OBAtom& end = *other->GetNbrAtom(&carbon);
      if (&end != &oxygen && end.GetAtomicNum() == 8 && end.GetExplicitDegree() == 1 && other->GetBondOrder() == 1)
        return true;
    }
  }
  return false;
}

/// What an atom gets that no pattern for its element matches.
int by_degree(unsigned degree) {
  return degree <= 2 ? 1 : degree == 3 ? 2 : degree == 4 ? 3 : static_cast<int>(degree);
}

int hybridisation_of(OBAtom& atom) {
  const unsigned degree = atom.GetExplicitDegree();
  const bool aromatic = atom.IsAromatic();
  switch (atom.GetAtomicNum()) {
    case 1:
    case 9:
    case 17:
    case 35:
    case 53:
      return by_degree(degree);
    case 6: {
      if (aromatic) return 2;
      const BondCounts bonds = count_bonds(atom);
      return bonds.threefold > 0 || bonds.twofold > 1 ? 1 : bonds.twofold > 0 ? 2 : 3;
    }
    case 7: {
      if (aromatic) return 2;
      const BondCounts bonds = count_bonds(atom);
      if (bonds.threefold > 0 || (degree == 2 && bonds.twofold == 2)) return 1;
      const bool joined = degree >= 1 && degree <= 3 && has_aromatic_neighbour(atom);
      return bonds.twofold > 0 || joined || is_beside_pi_bond(atom, true) ? 2 : 3;
    }
    case 8: {
      if (!aromatic && count_bonds(atom).threefold > 0) return 1;
      return aromatic || count_bonds(atom).twofold > 0 || is_beside_pi_bond(atom, false) || is_in_dioxide(atom) ? 2 : 3;
    }
    case 16:
      if (aromatic) return 2;
      if (degree == 6) return 6;
      return degree == 1 && count_bonds(atom).twofold > 0 ? 2 : 3;
    default:
      return kOther;
  }
}

}  // namespace

bool assign_hybridisation(OBMol& mol) {
  std::vector<int> values;
  values.reserve(mol.NumAtoms());
  FOR_ATOMS_OF_MOL(atom, mol) values.push_back(hybridisation_of(*atom));
  if (std::find(values.begin(), values.end(), kOther) != values.end()) return false;
  // First, for setting an atom's value asks for those of all.
  mol.SetHybridizationPerceived();
  FOR_ATOMS_OF_MOL(atom, mol) atom->SetHyb(values[atom->GetIdx() - 1]);
  return true;
}

}  // namespace moleblend::chemistry
