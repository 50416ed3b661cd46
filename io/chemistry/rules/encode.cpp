// OGB's category lists: ogb.utils.features of the Open Graph Benchmark; values outside a list map to its last entry.

#include <algorithm>

#include "io/chemistry/rules/elements.h"
#include "io/chemistry/rules/rules.h"

namespace moleblend::chemistry {
namespace {

/// Index of `value` in the list first, first + 1, …, last, misc.
std::uint8_t category(int value, int first, int last) {
  return static_cast<std::uint8_t>((value < first || value > last ? last + 1 : value) - first);
}

std::uint8_t bond_type(const GraphBond& bond) {
  enum : std::uint8_t { single, double_, triple, aromatic, misc };
  if (bond.aromatic) return aromatic;
  switch (bond.order) {
    case 1:
      return single;
    case 2:
      return double_;
    case 3:
      return triple;
    default:
      return misc;
  }
}

}  // namespace

void encode_features(MolecularGraph& graph, std::vector<AtomCodes>& atoms, std::vector<Bond>& bonds) {
  normalise_charges(graph);
  assign_radicals(graph);
  assign_conjugation(graph);
  std::vector<int> ranks;
  if (!graph.centres.empty() || !graph.double_bonds.empty()) {
    ranks = cip_ranks(graph);
    remove_impossible_stereo(graph, ranks);
  }

  atoms.resize(graph.size());
  for (std::uint32_t i = 0; i < graph.size(); ++i) {
    const auto& atom = graph.atoms[i];
    atoms[i] = {category(atom.atomic_number, 1, kElements),
                0,  // chirality: below
                category(graph.total_degree(i), 0, 10),
                category(atom.charge, -5, 5),
                category(atom.hydrogens, 0, 8),
                category(atom.radicals, 0, 4),
                static_cast<std::uint8_t>(hybridisation(graph, i)),
                atom.aromatic,
                atom.in_ring};
  }
  for (const auto& centre : graph.centres) atoms[centre.centre][1] = chirality_code(graph, centre);

  bonds.resize(graph.bonds.size());
  for (std::size_t i = 0; i < bonds.size(); ++i) {
    const auto& bond = graph.bonds[i];
    bonds[i] = {bond.begin, bond.end, bond_type(bond), 0, bond.conjugated};
  }
  for (const auto& geometry : graph.double_bonds) {
    bonds[geometry.bond].stereo = static_cast<std::uint8_t>(bond_stereo(graph, geometry, ranks));
  }
  for (std::size_t i = 0; i < bonds.size(); ++i) {
    if (graph.bonds[i].either) bonds[i].stereo = static_cast<std::uint8_t>(BondStereo::any);
  }
}

}  // namespace moleblend::chemistry
