// Bemis–Murcko scaffolds against RDKit's, from its own features and from what Open Babel reads, and the canonical form of their keys.

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "io/graph/scaffold.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"
#include "tests/features/chemistry_test.h"
#include "tests/property/expected_scaffolds.h"

namespace moleblend {
namespace {

using testing::ExpectedScaffold;
using testing::scaffold_cases;
using testing::ScaffoldAgreement;

/// The molecule with its atoms and bonds in another order.
Molecule shuffled(const Molecule& molecule, std::uint64_t seed, std::vector<std::uint32_t>& place) {
  place.resize(molecule.size());
  std::iota(place.begin(), place.end(), 0);
  const auto by = [&](std::uint64_t salt) {
    return [=](std::uint32_t a, std::uint32_t b) { return molecule_key(seed, salt, a) < molecule_key(seed, salt, b); };
  };
  std::sort(place.begin(), place.end(), by(0));
  Molecule out;
  out.atoms.resize(molecule.size());
  for (std::size_t i = 0; i < molecule.size(); ++i) out.atoms[place[i]] = molecule.atoms[i];
  std::vector<std::uint32_t> bonds(molecule.bonds.size());
  std::iota(bonds.begin(), bonds.end(), 0);
  std::sort(bonds.begin(), bonds.end(), by(1));
  for (const std::uint32_t k : bonds) {
    Bond bond = molecule.bonds[k];
    bond.begin = place[bond.begin];
    bond.end = place[bond.end];
    if (k % 2) std::swap(bond.begin, bond.end);
    out.bonds.push_back(bond);
  }
  return out;
}

void expect_same_shuffled(const Molecule& molecule, const std::string& name) {
  const Scaffold plain = scaffold(molecule);
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    std::vector<std::uint32_t> place;
    const Scaffold other = scaffold(shuffled(molecule, seed, place));
    EXPECT_EQ(other.key, plain.key) << name;
    std::vector<std::uint32_t> moved;
    for (const std::uint32_t v : plain.atoms) moved.push_back(place[v]);
    std::sort(moved.begin(), moved.end());
    EXPECT_EQ(other.atoms, moved) << name;
  }
}

TEST(Scaffold, OfWhatCuttingCanDoIsRDKits) {
  const auto all = scaffold_cases();
  ASSERT_GT(all.size(), 100u);
  std::map<std::string, std::string> key_of, rdkit_of;
  for (const auto& [molecule, expected] : all) {
    const Scaffold got = scaffold(molecule);
    EXPECT_EQ(got.atoms, expected.atoms) << expected.smiles;
    EXPECT_EQ(got.key.empty(), expected.group.empty()) << expected.smiles;
    const auto& key = key_of.emplace(expected.group, got.key).first->second;
    EXPECT_EQ(key, got.key) << expected.smiles << " has RDKit's scaffold " << expected.group;
    const auto& group = rdkit_of.emplace(got.key, expected.group).first->second;
    EXPECT_EQ(group, expected.group) << expected.smiles << " has the key " << got.key;
    expect_same_shuffled(molecule, expected.smiles);
  }
}

TEST(Scaffold, OfHydrogensAsAtomsIsThatWithoutThem) {
  for (const auto& [molecule, expected] : scaffold_cases()) {
    Molecule full = molecule;
    for (std::uint32_t v = 0; v < molecule.size(); ++v) {
      for (; full.atoms[v][4] > 0; --full.atoms[v][4]) {
        full.bonds.push_back({v, static_cast<std::uint32_t>(full.size()), 0, 0, 0});
        full.atoms.push_back({0, 0, 1, 5, 0, 0, 5, 0, 0});
      }
    }
    const Scaffold with = scaffold(full), without = scaffold(molecule);
    EXPECT_EQ(with.atoms, without.atoms) << expected.smiles;
    EXPECT_EQ(with.key, without.key) << expected.smiles;
  }
}

TEST(Scaffold, SaysWhenABondLeadsNowhere) {
  Molecule molecule;
  molecule.atoms.resize(2, {5, 0, 1, 5, 3, 0, 2, 0, 0});
  molecule.bonds = {{0, 2, 0, 0, 0}};
  EXPECT_THROW(scaffold(molecule), Error);
}

const std::vector<testing::ExpectedMolecule>& moleculenet() {
  static const auto molecules = [] {
    const auto path = testing::data_folder("MOLEBLEND_FEATURES", "/../shared/golden/features") + "/smiles.tsv.gz";
    return std::filesystem::exists(path) ? testing::read_expected(path) : std::vector<testing::ExpectedMolecule>{};
  }();
  return molecules;
}

TEST(Scaffold, OfRDKitsFeaturesIsRDKits) {
  const auto& molecules = moleculenet();
  if (molecules.empty()) GTEST_SKIP() << "no smiles.tsv.gz; MOLEBLEND_FEATURES names its folder";
  const auto expected = testing::read_scaffolds("moleculenet_scaffolds.tsv.gz", false);
  ASSERT_EQ(molecules.size(), expected.size());
  ScaffoldAgreement agreement;
  for (std::size_t k = 0; k < molecules.size(); ++k) {
    if (!expected[k].known) continue;
    const Scaffold got = scaffold(molecules[k].atoms, molecules[k].bonds);
    agreement.add(k, molecules[k].smiles, got.atoms == expected[k].atoms, expected[k].group, got.key);
  }
  fmt::print("{} molecules, {} scaffolds: atoms {:.3f} %, classes {:.3f} %\n", agreement.total(), agreement.groups(),
             100 * agreement.atoms(), 100 * agreement.classes());
  EXPECT_EQ(agreement.atoms(), 1.0);
  EXPECT_EQ(agreement.classes(), 1.0);
}

class ScaffoldOfText : public testing::ChemistryTest {
 protected:
  /// Compares what Open Babel reads; `smiles` is empty where the table has it.
  static void compare(const std::vector<ExpectedScaffold>& expected, const std::vector<std::string>& smiles,
                      double goal) {
    ScaffoldAgreement agreement;
    for (std::size_t k = 0; k < expected.size(); ++k) {
      if (!expected[k].known) continue;
      const std::string& text = smiles.empty() ? expected[k].smiles : smiles[k];
      Scaffold got;
      try {
        got = scaffold(testing::chemistry().read("smi", text, {}, 1));
      } catch (const Rejected&) {
        continue;  // dummy atoms
      }
      agreement.add(k, text, got.atoms == expected[k].atoms, expected[k].group, got.key);
    }
    fmt::print("{} molecules, {} scaffolds: atoms {:.3f} %, classes {:.3f} %\n", agreement.total(), agreement.groups(),
               100 * agreement.atoms(), 100 * agreement.classes());
    EXPECT_GT(agreement.total(), 1000u);
    EXPECT_GE(agreement.atoms(), goal);
    EXPECT_GE(agreement.classes(), goal);
  }
};

TEST_F(ScaffoldOfText, OfTheExamplesIsRDKits) {
  compare(testing::read_scaffolds("example_scaffolds.tsv", true), {}, 1.0);
}

TEST_F(ScaffoldOfText, OfMoleculeNetIsRDKits) {
  if (moleculenet().empty()) GTEST_SKIP() << "no smiles.tsv.gz; MOLEBLEND_FEATURES names its folder";
  std::vector<std::string> smiles;
  for (const auto& molecule : moleculenet()) smiles.push_back(molecule.smiles);
  // Open Babel's aromaticity differs from RDKit's in rare ring systems, and with it their class.
  compare(testing::read_scaffolds("moleculenet_scaffolds.tsv.gz", false), smiles, 0.995);
}

TEST(Scaffold, IsTheSameInAnyOrderOfTheAtoms) {
  const auto& molecules = moleculenet();
  if (molecules.empty()) GTEST_SKIP() << "no smiles.tsv.gz; MOLEBLEND_FEATURES names its folder";
  for (std::size_t k = 0; k < molecules.size(); k += 7) {
    Molecule molecule;
    molecule.atoms = molecules[k].atoms;
    molecule.bonds = molecules[k].bonds;
    expect_same_shuffled(molecule, molecules[k].smiles);
  }
}

}  // namespace
}  // namespace moleblend
