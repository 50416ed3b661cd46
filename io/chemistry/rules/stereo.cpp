#include <algorithm>
#include <set>
#include <utility>

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

/// Whether the ends of a bond are joined by another path that makes a ring of at most `size` atoms.
bool in_ring_of_at_most(const MolecularGraph& graph, std::uint32_t bond, int size) {
  std::vector<std::uint32_t> reached = {graph.bonds[bond].begin}, frontier = reached;
  for (int atoms = 1; atoms < size && !frontier.empty(); ++atoms) {
    std::vector<std::uint32_t> next;
    for (const auto atom : frontier) {
      for (const auto& neighbour : graph.neighbours(atom)) {
        if (neighbour.bond == bond) continue;
        if (neighbour.atom == graph.bonds[bond].end) return true;
        if (std::find(reached.begin(), reached.end(), neighbour.atom) != reached.end()) continue;
        reached.push_back(neighbour.atom);
        next.push_back(neighbour.atom);
      }
    }
    frontier = std::move(next);
  }
  return false;
}

/// Whether an atom has three ring bonds and belongs to two rings that share at least two bonds: a bridge, not a mere fusion.
bool is_bridgehead(const MolecularGraph& graph, std::uint32_t atom) {
  const auto around = graph.neighbours(atom);
  if (std::count_if(around.begin(), around.end(), [&](auto& n) { return graph.bonds[n.bond].in_ring; }) < 3)
    return false;
  using Edges = std::set<std::pair<std::uint32_t, std::uint32_t>>;
  std::vector<Edges> rings;
  for (const auto& ring : graph.rings) {
    if (std::find(ring.begin(), ring.end(), atom) == ring.end()) continue;
    auto& edges = rings.emplace_back();
    for (std::size_t i = 0; i < ring.size(); ++i) edges.insert(std::minmax(ring[i], ring[(i + 1) % ring.size()]));
  }
  for (std::size_t i = 0; i < rings.size(); ++i) {
    for (std::size_t j = i + 1; j < rings.size(); ++j) {
      const auto shared =
          std::count_if(rings[i].begin(), rings[i].end(), [&](auto& edge) { return rings[j].contains(edge); });
      if (shared >= 2) return true;
    }
  }
  return false;
}

/// A three-coordinate nitrogen turns inside out unless a three-membered ring or a bridge holds it.
bool holds_nitrogen(const MolecularGraph& graph, std::uint32_t atom) {
  const auto around = graph.neighbours(atom);
  return is_bridgehead(graph, atom) ||
         std::any_of(around.begin(), around.end(), [&](auto& n) { return in_ring_of_at_most(graph, n.bond, 3); });
}

/// Whether an atom can be a tetrahedral stereocentre, whatever its neighbours are.
bool can_be_centre(const MolecularGraph& graph, std::uint32_t atom) {
  const auto& a = graph.atoms[atom];
  const int degree = graph.degree(atom);
  if (graph.total_degree(atom) > 4 || degree < 3 || a.hydrogens > 1) return false;
  if (degree == 4) return true;
  switch (a.atomic_number) {
    case 15:
    case 33:
      return true;  // phosphines and arsines hold their shape
    case 16:
    case 34: {  // sulfoxides and sulfonium ions, and the like of selenium
      const int valence = graph.valence(atom);
      return a.hydrogens == 1 || valence == 4 || (valence == 3 && a.charge == 1);
    }
    case 7:
      return a.hydrogens == 1 || holds_nitrogen(graph, atom);
    default:
      return a.hydrogens == 1;  // not a radical or a cation: planar
  }
}

bool has_equal_neighbours(const MolecularGraph& graph, const std::vector<int>& ranks, std::uint32_t atom) {
  std::vector<int> around;
  for (const auto& neighbour : graph.neighbours(atom)) around.push_back(ranks[neighbour.atom]);
  std::sort(around.begin(), around.end());
  return std::adjacent_find(around.begin(), around.end()) != around.end();
}

/// Atoms that can be reached from `atom` along ring bonds, itself included: its ring system.
std::set<std::uint32_t> ring_system(const MolecularGraph& graph, std::uint32_t atom) {
  std::set<std::uint32_t> reached = {atom};
  std::vector<std::uint32_t> waiting = {atom};
  while (!waiting.empty()) {
    const auto from = waiting.back();
    waiting.pop_back();
    for (const auto& neighbour : graph.neighbours(from)) {
      if (graph.bonds[neighbour.bond].in_ring && reached.insert(neighbour.atom).second)
        waiting.push_back(neighbour.atom);
    }
  }
  return reached;
}

/// A centre with two neighbours of equal rank means something only beside another such centre of its ring system, as in
/// cis-1,4-dimethylcyclohexane; the others are dropped.
void remove_lonely_ring_centres(MolecularGraph& graph, const std::vector<int>& ranks) {
  std::set<std::uint32_t> dependent;
  for (const auto& centre : graph.centres) {
    if (has_equal_neighbours(graph, ranks, centre.centre)) dependent.insert(centre.centre);
  }
  std::erase_if(graph.centres, [&](const TetrahedralCentre& centre) {
    if (!dependent.contains(centre.centre)) return false;
    const auto system = ring_system(graph, centre.centre);
    const auto partners =
        std::count_if(dependent.begin(), dependent.end(), [&](std::uint32_t other) { return system.contains(other); });
    return partners < 2;
  });
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
  std::erase_if(graph.centres, [&](const TetrahedralCentre& centre) { return !can_be_centre(graph, centre.centre); });
  remove_lonely_ring_centres(graph, ranks);
  std::erase_if(graph.double_bonds, [&](const DoubleBondGeometry& geometry) {
    // A ring of up to seven atoms leaves its double bonds no choice.
    const auto& bond = graph.bonds[geometry.bond];
    if (bond.in_ring && in_ring_of_at_most(graph, geometry.bond, 7)) return true;
    return bond_stereo(graph, geometry, ranks) == BondStereo::none;
  });
}

}  // namespace moleblend::chemistry
