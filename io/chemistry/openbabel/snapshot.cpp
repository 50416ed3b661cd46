#include "io/chemistry/openbabel/snapshot.h"

#include <openbabel/atom.h>
#include <openbabel/bond.h>
#include <openbabel/math/vector3.h>
#include <openbabel/obiter.h>
#include <openbabel/ring.h>
#include <openbabel/stereo/cistrans.h>
#include <openbabel/stereo/stereo.h>
#include <openbabel/stereo/tetrahedral.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "io/chemistry/openbabel/smiles_rings.h"

namespace moleblend::chemistry {
namespace {

using namespace OpenBabel;

/// The only mark of a double bond's geometry can be a written hydrogen, as in [H]/N=C/C; it stays an atom then.
bool marks_double_bond(OBAtom& hydrogen, OBAtom& neighbour, OBStereoFacade& stereo) {
  if (neighbour.GetExplicitDegree() != 2) return false;
  FOR_BONDS_OF_ATOM(bond, &neighbour) {
    if (bond->GetNbrAtom(&neighbour) == &hydrogen || !stereo.HasCisTransStereo(bond->GetId())) continue;
    if (stereo.GetCisTransStereo(bond->GetId())->GetConfig().specified) return true;
  }
  return false;
}

/// Hydrogens that are folded: plain, with one neighbour that is a heavy atom. Deuterium, H⁺, H₂ and bridging ones stay
/// atoms.
bool folds(OBAtom& atom, OBStereoFacade* marks) {
  if (atom.GetAtomicNum() != 1 || atom.GetIsotope() != 0 || atom.GetExplicitDegree() != 1) return false;
  OBAtom& neighbour = *(*atom.BeginBonds())->GetNbrAtom(&atom);
  if (neighbour.GetAtomicNum() == 1) return false;
  return !(marks && marks_double_bond(atom, neighbour, *marks));
}

/// RDKit reads handedness off an atom's first three bonds, hydrogens included, and leaves it open where they span less than
/// 0.1 Å³, even if the fourth would settle it (epoxides in flat rings).
bool first_bonds_are_flat(OBAtom& atom) {
  constexpr double kFlat = 0.1;
  std::vector<vector3> bonds;
  FOR_NBORS_OF_ATOM(neighbour, &atom) {
    if (bonds.size() < 3) bonds.push_back(neighbour->GetVector() - atom.GetVector());
  }
  return bonds.size() == 3 && !(std::abs(dot(bonds[0], cross(bonds[1], bonds[2]))) >= kFlat);
}

class SnapshotBuilder {
 public:
  SnapshotBuilder(Record& record, bool keep_hydrogens) : record_(record), mol_(record.mol), stereo_(&record.mol) {
    add_atoms(keep_hydrogens);
    add_bonds();
    result_.graph.index_neighbours();
    FOR_ATOMS_OF_MOL(atom, mol_) add_centre(*atom);
    add_rings();
    for (std::uint32_t i = 0; i < bonds_.size(); ++i) add_double_bond(*bonds_[i], i);
  }

  Snapshot take() { return std::move(result_); }

 private:
  void add_atoms(bool keep_hydrogens) {
    index_.assign(mol_.NumAtoms() + 1, kNoAtom);
    const bool from_marks = mol_.GetDimension() == 0;
    FOR_ATOMS_OF_MOL(atom, mol_) {
      if (!keep_hydrogens && folds(*atom, from_marks ? &stereo_ : nullptr)) continue;
      index_[atom->GetIdx()] = result_.graph.size();
      result_.source.push_back(atom->GetIdx());
      result_.graph.atoms.push_back({.atomic_number = static_cast<int>(atom->GetAtomicNum()),
                                     .charge = atom->GetFormalCharge(),
                                     .isotope = static_cast<int>(atom->GetIsotope()),
                                     .hydrogens = static_cast<int>(atom->GetImplicitHCount()),
                                     .aromatic = atom->IsAromatic(),
                                     .in_ring = atom->IsInRing()});
    }
  }

  void add_bonds() {
    for (OBBond* bond : bonds_in_record_order()) {
      const auto begin = index_[bond->GetBeginAtomIdx()], end = index_[bond->GetEndAtomIdx()];
      if (begin == kNoAtom || end == kNoAtom) {
        if (begin != end) ++result_.graph.atoms[begin == kNoAtom ? end : begin].hydrogens;
        continue;
      }
      bonds_.push_back(bond);
      result_.graph.bonds.push_back({.begin = begin,
                                     .end = end,
                                     .order = static_cast<int>(bond->GetBondOrder()),
                                     .aromatic = bond->IsAromatic(),
                                     .in_ring = bond->IsInRing()});
    }
    mark_either_bonds();
  }

  void mark_either_bonds() {
    for (const auto& [a, b] : record_.either_bonds) {
      if (a > mol_.NumAtoms() || b > mol_.NumAtoms()) continue;
      for (auto& bond : result_.graph.bonds) {
        const bool same = std::minmax(bond.begin, bond.end) == std::minmax(index_[a], index_[b]);
        if (same && bond.order == 2) bond.either = true;
      }
    }
  }

