#include <algorithm>

#include "io/chemistry/rules/elements.h"
#include "io/chemistry/rules/rules.h"

namespace moleblend::chemistry {
namespace {

/// Bonds, lone pairs and radical electrons around an atom.
int electron_domains(const MolecularGraph& graph, std::uint32_t atom) {
  const auto& a = graph.atoms[atom];
  int bonded = graph.total_degree(atom);
  for (const auto& neighbour : graph.neighbours(atom)) bonded -= graph.bonds[neighbour.bond].order == 0;
  if (a.atomic_number == 1) return bonded;
  const int outer = outer_electrons(a.atomic_number), valence = graph.valence(atom);
  const int free_electrons = outer - (valence + a.charge);
  // Below the octet unpaired electrons take orbitals of their own.
  if (valence + outer - a.charge < 8) return bonded + (free_electrons - a.radicals) / 2 + a.radicals;
  return bonded + free_electrons / 2;
}

}  // namespace

Hybridisation hybridisation(const MolecularGraph& graph, std::uint32_t atom) {
  // Actinides and beyond: by coordination number alone.
  const int domains = graph.atoms[atom].atomic_number < 89 ? electron_domains(graph, atom) : graph.total_degree(atom);
  const auto around = graph.neighbours(atom);
  switch (domains) {
    case 2:
      return Hybridisation::sp;
    case 3:
      return Hybridisation::sp2;
    case 4: {
      // A lone pair beside a pi system joins it: the second oxygen of an ester is sp2. Not with four real neighbours.
      const bool conjugated =
          std::any_of(around.begin(), around.end(), [&](const Neighbour& n) { return graph.bonds[n.bond].conjugated; });
      return conjugated && graph.total_degree(atom) <= 3 ? Hybridisation::sp2 : Hybridisation::sp3;
    }
    case 5:
      return Hybridisation::sp3d;
    case 6:
      return Hybridisation::sp3d2;
    default:
      return Hybridisation::other;
  }
}

}  // namespace moleblend::chemistry
