#include <algorithm>
#include <numeric>

#include "io/chemistry/rules/rules.h"

namespace moleblend::chemistry {
namespace {

/// How often a neighbour counts: twice its bond order, so that aromatic bonds (1.5) stay whole. A phosphorus with three
/// or four neighbours counts as singly bonded: its P=O is a convention of drawing.
int multiplicity(const MolecularGraph& graph, const Neighbour& neighbour) {
  const auto& bond = graph.bonds[neighbour.bond];
  if (bond.aromatic) return 3;
  const int degree = graph.total_degree(neighbour.atom);
  if (bond.order == 2 && graph.atoms[neighbour.atom].atomic_number == 15 && (degree == 3 || degree == 4)) return 1;
  return 2 * bond.order;
}

using Key = std::vector<int>;

/// Dense ranks of keys from 0; returns how many different ones there are.
int rank_keys(const std::vector<Key>& keys, std::vector<int>& ranks) {
  std::vector<std::uint32_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return keys[a] < keys[b]; });
  int rank = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && keys[order[i]] != keys[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
  return keys.empty() ? 0 : rank + 1;
}

/// Rank of the atom, then its neighbours' ranks from high to low, hydrogens last.
void refine_key(const MolecularGraph& graph, const std::vector<int>& ranks, std::uint32_t atom, Key& key) {
  key.assign(1, ranks[atom]);
  for (const auto& neighbour : graph.neighbours(atom)) {
    key.insert(key.end(), static_cast<std::size_t>(multiplicity(graph, neighbour)), ranks[neighbour.atom] + 1);
  }
  std::sort(key.begin() + 1, key.end(), std::greater<>());
  key.insert(key.end(), static_cast<std::size_t>(graph.atoms[atom].hydrogens), 0);
}

}  // namespace

std::vector<int> cip_ranks(const MolecularGraph& graph) {
  std::vector<Key> keys(graph.size());
  for (std::uint32_t atom = 0; atom < graph.size(); ++atom) {
    keys[atom].reserve(16);  // of most atoms in every round
    keys[atom] = {graph.atoms[atom].atomic_number, graph.atoms[atom].isotope};
  }
  std::vector<int> ranks(graph.size());
  int different = rank_keys(keys, ranks), before = 0;
  // Each round looks one bond further; it ends when no round tells more atoms apart.
  while (different > before && different < static_cast<int>(graph.size())) {
    before = different;
    for (std::uint32_t atom = 0; atom < graph.size(); ++atom) refine_key(graph, ranks, atom, keys[atom]);
    different = rank_keys(keys, ranks);
  }
  return ranks;
}

}  // namespace moleblend::chemistry