  /// Chirality codes refer to the order of an atom's bonds. RDKit has those of a SMILES in the order of the string,
  /// then the ring closures by their number; those of other formats as in the file.
  std::vector<OBBond*> bonds_in_record_order() {
    std::vector<OBBond*> bonds;
    FOR_BONDS_OF_MOL(bond, mol_) bonds.push_back(&*bond);
    if (record_.smiles.empty()) return bonds;
    auto closures = ring_closures(record_.smiles);
    std::stable_sort(closures.begin(), closures.end(),
                     [](const auto& a, const auto& b) { return a.number < b.number; });
    std::vector<std::pair<std::size_t, OBBond*>> keyed;
    for (OBBond* bond : bonds) {
      const auto begin = bond->GetBeginAtomIdx() - 1, end = bond->GetEndAtomIdx() - 1;
      const auto low = std::min(begin, end), high = std::max(begin, end);
      const auto closure = std::find_if(closures.begin(), closures.end(),
                                        [&](const auto& c) { return c.opened == low && c.closed == high; });
      const auto number = static_cast<std::size_t>(closure - closures.begin());
      keyed.emplace_back(closure == closures.end() ? high : mol_.NumAtoms() + number, bond);
    }
    std::stable_sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (std::size_t i = 0; i < keyed.size(); ++i) bonds[i] = keyed[i].second;
    return bonds;
  }

  std::uint32_t graph_atom(OBStereo::Ref id) const {
    const OBAtom* atom = id == OBStereo::ImplicitRef ? nullptr : mol_.GetAtomById(id);
    return atom ? index_[atom->GetIdx()] : kNoAtom;
  }

  void add_centre(OBAtom& atom) {
    if (index_[atom.GetIdx()] == kNoAtom || !stereo_.HasTetrahedralStereo(atom.GetId())) return;
    const auto config = stereo_.GetTetrahedralStereo(atom.GetId())->GetConfig(OBStereo::Clockwise, OBStereo::ViewFrom);
    if (!config.specified || config.winding == OBStereo::UnknownWinding || config.refs.size() != 3) return;
    if (mol_.GetDimension() == 3 && first_bonds_are_flat(atom)) return;
    const TetrahedralCentre centre{.centre = index_[atom.GetIdx()],
                                   .around = {graph_atom(config.from), graph_atom(config.refs[0]),
                                              graph_atom(config.refs[1]), graph_atom(config.refs[2])},
                                   .clockwise = true};
    if (std::count(centre.around.begin(), centre.around.end(), kNoAtom) <= 1) result_.graph.centres.push_back(centre);
  }

  /// Rings are wanted for one rule only, about nitrogen centres.
  void add_rings() {
    const auto& centres = result_.graph.centres;
    if (std::none_of(centres.begin(), centres.end(),
                     [&](auto& c) { return result_.graph.atoms[c.centre].atomic_number == 7; })) {
      return;
    }
    for (const OBRing* ring : mol_.GetSSSR()) {
      auto& atoms = result_.graph.rings.emplace_back();
      for (const int atom : ring->_path) atoms.push_back(index_[static_cast<std::size_t>(atom)]);
    }
  }

  /// A neighbour of `atom` in the graph other than `excluded`, with the id by which Open Babel's stereo data know it.
  std::pair<std::uint32_t, OBStereo::Ref> side_atom(std::uint32_t atom, std::uint32_t excluded) const {
    for (const auto& neighbour : result_.graph.neighbours(atom)) {
      if (neighbour.atom == excluded) continue;
      return {neighbour.atom, mol_.GetAtom(static_cast<int>(result_.source[neighbour.atom]))->GetId()};
    }
    return {kNoAtom, OBStereo::NoRef};
  }

  void add_double_bond(OBBond& bond, std::uint32_t index) {
    if (!stereo_.HasCisTransStereo(bond.GetId())) return;
    auto* geometry = stereo_.GetCisTransStereo(bond.GetId());
    if (!geometry->GetConfig().specified) return;
    const auto& graph_bond = result_.graph.bonds[index];
    const auto [begin, begin_id] = side_atom(graph_bond.begin, graph_bond.end);
    const auto [end, end_id] = side_atom(graph_bond.end, graph_bond.begin);
    if (begin == kNoAtom || end == kNoAtom) return;
    result_.graph.double_bonds.push_back(
        {.bond = index, .begin_side = begin, .end_side = end, .cis = geometry->IsCis(begin_id, end_id)});
  }

  Record& record_;
  OBMol& mol_;
  OBStereoFacade stereo_;
  std::vector<std::uint32_t> index_;  // Open Babel's atom index → graph atom
  std::vector<OBBond*> bonds_;        // of the graph's bonds
  Snapshot result_;
};

}  // namespace

Snapshot take_snapshot(Record& record, bool keep_hydrogens) {
  return SnapshotBuilder(record, keep_hydrogens).take();
}

}  // namespace moleblend::chemistry
