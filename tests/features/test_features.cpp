// OGB features against RDKit's, on thousands of real molecules where they are at hand and on a table in the clone.

#include <algorithm>
#include <filesystem>

#include "tests/features/chemistry_test.h"
#include "tests/features/expected_features.h"

namespace moleblend {
namespace {

using testing::Agreement;
using testing::chemistry;
using testing::ExpectedMolecule;

class Features : public testing::ChemistryTest {};

/// Share of atoms or bonds that must agree. Open Babel's aromaticity model differs from RDKit's in rare ring systems,
/// and what follows from it (hybridisation most of all) with it.
void expect_goals(const Agreement& agreement) {
  for (const auto& name : agreement.names()) {
    const double goal = name == "hybridisation" ? 0.998 : name.find(',') != std::string::npos ? 0.98 : 0.999;
    EXPECT_GE(agreement.fraction(name), goal) << name;
  }
}

void compare_smiles(const std::vector<ExpectedMolecule>& molecules, Agreement& agreement) {
  for (const auto& expected : molecules) {
    const auto is_dummy = [](const AtomCodes& atom) { return atom[0] == 118; };
    if (std::any_of(expected.atoms.begin(), expected.atoms.end(), is_dummy)) {
      EXPECT_THROW(chemistry().read("smi", expected.smiles, {}, 1), Rejected) << expected.smiles;
      continue;
    }
    try {
      agreement.compare(expected, chemistry().read("smi", expected.smiles, {}, 1), expected.smiles);
    } catch (const Rejected& reason) {
      agreement.miss(expected, reason.what(), expected.smiles);
    }
  }
}

TEST_F(Features, OfCommonMoleculesAreRDKits) {
  const auto molecules = testing::read_expected(std::string(MOLEBLEND_SOURCE_DIR) + "/tests/features/data/own.tsv");
  ASSERT_GT(molecules.size(), 60u);
  Agreement agreement;
  compare_smiles(molecules, agreement);
  agreement.print(fmt::format("{} common molecules", molecules.size()));
  for (const auto& name : agreement.names()) {
    // The cyclopropenylium ion is aromatic to RDKit, not to Open Babel; everything else must be equal.
    const bool by_aromaticity = name == "aromatic" || name == "bond type";
    EXPECT_GE(agreement.fraction(name), by_aromaticity ? 0.994 : 1.0) << name;
  }
}

TEST_F(Features, OfSmilesAgreeWithRDKit) {
  const auto path = testing::data_folder("MOLEBLEND_FEATURES", "/../shared/golden/features") + "/smiles.tsv.gz";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there; MOLEBLEND_FEATURES names its folder";
  const auto molecules = testing::read_expected(path);
  ASSERT_GT(molecules.size(), 1000u);
  Agreement agreement;
  compare_smiles(molecules, agreement);
  agreement.print(fmt::format("{} molecules from SMILES", molecules.size()));
  expect_goals(agreement);
}

TEST_F(Features, OfPositionsAgreeWithRDKit) {
  const auto path = testing::data_folder("MOLEBLEND_FEATURES", "/../shared/golden/features") + "/pcqm4mv2_sdf.tsv.gz";
  const auto sdf =
      testing::data_folder("MOLEBLEND_DATA", "/../shared/data") + "/pcqm4mv2/pcqm4m-v2-train-sample.sdf.gz";
  if (!std::filesystem::exists(path) || !std::filesystem::exists(sdf)) {
    GTEST_SKIP() << path << " or " << sdf << " is not there; MOLEBLEND_FEATURES and MOLEBLEND_DATA name their folders";
  }
  const auto molecules = testing::read_expected(path);
  ASSERT_GT(molecules.size(), 100u);
  const auto text = testing::read_text(sdf);
  Agreement agreement;
  std::size_t begin = 0;
  for (const auto& expected : molecules) {
    const auto end = text.find("$$$$\n", begin) + 5;
    try {
      const auto molecule = chemistry().read("sdf", std::string_view(text).substr(begin, end - begin), {}, 1);
      EXPECT_EQ(molecule.identifier, expected.smiles);
      EXPECT_EQ(molecule.conformer_source, ConformerSource::file);
      EXPECT_EQ(molecule.positions.size(), 3 * molecule.size());
      agreement.compare(expected, molecule, expected.smiles + " " + molecule.smiles);
    } catch (const Rejected& reason) {
      agreement.miss(expected, reason.what(), expected.smiles);
    }
    begin = end;
  }
  agreement.print(fmt::format("{} molecules from SDF with positions", molecules.size()));
  expect_goals(agreement);
}

}  // namespace
}  // namespace moleblend
