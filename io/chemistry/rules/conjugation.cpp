#include <algorithm>

#include "io/chemistry/rules/elements.h"
#include "io/chemistry/rules/rules.h"

namespace moleblend::chemistry {
namespace {

/// Electrons that an atom can give to a pi system; −1: none possible.
int pi_electrons(const MolecularGraph& graph, std::uint32_t atom) {
  const auto& a = graph.atoms[atom];
  const int valence = default_valence(a.atomic_number), degree = graph.total_degree(atom);
  if (valence <= 1 || degree > 3) return -1;  // univalent and four-coordinate atoms have no free p orbital
  const int lone_pair_electrons = std::max(outer_electrons(a.atomic_number) - valence - a.charge, 0);
  const int electrons = valence - degree + lone_pair_electrons - a.radicals;
  // An sp atom (one triple or two double bonds) gives only one of its pi systems.
  const bool twice_unsaturated = graph.bond_order_sum(atom) - graph.degree(atom) > 1;
  return electrons > 1 && twice_unsaturated ? 1 : electrons;
}

/// Whether an atom can be a member of a conjugated system. Hypervalent neutral atoms can't; heavier group-15 and
/// group-16 atoms don't (their lone pairs overlap badly with carbon's p orbital), except terminal ones such as the S of
/// a thioketone.
bool can_conjugate(const MolecularGraph& graph, std::uint32_t atom) {
  const auto& a = graph.atoms[atom];
  const int valence = default_valence(a.atomic_number);
  if (a.charge == 0 && valence >= 0 && graph.valence(atom) > valence) return false;
  const int outer = outer_electrons(a.atomic_number);
  const bool suitable =
      a.atomic_number <= 10 || (outer != 5 && outer != 6) || (outer == 6 && graph.total_degree(atom) < 2);
  return suitable && pi_electrons(graph, atom) > 0;
}

}  // namespace

void assign_conjugation(MolecularGraph& graph) {
  for (auto& bond : graph.bonds) bond.conjugated = bond.aromatic;
  std::vector<char> candidate(graph.size());
  for (std::uint32_t atom = 0; atom < graph.size(); ++atom) candidate[atom] = can_conjugate(graph, atom);

  // A multiple bond and a bond beside it, meeting in an atom, are conjugated if all three atoms are candidates.
  for (std::uint32_t atom = 0; atom < graph.size(); ++atom) {
    const int degree = graph.total_degree(atom);
    if (!candidate[atom] || degree < 2 || degree > 3) continue;
    for (const auto& pi : graph.neighbours(atom)) {
      auto& pi_bond = graph.bonds[pi.bond];
      if ((pi_bond.order < 2 && !pi_bond.aromatic) || !candidate[pi.atom]) continue;
      for (const auto& beside : graph.neighbours(atom)) {
        if (beside.bond == pi.bond || graph.total_degree(beside.atom) > 3 || !candidate[beside.atom]) continue;
        pi_bond.conjugated = graph.bonds[beside.bond].conjugated = true;
      }
    }
  }
}

}  // namespace moleblend::chemistry
