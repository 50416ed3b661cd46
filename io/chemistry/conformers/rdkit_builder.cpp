// RDKit's ETKDG distance geometry (Riniker and Landrum 2015), then MMFF94 (UFF where MMFF94 has no parameters).
// The molecule is made from the graph, atom by atom, so that the order of atoms is the graph's.

#include <GraphMol/DistGeomHelpers/Embedder.h>
#include <GraphMol/ForceFieldHelpers/MMFF/MMFF.h>
#include <GraphMol/ForceFieldHelpers/UFF/UFF.h>
#include <GraphMol/MolOps.h>
#include <GraphMol/RWMol.h>
#include <RDGeneral/versions.h>
#include <fmt/format.h>

#include "io/chemistry/conformers/conformers.h"
#include "io/chemistry/rules/rules.h"

namespace moleblend::chemistry {
namespace {

using namespace RDKit;

RDKit::Bond::BondType bond_type(int order) {
  switch (order) {
    case 1:
      return RDKit::Bond::SINGLE;
    case 2:
      return RDKit::Bond::DOUBLE;
    case 3:
      return RDKit::Bond::TRIPLE;
    case 4:
      return RDKit::Bond::QUADRUPLE;
    default:
      return RDKit::Bond::ZERO;
  }
}

void add_atoms(const MolecularGraph& graph, RWMol& mol) {
  for (const auto& from : graph.atoms) {
    auto atom = std::make_unique<Atom>(from.atomic_number);
    atom->setFormalCharge(from.charge);
    atom->setIsotope(static_cast<unsigned>(from.isotope));
    atom->setNoImplicit(true);
    atom->setNumExplicitHs(static_cast<unsigned>(from.hydrogens));
    atom->setNumRadicalElectrons(static_cast<unsigned>(from.radicals));
    mol.addAtom(atom.release(), false, true);
  }
}

/// Chirality codes refer to the order of bonds, which is the same here and there.
void add_bonds_and_stereo(const MolecularGraph& graph, RWMol& mol) {
  for (const auto& bond : graph.bonds) mol.addBond(bond.begin, bond.end, bond_type(bond.order));
  for (const auto& centre : graph.centres) {
    const auto code = chirality_code(graph, centre);
    if (code == 0) continue;
    mol.getAtomWithIdx(centre.centre)->setChiralTag(code == 1 ? Atom::CHI_TETRAHEDRAL_CW : Atom::CHI_TETRAHEDRAL_CCW);
  }
  for (const auto& geometry : graph.double_bonds) {
    auto* bond = mol.getBondWithIdx(geometry.bond);
    bond->setStereoAtoms(geometry.begin_side, geometry.end_side);
    bond->setStereo(geometry.cis ? RDKit::Bond::STEREOCIS : RDKit::Bond::STEREOTRANS);
  }
}

class RDKitBuilder : public ConformerBuilder {
 public:
  std::string prepare(Record&, const Snapshot& snapshot) override {
    atoms_ = snapshot.graph.size();
    mol_ = std::make_unique<RWMol>();
    try {
      add_atoms(snapshot.graph, *mol_);
      add_bonds_and_stereo(snapshot.graph, *mol_);
      MolOps::sanitizeMol(*mol_);
      MolOps::addHs(*mol_);
    } catch (const std::exception& error) {
      return fmt::format("it refuses the molecule, {}", error.what());
    }
    bonds_.clear();
    for (const auto* bond : mol_->bonds()) bonds_.emplace_back(bond->getBeginAtomIdx(), bond->getEndAtomIdx());
    return {};
  }

  std::vector<Point> build(std::uint64_t seed, int force_field_steps) override {
    try {
      auto parameters = DGeomHelpers::ETKDGv3;
      parameters.randomSeed = static_cast<int>(seed & 0x7fffffff);  // negative: from the clock
      parameters.numThreads = 1;
      parameters.maxIterations =
          8;  // what has not embedded by then has impossible stereo; the default tries 10 times an atom
      RWMol mol(*mol_);
      if (DGeomHelpers::EmbedMolecule(mol, parameters) < 0) {
        parameters.useRandomCoords = true;  // helps where the metric matrix has no good start: cages, many rings
        if (DGeomHelpers::EmbedMolecule(mol, parameters) < 0) return {};
      }
      if (force_field_steps > 0) minimise(mol, force_field_steps);
      std::vector<Point> positions;
      for (const auto& p : mol.getConformer().getPositions()) positions.push_back({p.x, p.y, p.z});
      separate_fragments(positions, bonds_);
      positions.resize(atoms_);  // hydrogens that were added stand last
      return positions;
    } catch (const std::exception&) {
      return {};
    }
  }

 private:
  static void minimise(RWMol& mol, int steps) {
    if (MMFF::MMFFMolProperties(mol).isValid()) {
      MMFF::MMFFOptimizeMolecule(mol, steps);
    } else {
      UFF::UFFOptimizeMolecule(mol, steps);
    }
  }

  std::unique_ptr<RWMol> mol_;  // with hydrogens
  std::size_t atoms_ = 0;       // of the graph
  std::vector<std::pair<std::uint32_t, std::uint32_t>> bonds_;
};

}  // namespace

std::unique_ptr<ConformerBuilder> make_rdkit_builder() {
  return std::make_unique<RDKitBuilder>();
}
std::string rdkit_name() {
  return std::string("RDKit ") + rdkitVersion;
}

}  // namespace moleblend::chemistry
