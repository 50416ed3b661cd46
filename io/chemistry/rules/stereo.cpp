#include <algorithm>

#include "io/chemistry/rules/rules.h"

namespace moleblend::chemistry {
namespace {

/// Neighbour of `atom`, other than `excluded`, with the highest rank; kNoAtom if two share it or there is none.
std::uint32_t senior_neighbour(const MolecularGraph& graph, const std::vector<int>& ranks, std::uint32_t atom,
                               std::uint32_t excluded) {
  std::uint32_t best = kNoAtom;
  bool tie = false;
  for (const auto& neighbour : graph.neighbours(atom)) {
    if (neighbour.atom == excluded) continue;
    if (best == kNoAtom || ranks[neighbour.atom] > ranks[best]) {
      best = neighbour.atom;
      tie = false;
    } else if (ranks[neighbour.atom] == ranks[best]) {
      tie = true;
    }
  }
  return tie ? kNoAtom : best;
}

}  // namespace

std::uint8_t chirality_code(const MolecularGraph& graph, const TetrahedralCentre& centre) {
  std::array<std::uint32_t, 4> order{};
  std::size_t count = 0;
  for (const auto& neighbour : graph.neighbours(centre.centre)) {
    if (count == order.size()) return 0;
    order[count++] = neighbour.atom;
  }
  if (count == 3) order[count++] = kNoAtom;
  if (count != 4) return 0;

  // The parity of the permutation between the two orders says whether the sense of rotation flips.
  std::array<std::size_t, 4> place{};
  for (std::size_t i = 0; i < 4; ++i) {
    const auto found = std::find(order.begin(), order.end(), centre.around[i]);
    if (found == order.end()) return 0;
    place[i] = static_cast<std::size_t>(found - order.begin());
  }
  int inversions = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = i + 1; j < 4; ++j) inversions += place[i] > place[j];
  }
  return centre.clockwise == (inversions % 2 == 0) ? 1 : 2;
}

BondStereo bond_stereo(const MolecularGraph& graph, const DoubleBondGeometry& geometry, const std::vector<int>& ranks) {
  const auto& bond = graph.bonds[geometry.bond];
  const auto begin = senior_neighbour(graph, ranks, bond.begin, bond.end);
  const auto end = senior_neighbour(graph, ranks, bond.end, bond.begin);
  if (begin == kNoAtom || end == kNoAtom) return BondStereo::none;
  // Taking the other neighbour of one end as the reference turns cis into trans.
  const bool swapped = (begin != geometry.begin_side) != (end != geometry.end_side);
  return geometry.cis != swapped ? BondStereo::z : BondStereo::e;
}

void remove_impossible_stereo(MolecularGraph& graph, const std::vector<int>& ranks) {
  std::erase_if(graph.double_bonds, [&](const DoubleBondGeometry& geometry) {
    return bond_stereo(graph, geometry, ranks) == BondStereo::none;
  });
}

}  // namespace moleblend::chemistry
