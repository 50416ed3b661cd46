#pragma once
// A molecular graph as a SMILES in canonical order.

#include <cstdint>
#include <string>
#include <vector>

namespace moleblend {

struct SmilesAtom {
  int element = 0, charge = 0, hydrogens = 0;
  bool aromatic = false;
  auto operator<=>(const SmilesAtom&) const = default;
};

struct SmilesBond {
  std::uint32_t begin = 0, end = 0;
  std::uint8_t type = 0;  // as in Bond
};

/// Hydrogens that an atom with this sum of bond orders has by its element's usual valences (the smallest that fits; a charge counts as
/// the neighbour in the periodic table). 0 where there is no such valence.
int usual_hydrogens(int element, int charge, int bond_orders);

/// The same text exactly for the same graph: one SMILES a fragment, sorted, with dots between. Bonds of type misc are written `~`.
/// Elements 1 to 118; `*` for others.
std::string canonical_smiles(const std::vector<SmilesAtom>& atoms, const std::vector<SmilesBond>& bonds);

}  // namespace moleblend
