#include "io/graph/scaffold.h"

#include <algorithm>
#include <utility>

#include "io/graph/bond_type.h"
#include "io/graph/scaffold_smiles.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

// Categories of AtomCodes and Bond.
enum Code { kElement = 0, kCharge = 3, kHydrogens = 4, kRadicals = 5, kAromaticAtom = 7 };
constexpr int kNeutral = 5;

/// What becomes of each atom.
enum class Role : std::uint8_t {
  removed,
  core,  // in a ring or between rings
  exo    // doubly bonded to the core
};

class Murcko {
 public:
  Murcko(std::span<const AtomCodes> atoms, std::span<const Bond> bonds) : atoms_(atoms), bonds_(bonds) {
    for (const Bond& bond : bonds) {
      if (bond.begin >= atoms.size() || bond.end >= atoms.size())
        throw Error("a bond leads to atom {} of a molecule of {} atoms; prepare the data set again",
                    std::max(bond.begin, bond.end), atoms.size());
    }
    choose();
  }

  Scaffold result() const;

 private:
  void choose();
  std::vector<std::uint8_t> without_ends(bool with_misc) const;
  std::vector<std::uint8_t> linked_by_misc(std::vector<std::uint8_t> core) const;
  bool is_hydrogen(std::uint32_t v) const { return atoms_[v][kElement] == 0 && roles_[v] == Role::removed; }
  SmilesAtom atom(std::uint32_t v) const;

  std::span<const AtomCodes> atoms_;
  std::span<const Bond> bonds_;
  std::vector<Role> roles_;
  std::vector<std::uint8_t> lost_;   // whether an atom other than hydrogen was cut off
  std::vector<int> shed_hydrogens_;  // atoms of hydrogen that were cut off
  std::vector<int> half_orders_;     // twice the bond orders that are left; aromatic bonds count three
};

/// The atoms left when those with fewer than two bonds are taken away again and again: rings, and what is between them.
std::vector<std::uint8_t> Murcko::without_ends(bool with_misc) const {
  const std::size_t n = atoms_.size();
  const auto counts = [&](const Bond& bond) { return bond.begin != bond.end && (with_misc || bond.type < kMisc); };
  // Of each atom the number of its bonds and the exclusive or of their other ends: that of the last bond left is its other end.
  std::vector<std::uint32_t> degree(n), ends(n), open;
  for (const Bond& bond : bonds_) {
    if (!counts(bond)) continue;
    ++degree[bond.begin];
    ++degree[bond.end];
    ends[bond.begin] ^= bond.end;
    ends[bond.end] ^= bond.begin;
  }
  std::vector<std::uint8_t> left(n, 1);
  for (std::uint32_t start = 0; start < n; ++start) {
    std::uint32_t v = start;
    while (left[v] && degree[v] < 2) {
      left[v] = 0;
      if (degree[v] == 0) break;
      const std::uint32_t next = ends[v];
      --degree[next];
      ends[next] ^= v;
      v = next;
    }
  }
  return left;
}

/// Adds what lies between rings that bonds of type misc link. Such bonds close no ring: a fragment without a core stays without.
std::vector<std::uint8_t> Murcko::linked_by_misc(std::vector<std::uint8_t> core) const {
  const std::vector<std::uint8_t> linked = without_ends(true);
  for (bool grew = true; grew;) {
    grew = false;
    for (const Bond& bond : bonds_) {
      if (!linked[bond.begin] || !linked[bond.end] || core[bond.begin] == core[bond.end]) continue;
      core[bond.begin] = core[bond.end] = 1;
      grew = true;
    }
  }
  return core;
}

void Murcko::choose() {
  const std::size_t n = atoms_.size();
  roles_.assign(n, Role::removed);
  lost_.assign(n, 0);
  shed_hydrogens_.assign(n, 0);
  half_orders_.assign(n, 0);
  std::vector<std::uint8_t> core = without_ends(false);
  const bool misc = std::any_of(bonds_.begin(), bonds_.end(), [](const Bond& bond) { return bond.type >= kMisc; });
  if (misc) core = linked_by_misc(std::move(core));
  for (std::size_t v = 0; v < n; ++v) {
    if (core[v]) roles_[v] = Role::core;
  }
  for (const Bond& bond : bonds_) {
    if (bond.type != kDouble) continue;
    for (const auto& [inside, outside] : {std::pair(bond.begin, bond.end), std::pair(bond.end, bond.begin)}) {
      if (roles_[inside] == Role::core && roles_[outside] == Role::removed) roles_[outside] = Role::exo;
    }
  }
  for (const Bond& bond : bonds_) {
    for (const auto& [inside, outside] : {std::pair(bond.begin, bond.end), std::pair(bond.end, bond.begin)}) {
      if (roles_[inside] == Role::removed) continue;
      if (roles_[outside] != Role::removed) {
        half_orders_[inside] += bond.type == kAromatic ? 3 : bond.type >= kMisc ? 0 : 2 * (bond.type + 1);
      } else if (is_hydrogen(outside)) {
        ++shed_hydrogens_[inside];
      } else {
        lost_[inside] = 1;
      }
    }
  }
}

/// Hydrogens as RDKit leaves them when it cuts.
SmilesAtom Murcko::atom(std::uint32_t v) const {
  const AtomCodes& codes = atoms_[v];
  SmilesAtom atom{.element = codes[kElement] + 1,
                  .charge = codes[kCharge] - kNeutral,
                  .hydrogens = codes[kHydrogens] + shed_hydrogens_[v],
                  .aromatic = codes[kAromaticAtom] != 0};
  if (!lost_[v]) return atom;
  if (roles_[v] == Role::core && atom.aromatic && atom.element != 6)
    atom.hydrogens = 1;
  else if (roles_[v] == Role::core || atom.charge == 0)  // charged atoms beside the core keep what they had
    atom.hydrogens = usual_hydrogens(atom.element, atom.charge, half_orders_[v] / 2 + codes[kRadicals]);
  return atom;
}

Scaffold Murcko::result() const {
  Scaffold scaffold;
  std::vector<std::uint32_t> place(atoms_.size());
  std::vector<SmilesAtom> atoms;
  for (std::uint32_t v = 0; v < atoms_.size(); ++v) {
    if (roles_[v] == Role::removed) continue;
    place[v] = static_cast<std::uint32_t>(atoms.size());
    scaffold.atoms.push_back(v);
    atoms.push_back(atom(v));
  }
  std::vector<SmilesBond> bonds;
  for (const Bond& bond : bonds_) {
    if (roles_[bond.begin] != Role::removed && roles_[bond.end] != Role::removed)
      bonds.push_back({place[bond.begin], place[bond.end], bond.type});
  }
  scaffold.key = canonical_smiles(atoms, bonds);
  return scaffold;
}

}  // namespace

Scaffold scaffold(std::span<const AtomCodes> atoms, std::span<const Bond> bonds) {
  return Murcko(atoms, bonds).result();
}

Scaffold scaffold(const Molecule& molecule) {
  return scaffold(molecule.atoms, molecule.bonds);
}

}  // namespace moleblend
