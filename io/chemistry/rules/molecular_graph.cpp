#include "io/chemistry/rules/molecular_graph.h"

namespace moleblend::chemistry {

void MolecularGraph::index_neighbours() {
  offsets_.assign(atoms.size() + 1, 0);
  for (const auto& bond : bonds) {
    ++offsets_[bond.begin + 1];
    ++offsets_[bond.end + 1];
  }
  for (std::size_t i = 1; i < offsets_.size(); ++i) offsets_[i] += offsets_[i - 1];
  neighbours_.resize(2 * bonds.size());
  std::vector<std::uint32_t> next(offsets_.begin(), offsets_.end() - 1);
  for (std::uint32_t b = 0; b < bonds.size(); ++b) {
    neighbours_[next[bonds[b].begin]++] = {bonds[b].end, b};
    neighbours_[next[bonds[b].end]++] = {bonds[b].begin, b};
  }
}

int MolecularGraph::bond_order_sum(std::uint32_t atom) const {
  int sum = 0;
  for (const auto& neighbour : neighbours(atom)) sum += bonds[neighbour.bond].order;
  return sum;
}

}  // namespace moleblend::chemistry
