#pragma once
// The rules that make OGB's atom and bond features, one function each. OGB defines its features by what RDKit answers,
// so these are RDKit's rules (2022.09), stated on the graph; where RDKit documents a reason it stands at the rule.
//
// Order: normalise_charges, assign_radicals, assign_conjugation, then the rest.

#include <optional>
#include <vector>

#include "io/chemistry/rules/molecular_graph.h"
#include "io/dataset/molecule.h"

namespace moleblend::chemistry {

/// Writes neutral hypervalent spellings with separated charges: N(=O)=O as [N+](=O)[O-], N=N#N, halogen oxides as
/// ClO4⁻.
void normalise_charges(MolecularGraph& graph);

/// Unpaired electrons from what an atom's valence lacks. Bonds and hydrogens must be complete.
void assign_radicals(MolecularGraph& graph);

/// Bonds that take part in a conjugated system; aromatic bonds always do.
void assign_conjugation(MolecularGraph& graph);

enum class Hybridisation : std::uint8_t { sp, sp2, sp3, sp3d, sp3d2, other };  // in OGB's order

/// From the number of electron domains (neighbours, lone pairs, radicals); needs radicals and conjugation.
Hybridisation hybridisation(const MolecularGraph& graph, std::uint32_t atom);

/// Ranks after Cahn, Ingold and Prelog, larger first in priority; atoms that the rules can't tell apart have equal
/// ranks. Iterative refinement by neighbours' ranks (RDKit's older CIP code), not the full hierarchical digraph.
std::vector<int> cip_ranks(const MolecularGraph& graph);

/// Drops tetrahedral centres and double bonds that can't be stereogenic although the record marks them.
void remove_impossible_stereo(MolecularGraph& graph, const std::vector<int>& ranks);

/// OGB's chirality category of a centre: 1 clockwise, 2 counter-clockwise, seen from its first neighbour in bond order;
/// a folded hydrogen or lone pair counts as the last neighbour. 0 if the centre's neighbours are not those of the
/// graph.
std::uint8_t chirality_code(const MolecularGraph& graph, const TetrahedralCentre& centre);

enum class BondStereo : std::uint8_t { none, z, e, cis, trans, any };  // in OGB's order

/// Z or E by the higher-ranked neighbours of each end; none if an end has two of equal rank.
BondStereo bond_stereo(const MolecularGraph& graph, const DoubleBondGeometry& geometry, const std::vector<int>& ranks);

/// All features: runs the rules above on `graph` and writes atoms and bonds. The graph keeps what the rules set.
void encode_features(MolecularGraph& graph, std::vector<AtomCodes>& atoms, std::vector<Bond>& bonds);

}  // namespace moleblend::chemistry
