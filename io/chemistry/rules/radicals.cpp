#include <algorithm>

#include "io/chemistry/rules/elements.h"
#include "io/chemistry/rules/rules.h"

namespace moleblend::chemistry {
namespace {

/// An atom of an element without a valence model: whether the free ion has an odd number of outer electrons.
int odd_electron(const GraphAtom& atom) {
  return std::max(outer_electrons(atom.atomic_number) - atom.charge, 0) % 2;
}

/// What is missing to the octet (or duet); a hypervalent atom is compared with its next allowed valence; an
/// electron-poor atom (B, alkali metals) can't have more unpaired electrons than electrons that no bond uses.
int missing_electrons(const MolecularGraph& graph, std::uint32_t atom) {
  const auto& a = graph.atoms[atom];
  const int outer = outer_electrons(a.atomic_number), valence = graph.valence(atom);
  const int full_shell = a.atomic_number <= 2 ? 2 : 8;
  int radicals = full_shell - outer - valence + a.charge;
  if (radicals < 0) {
    radicals = 0;
    const auto valences = allowed_valences(a.atomic_number);
    if (valences.size() > 1) {
      const auto next =
          std::find_if(valences.begin(), valences.end(), [&](int v) { return v - valence + a.charge >= 0; });
      if (next != valences.end()) radicals = *next - valence + a.charge;
    }
  }
  const int unbound = outer - valence - a.charge;
  return unbound >= 0 ? std::min(radicals, unbound) : radicals;
}

}  // namespace

void assign_radicals(MolecularGraph& graph) {
  for (std::uint32_t atom = 0; atom < graph.size(); ++atom) {
    auto& a = graph.atoms[atom];
    const bool has_model = !allowed_valences(a.atomic_number).empty();
    a.radicals = has_model ? missing_electrons(graph, atom) : odd_electron(a);
  }
}

}  // namespace moleblend::chemistry
