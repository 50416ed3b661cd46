#pragma once
// A molecule as the feature rules see it: no toolkit's types, Kekulé bond orders, most hydrogens folded into their
// neighbours.

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace moleblend::chemistry {

/// Stands for a neighbour that is not an atom of the graph: a folded hydrogen or a lone pair.
inline constexpr std::uint32_t kNoAtom = 0xffffffff;

struct GraphAtom {
  int atomic_number = 0;
  int charge = 0;
  int isotope = 0;    // mass number, 0: natural
  int hydrogens = 0;  // implicit and folded ones; hydrogens that are atoms of the graph are neighbours instead
  int radicals = 0;   // unpaired electrons; set by assign_radicals
  bool aromatic = false;
  bool in_ring = false;
};

struct GraphBond {
  std::uint32_t begin = 0, end = 0;
  int order = 1;  // Kekulé; 0: dative or zero-order
  bool aromatic = false;
  bool in_ring = false;
  bool conjugated = false;  // set by assign_conjugation
  bool either = false;      // a double bond that the record marks as "cis or trans, not known"
};

/// Looking from around[0], the other three run clockwise or not. At most one of the four is kNoAtom.
struct TetrahedralCentre {
  std::uint32_t centre = 0;
  std::array<std::uint32_t, 4> around{};
  bool clockwise = false;
};

/// Geometry of a double bond: begin_side is a neighbour of the bond's begin, end_side one of its end.
struct DoubleBondGeometry {
  std::uint32_t bond = 0;
  std::uint32_t begin_side = 0, end_side = 0;
  bool cis = false;  // the two neighbours lie on the same side
};

/// One bond as seen from one of its atoms.
struct Neighbour {
  std::uint32_t atom = 0, bond = 0;
};

struct MolecularGraph {
  std::vector<GraphAtom> atoms;
  std::vector<GraphBond> bonds;  // in the order of the record; it decides what a chirality code refers to
  std::vector<TetrahedralCentre> centres;
  std::vector<DoubleBondGeometry> double_bonds;
  std::vector<std::vector<std::uint32_t>>
      rings;  // smallest set of smallest rings, atoms in order; filled for N centres only

  /// Builds the neighbour lists; call it once atoms and bonds are there.
  void index_neighbours();
  /// Neighbours in bond order.
  std::span<const Neighbour> neighbours(std::uint32_t atom) const {
    return {neighbours_.data() + offsets_[atom], offsets_[atom + 1] - offsets_[atom]};
  }
  std::uint32_t size() const { return static_cast<std::uint32_t>(atoms.size()); }
  /// Neighbours in the graph.
  int degree(std::uint32_t atom) const { return static_cast<int>(offsets_[atom + 1] - offsets_[atom]); }
  /// Neighbours, hydrogens included.
  int total_degree(std::uint32_t atom) const { return degree(atom) + atoms[atom].hydrogens; }
  /// Sum of bond orders to atoms of the graph.
  int bond_order_sum(std::uint32_t atom) const;
  /// Sum of bond orders, hydrogens included.
  int valence(std::uint32_t atom) const { return bond_order_sum(atom) + atoms[atom].hydrogens; }

 private:
  std::vector<std::uint32_t> offsets_;
  std::vector<Neighbour> neighbours_;
};

}  // namespace moleblend::chemistry
