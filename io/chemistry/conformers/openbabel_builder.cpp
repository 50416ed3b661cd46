// Open Babel's fragment-based builder, then MMFF94 (UFF where MMFF94 has no parameters).
//
// Two things in Open Babel 3.1.1 would let what a process read before decide what it builds; both are undone here:
// * Its SMILES reader adds stereocentres in the order of their atoms' addresses, and the builder corrects them in that order: each
//   correction turns a part of the molecule, so another order gives another geometry.
// * Its force fields keep the terms of the molecule before if the new one has the same elements, degrees and bond orders in the same
//   order. That holds for stereoisomers, and for isomers with other neighbours too.

#include <algorithm>
#include <cstdlib>
#include <string>
#include <tuple>
#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <openbabel/atom.h>
#include <openbabel/bond.h>
#include <openbabel/builder.h>
#include <openbabel/forcefield.h>
#include <openbabel/obconversion.h>
#include <openbabel/obiter.h>
#include <openbabel/stereo/cistrans.h>
#include <openbabel/stereo/squareplanar.h>
#include <openbabel/stereo/stereo.h>
#include <openbabel/stereo/tetrahedral.h>

#include "io/chemistry/conformers/conformers.h"
#include "io/support/error.h"

namespace moleblend::chemistry {
namespace {

using namespace OpenBabel;

/// Open Babel's force fields use OpenMP; its threads would make sums depend on their number and hang a later fork.
class OneThread {
 public:
#ifdef _OPENMP
  OneThread() {
    omp_set_num_threads(1);
  }
  ~OneThread() {
    omp_set_num_threads(before_);
  }

 private:
  int before_ = omp_get_max_threads();
#endif
};

/// Kind, then the atoms that it is about.
using StereoPlace = std::tuple<int, OBStereo::Ref, OBStereo::Ref>;

StereoPlace place_of(OBGenericData& data) {
  auto& stereo = dynamic_cast<OBStereoBase&>(data);
  const int kind = stereo.GetType();
  if (auto* centre = dynamic_cast<OBTetrahedralStereo*>(&stereo)) return {kind, centre->GetConfig().center, 0};
  if (auto* plane = dynamic_cast<OBSquarePlanarStereo*>(&stereo)) return {kind, plane->GetConfig().center, 0};
  if (auto* bond = dynamic_cast<OBCisTransStereo*>(&stereo)) {
    const auto config = bond->GetConfig();
    return {kind, config.begin, config.end};
  }
  return {kind, 0, 0};
}

/// The builder's result depends on the order of the stereo data; this one is the molecule's own.
void order_stereo_by_atoms(OBMol& mol) {
  std::vector<std::pair<StereoPlace, OBGenericData*>> ordered;
  for (auto* data : mol.GetAllData(OBGenericDataType::StereoData)) {
    auto* copy = data->Clone(&mol);  // the molecule frees what is deleted from it
    if (copy) ordered.emplace_back(place_of(*copy), copy);
  }
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  mol.DeleteData(OBGenericDataType::StereoData);
  for (const auto& [place, data] : ordered) mol.SetData(data);
}

/// A molecule that no other is taken for: one atom of helium, at the origin.
OBMol helium() {
  OBMol mol;
  mol.BeginModify();
  mol.NewAtom()->SetAtomicNum(2);
  mol.EndModify();
  return mol;
}

class OpenBabelBuilder : public ConformerBuilder {
 public:
  std::string prepare(Record& record, const Snapshot& snapshot) override {
    source_ = &snapshot.source;
    start_ = record.mol;
    // Flat or given coordinates must not leak into what is built.
    FOR_ATOMS_OF_MOL(atom, start_) atom->SetVector(0, 0, 0);
    start_.SetDimension(0);
    order_stereo_by_atoms(start_);
    return {};
  }

  std::vector<Point> build(std::uint64_t seed, int force_field_steps) override {
    std::srand(static_cast<unsigned>(seed));
    OBMol mol = start_;
    OBBuilder builder;
    if (!builder.Build(mol, false)) return {};
    mol.SetDimension(3);
    mol.AddHydrogens();
    move_fragments_apart(mol);
    if (force_field_steps > 0) minimise(mol, force_field_steps);
    std::vector<Point> positions;
    for (const unsigned atom : *source_) {
      const auto& p = mol.GetAtom(static_cast<int>(atom))->GetVector();
      positions.push_back({p.x(), p.y(), p.z()});
    }
    return positions;
  }

 private:
  void move_fragments_apart(OBMol& mol) {
    std::vector<Point> positions;
    FOR_ATOMS_OF_MOL(atom, mol) positions.push_back({atom->GetX(), atom->GetY(), atom->GetZ()});
    std::vector<std::pair<std::uint32_t, std::uint32_t>> bonds;
    FOR_BONDS_OF_MOL(bond, mol) bonds.emplace_back(bond->GetBeginAtomIdx() - 1, bond->GetEndAtomIdx() - 1);
    separate_fragments(positions, bonds);
    FOR_ATOMS_OF_MOL(atom, mol) {
      const auto& p = positions[atom->GetIdx() - 1];
      atom->SetVector(p.x, p.y, p.z);
    }
  }

  void minimise(OBMol& mol, int steps) {
    const OneThread guard;
    for (auto* field : {&mmff94_, &uff_}) {
      field->SetLogLevel(OBFF_LOGLVL_NONE);
      // Whatever comes after helium is set up anew. Whether the field has parameters for helium doesn't matter.
      field->Setup(helium_);
      if (!field->Setup(mol)) continue;
      field->ConjugateGradients(steps);
      field->GetCoordinates(mol);
      return;
    }
  }

  /// Open Babel's registered instance. An instance of our own would have to be destroyed, and the destructor of one that was never
  /// set up frees a pointer it never set (3.1.1).
  static OBForceField& registered(const char* name) {
    const OBConversion loads_plugins;
    // Not OBForceField::FindForceField: it is inline and looks into a list that this library has a hidden, empty copy of.
    auto* field = dynamic_cast<OBForceField*>(OBPlugin::GetPlugin("forcefields", name));
    if (!field) {
      throw Error(
          "Open Babel has no force field {}: its plug-ins are not found; set BABEL_LIBDIR to their folder, or install "
          "libopenbabel7 again",
          name);
    }
    return *field;
  }

  OBMol helium_ = helium();
  OBForceField& mmff94_ = registered("MMFF94");
  OBForceField& uff_ = registered("UFF");
  OBMol start_;  // as read, without coordinates
  const std::vector<unsigned>* source_ = nullptr;
};

}  // namespace

std::unique_ptr<ConformerBuilder> make_openbabel_builder() {
  return std::make_unique<OpenBabelBuilder>();
}

#ifndef MOLEBLEND_WITH_RDKIT
std::unique_ptr<ConformerBuilder> make_rdkit_builder() {
  return nullptr;
}
std::string rdkit_name() {
  return {};
}
#endif

}  // namespace moleblend::chemistry
