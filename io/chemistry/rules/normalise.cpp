#include "io/chemistry/rules/rules.h"

namespace moleblend::chemistry {
namespace {

/// Shifts one bond order of `bond` into charges: + on `from`, − on `to`.
void separate_charge(MolecularGraph& graph, std::uint32_t from, const Neighbour& to) {
  --graph.bonds[to.bond].order;
  ++graph.atoms[from].charge;
  --graph.atoms[to.atom].charge;
}

/// Five-valent neutral nitrogen: nitro groups and N-oxides written with N=O, azides and diazo groups written with N#N.
void normalise_nitrogen(MolecularGraph& graph, std::uint32_t atom) {
  if (graph.atoms[atom].charge != 0 || graph.valence(atom) != 5) return;
  for (const auto& neighbour : graph.neighbours(atom)) {
    const auto& other = graph.atoms[neighbour.atom];
    const int order = graph.bonds[neighbour.bond].order;
    const bool oxide = other.atomic_number == 8 && order == 2;
    const bool diazo = other.atomic_number == 7 && order == 3;
    if (other.charge == 0 && (oxide || diazo)) return separate_charge(graph, atom, neighbour);
  }
}

/// Three-coordinate five-valent phosphorus with an oxygen and another double bond: O=P(R)=X becomes [O-][P+](R)=X.
void normalise_phosphorus(MolecularGraph& graph, std::uint32_t atom) {
  if (graph.atoms[atom].charge != 0 || graph.valence(atom) != 5 || graph.total_degree(atom) != 3) return;
  std::optional<Neighbour> oxygen;
  bool other_double_bond = false;
  for (const auto& neighbour : graph.neighbours(atom)) {
    if (graph.bonds[neighbour.bond].order != 2) continue;
    const auto& other = graph.atoms[neighbour.atom];
    if (other.atomic_number == 8 && other.charge == 0) {
      oxygen = neighbour;
    } else if (other.atomic_number == 6 || other.atomic_number == 7) {
      other_double_bond = true;
    }
  }
  if (oxygen && other_double_bond) separate_charge(graph, atom, *oxygen);
}

/// Chlorates, bromates, iodates and their acids: every oxygen that is double-bonded becomes [O-].
void normalise_halogen(MolecularGraph& graph, std::uint32_t atom) {
  const int valence = graph.valence(atom);
  if (graph.atoms[atom].charge != 0 || (valence != 3 && valence != 5 && valence != 7)) return;
  for (const auto& neighbour : graph.neighbours(atom)) {
    if (graph.atoms[neighbour.atom].atomic_number != 8) return;
  }
  if (graph.atoms[atom].hydrogens > 0) return;
  for (const auto& neighbour : graph.neighbours(atom)) {
    if (graph.bonds[neighbour.bond].order == 2) separate_charge(graph, atom, neighbour);
  }
}

}  // namespace

void normalise_charges(MolecularGraph& graph) {
  for (std::uint32_t atom = 0; atom < graph.size(); ++atom) {
    switch (graph.atoms[atom].atomic_number) {
      case 7:
        normalise_nitrogen(graph, atom);
        break;
      case 15:
        normalise_phosphorus(graph, atom);
        break;
      case 17:
      case 35:
      case 53:
        normalise_halogen(graph, atom);
        break;
      default:
        break;
    }
  }
}

}  // namespace moleblend::chemistry
