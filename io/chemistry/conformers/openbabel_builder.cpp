// Open Babel's fragment-based builder, then MMFF94 (UFF where MMFF94 has no parameters).

#include <cstdlib>
#include <map>
#include <string>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <openbabel/atom.h>
#include <openbabel/bond.h>
#include <openbabel/builder.h>
#include <openbabel/forcefield.h>
#include <openbabel/obconversion.h>
#include <openbabel/obiter.h>

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

class OpenBabelBuilder : public ConformerBuilder {
 public:
  std::string prepare(Record& record, const Snapshot& snapshot) override {
    source_ = &snapshot.source;
    start_ = record.mol;
    // Flat or given coordinates must not leak into what is built.
    FOR_ATOMS_OF_MOL(atom, start_) atom->SetVector(0, 0, 0);
    start_.SetDimension(0);
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
