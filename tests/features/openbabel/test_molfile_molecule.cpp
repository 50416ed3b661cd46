// The hybridisation that spares Open Babel its pattern matching is the one that it would have found.

#include <gtest/gtest.h>
#include <openbabel/atom.h>
#include <openbabel/obconversion.h>
#include <openbabel/obiter.h>

#include "io/chemistry/openbabel/molfile_molecule.h"

namespace moleblend::chemistry {
namespace {

std::vector<unsigned> hybridisations(OpenBabel::OBMol& mol) {
  std::vector<unsigned> values;
  FOR_ATOMS_OF_MOL(atom, mol) values.push_back(atom->GetHyb());
  return values;
}

TEST(MolfileMolecule, HasOpenBabelsHybridisation) {
  // Every rule: amides, anilines, imines, nitro groups, azides, nitriles, allenes, alkynes, furans, thiophenes, sulphoxides and
  // sulphones, thioketones, esters, acids and their ions, ozone, carbon monoxide, N-oxides, halogens with many neighbours, radicals.
  const char* all[] = {"CC(=O)N",
                       "CNC(C)=O",
                       "Nc1ccccc1",
                       "CN(C)c1ccncc1",
                       "C[N+](=O)[O-]",
                       "CN=[N+]=[N-]",
                       "N#CC#N",
                       "C=C=C",
                       "CC#CC=O",
                       "c1ccoc1",
                       "c1ccsc1C(=S)C",
                       "CS(=O)C",
                       "CS(=O)(=O)NC",
                       "COC(=O)C",
                       "CC(=O)[O-]",
                       "[O-]C([O-])C",
                       "[O-][O+]=O",
                       "[C-]#[O+]",
                       "[O-][n+]1ccccc1",
                       "OCl(=O)(=O)=O",
                       "FI(F)(F)(F)F",
                       "FS(F)(F)(F)(F)F",
                       "S=C=S",
                       "O=C=O",
                       "C=NO",
                       "CN=NC",
                       "CC(N)=NC",
                       "NC(=N)N",
                       "c1cc[nH]c1",
                       "Cn1cccc1",
                       "C1CC1",
                       "C[CH]C",
                       "[CH3]",
                       "[H][H]",
                       "O",
                       "CSSC",
                       "CC(=C)O",
                       "COC=C",
                       "c1ccc2c(c1)OCO2",
                       "O=C1C=CC(=O)N1",
                       "CNN",
                       "ON=O",
                       "CN1C=NC2=C1C(=O)N(C)C(=O)N2C",
                       "C=S",
                       "CC[N+](C)(C)C",
                       "C[NH3+]",
                       "N",
                       "[NH4+]",
                       "OO",
                       "N=[N+]=[N-]"};
  std::size_t atoms = 0;
  for (const char* smiles : all) {
    for (const bool hydrogens : {false, true}) {
      OpenBabel::OBConversion conversion;
      ASSERT_TRUE(conversion.SetInFormat("smi"));
      OpenBabel::OBMol mol;
      ASSERT_TRUE(conversion.ReadString(&mol, smiles)) << smiles;
      if (hydrogens) mol.AddHydrogens();
      mol.SetHybridizationPerceived(false);
      const std::vector<unsigned> expected = hybridisations(mol);
      mol.SetHybridizationPerceived(false);
      ASSERT_TRUE(assign_hybridisation(mol)) << smiles;
      EXPECT_EQ(hybridisations(mol), expected) << smiles << (hydrogens ? " with hydrogens" : "");
      atoms += expected.size();
    }
  }
  EXPECT_GT(atoms, 500u);
}

TEST(MolfileMolecule, LeavesOtherElementsToOpenBabel) {
  for (const char* smiles : {"CP(=O)(O)O", "C[Si](C)(C)C", "B(O)O", "[Na+].[Cl-]", "C[Se]C"}) {
    OpenBabel::OBConversion conversion;
    ASSERT_TRUE(conversion.SetInFormat("smi"));
    OpenBabel::OBMol mol;
    ASSERT_TRUE(conversion.ReadString(&mol, smiles));
    mol.SetHybridizationPerceived(false);
    EXPECT_FALSE(assign_hybridisation(mol)) << smiles;
    EXPECT_FALSE(mol.HasHybridizationPerceived()) << smiles;
  }
}

}  // namespace
}  // namespace moleblend::chemistry
