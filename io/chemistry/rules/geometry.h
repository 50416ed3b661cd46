#pragma once
// Whether a computed conformer can be the molecule it was built for.

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/chemistry/rules/molecular_graph.h"

namespace moleblend::chemistry {

struct Point {
  double x = 0, y = 0, z = 0;  // Å
};

/// Atoms of different molecules or not: no two can be closer. Below the shortest bonds there are, H–H with 0.74 Å and N≡N with
/// 1.10 Å, and above what noise in a bond length could explain: closer atoms lie on top of each other.
inline constexpr double kClosestAtoms = 0.7;

/// What is wrong with the geometry, for people ("atoms 3 and 17 are 0.41 Å apart"); empty if it passes: finite coordinates, no
/// two atoms closer than kClosestAtoms, bond lengths near the sum of the covalent radii, the graph's tetrahedral centres and
/// double bonds as specified. `positions` has one point an atom; n² time.
std::string geometry_fault(const MolecularGraph& graph, std::span<const Point> positions);

/// Moves the fragments (sets of atoms joined by `bonds`) of a molecule side by side along x, in the order of their first atoms,
/// so that their boxes are 4 Å apart: a little more than two van der Waals radii. Builders lay fragments over each other. One
/// fragment stays where it is.
void separate_fragments(std::span<Point> positions, std::span<const std::pair<std::uint32_t, std::uint32_t>> bonds);

}  // namespace moleblend::chemistry
