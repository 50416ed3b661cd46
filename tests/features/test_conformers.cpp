// Conformers: the checks of a geometry on made-up ones, then both engines.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <numbers>

#include "io/chemistry/rules/geometry.h"
#include "tests/features/chemistry_test.h"

namespace moleblend {
namespace {

using chemistry::geometry_fault;
using chemistry::kNoAtom;
using chemistry::MolecularGraph;
using chemistry::Point;

class Conformers : public testing::ChemistryTest {};

ReadOptions with_conformers(int count, ConformerEngine engine = ConformerEngine::openbabel) {
  ReadOptions options;
  options.conformers.count = count;
  options.conformers.engine = engine;
  return options;
}

/// CHFClBr without its hydrogen: F looks at the viewer, Cl and Br and the hydrogen run clockwise behind.
struct Methane {
  MolecularGraph graph;
  std::vector<Point> positions;
  Methane() {
    graph.atoms = {
        {.atomic_number = 6, .hydrogens = 1}, {.atomic_number = 9}, {.atomic_number = 17}, {.atomic_number = 35}};
    graph.bonds = {{.begin = 0, .end = 1}, {.begin = 0, .end = 2}, {.begin = 0, .end = 3}};
    graph.centres = {{.centre = 0, .around = {1, 2, 3, kNoAtom}, .clockwise = true}};
    graph.index_neighbours();
    const double down = -1.0 / 3, out = std::sqrt(8.0) / 3;
    const auto behind = [&](double degrees, double length) {
      const double angle = degrees * std::numbers::pi / 180;
      return Point{length * out * std::cos(angle), length * out * std::sin(angle), length * down};
    };
    positions = {{0, 0, 0}, {0, 0, 1.35}, behind(90, 1.75), behind(-30, 1.93)};
  }
};

TEST(GeometryCheck, PassesARealOne) {
  const Methane m;
  EXPECT_EQ(geometry_fault(m.graph, m.positions), "");
}

TEST(GeometryCheck, TheOrderOfWritingDownACentreDoesNotMatter) {
  Methane m;
  m.graph.centres[0] = {.centre = 0, .around = {kNoAtom, 1, 2, 3}, .clockwise = false};
  EXPECT_EQ(geometry_fault(m.graph, m.positions), "");
  m.graph.centres[0].clockwise = true;
  EXPECT_NE(geometry_fault(m.graph, m.positions), "");
}

TEST(GeometryCheck, FindsTheMirrorImage) {
  Methane m;
  for (auto& p : m.positions) p.x = -p.x;
  EXPECT_NE(geometry_fault(m.graph, m.positions).find("wrong handedness"), std::string::npos);
}

TEST(GeometryCheck, FindsAFlatCentre) {
  Methane m;
  m.positions = {{0, 0, 0}, {0, 1.35, 0}, {1.5, -0.8, 0}, {-1.6, -0.9, 0}};
  EXPECT_NE(geometry_fault(m.graph, m.positions).find("flat"), std::string::npos);
}

TEST(GeometryCheck, FindsClashesBrokenBondsAndNoNumbers) {
  Methane m;
  m.positions[2] = {0.1, 0, 1.3};
  EXPECT_NE(geometry_fault(m.graph, m.positions).find("apart"), std::string::npos);
  m = {};
  m.positions[3] = {2.5, -1.5, -1};
  EXPECT_NE(geometry_fault(m.graph, m.positions).find("long"), std::string::npos);
  m = {};
  m.positions[1].y = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(geometry_fault(m.graph, m.positions).find("finite"), std::string::npos);
  m = {};
  m.positions.pop_back();
  EXPECT_NE(geometry_fault(m.graph, m.positions), "");
}

TEST(GeometryCheck, FindsTransInsteadOfCisAndATwist) {
  MolecularGraph graph;
  graph.atoms = {{.atomic_number = 9},
                 {.atomic_number = 6, .hydrogens = 1},
                 {.atomic_number = 6, .hydrogens = 1},
                 {.atomic_number = 9}};
  graph.bonds = {{.begin = 0, .end = 1}, {.begin = 1, .end = 2, .order = 2}, {.begin = 2, .end = 3}};
  graph.double_bonds = {{.bond = 1, .begin_side = 0, .end_side = 3, .cis = true}};
  graph.index_neighbours();
  const std::vector<Point> cis = {{-0.7, 1.2, 0}, {0, 0, 0}, {1.33, 0, 0}, {2.03, 1.2, 0}};
  EXPECT_EQ(geometry_fault(graph, cis), "");
  auto trans = cis;
  trans[3].y = -1.2;
  EXPECT_NE(geometry_fault(graph, trans).find("trans instead of cis"), std::string::npos);
  auto twisted = cis;
  twisted[3] = {2.03, 0, 1.2};
  EXPECT_NE(geometry_fault(graph, twisted).find("twisted"), std::string::npos);
}

TEST(Fragments, AreMovedApart) {
  std::vector<Point> positions = {{0, 0, 0}, {0.2, 0, 0}, {1.5, 0, 0}, {0.1, 1, 0}};
  const std::vector<std::pair<std::uint32_t, std::uint32_t>> bonds = {{0, 2}, {1, 3}};
  const auto before = positions;
  chemistry::separate_fragments(positions, bonds);
  EXPECT_EQ(positions[0].x, before[0].x);
  EXPECT_EQ(positions[2].x, before[2].x);
  EXPECT_NEAR(positions[3].x, 1.5 + 4, 1e-12);
  EXPECT_NEAR(positions[1].x - positions[3].x, before[1].x - before[3].x, 1e-12);
}

const char* const kStereo[] = {"C[C@H](N)C(=O)O",
                               "C[C@@H](N)C(=O)O",
                               "F/C=C/Cl",
                               "F/C=C\\Cl",
                               "CC(=O)O[C@@H]1CC[C@H](C)C[C@@H]1C(C)C",
                               "O=C(O)/C=C\\C(=O)O",
                               "C[S@](=O)c1ccccc1",
                               "N[C@@H](Cc1ccccc1)C(=O)N[C@H](C)C(=O)O",
                               "C[C@]12CC[C@H]3[C@@H](CCc4cc(O)ccc43)[C@@H]1CC[C@@H]2O",
                               "CC(=O)Oc1ccccc1C(=O)O",
                               "[Na+].CC(=O)[O-]"};

class Engines : public ::testing::TestWithParam<ConformerEngine> {
 protected:
  void SetUp() override {
    if (!testing::kWithOpenBabel) GTEST_SKIP() << "this build has no Open Babel";
    if (!testing::chemistry().has_engine(GetParam())) GTEST_SKIP() << "this build has no RDKit";
  }
};

/// Written to SDF and read back, the conformer must be the molecule that was asked for: an independent way to see its stereo.
std::string as_sdf(const Molecule& m, std::size_t conformer) {
  std::string text = fmt::format("\n\n\n{:3d}{:3d}  0  0  0  0  0  0  0  0999 V2000\n", m.size(), m.bonds.size());
  static const std::map<int, const char*> symbols = {{1, "H"}, {6, "C"},   {7, "N"},  {8, "O"},
                                                     {9, "F"}, {11, "Na"}, {16, "S"}, {17, "Cl"}};
  std::string charges;
  for (std::size_t i = 0; i < m.size(); ++i) {
    const float* p = &m.positions[3 * (conformer * m.size() + i)];
    text += fmt::format("{:10.4f}{:10.4f}{:10.4f} {:<3} 0  0  0  0  0  0\n", p[0], p[1], p[2],
                        symbols.at(m.atoms[i][0] + 1));
    if (m.atoms[i][3] != 5) charges += fmt::format("M  CHG  1 {:3d} {:3d}\n", i + 1, m.atoms[i][3] - 5);
  }
  for (const auto& b : m.bonds)
    text += fmt::format("{:3d}{:3d}{:3d}  0\n", b.begin + 1, b.end + 1, b.type == 3 ? 4 : b.type + 1);
  return text + charges + "M  END\n$$$$\n";
}

TEST_P(Engines, KeepTheStereoOfTheSmiles) {
  auto options = with_conformers(2, GetParam());
  options.conformers.fallback = false;
  options.conformers.required = true;
  for (const auto* smiles : kStereo) {
    // Fused stereo centres are what Open Babel's builder gets wrong; it must say so, not hand out another molecule.
    const bool may_fail = GetParam() == ConformerEngine::openbabel && std::string(smiles).size() > 45;
    Molecule built;
    try {
      built = testing::chemistry().read("smi", smiles, options, 7);
    } catch (const Rejected& reason) {
      EXPECT_TRUE(may_fail) << smiles << ": " << reason.what();
      continue;
    }
    EXPECT_EQ(built.conformers, 2u) << smiles;
    ASSERT_EQ(built.positions.size(), 2 * 3 * built.size()) << smiles;
    EXPECT_EQ(built.conformer_source,
              GetParam() == ConformerEngine::openbabel ? ConformerSource::openbabel : ConformerSource::rdkit);
    const auto plain = testing::chemistry().read("smi", smiles, {}, 7);
    for (std::size_t conformer = 0; conformer < 2; ++conformer) {
      const auto back = testing::chemistry().read("sdf", as_sdf(built, conformer), {}, 7);
      ASSERT_EQ(back.size(), plain.size()) << smiles;
      std::size_t centres = 0, wrong = 0;
      // Bonds are written in the order that chirality codes refer to, so codes can be compared as they are.
      for (std::size_t i = 0; i < plain.size(); ++i) {
        if (plain.atoms[i][1] == 0) continue;
        ++centres;
        wrong += back.atoms[i][1] != plain.atoms[i][1];
      }
      for (std::size_t b = 0; b < plain.bonds.size(); ++b) {
        if (plain.bonds[b].stereo == 0) continue;
        EXPECT_EQ(back.bonds[b].stereo, plain.bonds[b].stereo) << smiles;
      }
      EXPECT_EQ(wrong, 0u) << smiles << ", of " << centres;
    }
  }
}

TEST_P(Engines, AreDecidedBySeedAlone) {
  const auto options = with_conformers(2, GetParam());
  const auto read = [&](const char* smiles, std::uint64_t seed) {
    return testing::chemistry().read("smi", smiles, options, seed);
  };
  const auto a = read("CCCCO", 1), b = read("C[C@H](N)C(=O)OCC", 2);
  // The other way round, with something else between, and in a new Chemistry.
  const auto b_again = read("C[C@H](N)C(=O)OCC", 2);
  read("OC1CCCCC1N", 3);
  const auto a_again = load_chemistry()->read("smi", "CCCCO", options, 1);
  EXPECT_EQ(a, a_again);
  EXPECT_EQ(a, read("CCCCO", 1));  // twice in a row: Open Babel's force field keeps the last molecule's set-up
  EXPECT_EQ(b, b_again);
  EXPECT_NE(a.positions, read("CCCCO", 2).positions);
  const auto half = a.positions.size() / 2;
  EXPECT_FALSE(std::equal(a.positions.begin(), a.positions.begin() + static_cast<std::ptrdiff_t>(half),
                          a.positions.begin() + static_cast<std::ptrdiff_t>(half)));
}

/// Every bit of the conformers of two molecules, read in the given order, as text.
std::string conformer_bits(ConformerEngine engine, bool reversed) {
  const auto options = with_conformers(2, engine);
  const char* const smiles[] = {"CCCCO", "C[C@H](N)C(=O)OC1CCCCC1"};
  std::string bits[2];
  for (const std::size_t i : reversed ? std::array<std::size_t, 2>{1, 0} : std::array<std::size_t, 2>{0, 1}) {
    for (const float x : testing::chemistry().read("smi", smiles[i], options, 11 + i).positions)
      bits[i] += fmt::format("{:a} ", x);
  }
  return bits[0] + bits[1];
}

// Run by the test below in a process of its own.
TEST_F(Conformers, DISABLED_PrintBits) {
  for (const auto engine : {ConformerEngine::openbabel, ConformerEngine::rdkit}) {
    if (testing::chemistry().has_engine(engine))
      fmt::print("bits {} {}\n", static_cast<int>(engine), conformer_bits(engine, true));
  }
}

TEST_P(Engines, GiveTheSameBitsInAFreshProcess) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
  const auto command = "'" + program + "' --gtest_also_run_disabled_tests --gtest_filter=Conformers.DISABLED_PrintBits";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  ASSERT_TRUE(pipe);
  std::string output;
  std::array<char, 4096> block{};
  while (const auto count = std::fread(block.data(), 1, block.size(), pipe.get())) output.append(block.data(), count);
  const auto mine = conformer_bits(GetParam(), false);
  EXPECT_GT(mine.size(), 500u);
  EXPECT_NE(output.find(fmt::format("bits {} {}\n", static_cast<int>(GetParam()), mine)), std::string::npos) << output;
}

TEST_P(Engines, KeepHydrogensOnRequest) {
  auto options = with_conformers(1, GetParam());
  options.keep_hydrogens = true;
  const auto methanol = testing::chemistry().read("smi", "CO", options, 1);
  ASSERT_EQ(methanol.size(), 6u);
  ASSERT_EQ(methanol.positions.size(), 18u);
  for (const auto& bond : methanol.bonds) {
    double square = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      const double d = methanol.positions[3 * bond.begin + k] - methanol.positions[3 * bond.end + k];
      square += d * d;
    }
    EXPECT_GT(square, 0.81);  // 0.96 Å is the O–H bond, 1.42 Å the C–O bond
    EXPECT_LT(square, 2.25);
  }
}

INSTANTIATE_TEST_SUITE_P(Both, Engines, ::testing::Values(ConformerEngine::openbabel, ConformerEngine::rdkit),
                         [](const auto& engine) {
                           return engine.param == ConformerEngine::openbabel ? "OpenBabel" : "RDKit";
                         });

TEST_F(Conformers, FallBackWhereOpenBabelGetsTheStereoWrong) {
  if (!testing::chemistry().has_engine(ConformerEngine::rdkit)) GTEST_SKIP() << "this build has no RDKit";
  const auto morphine = testing::chemistry().read("smi", "CN1CC[C@]23c4c5ccc(O)c4O[C@H]2[C@@H](O)C=C[C@H]3[C@H]1C5",
                                                  with_conformers(1), 1);
  EXPECT_EQ(morphine.conformers, 1u);
}

TEST_F(Conformers, ImpossibleMoleculesStayWithoutUnlessRequired) {
  // Both bridgeheads of a two-atom bridge point away from each other in this spelling, as some data sets have it.
  const char* const impossible = "C[NH+]1[C@@H]2CC[C@@H]1CC(C2)O";
  auto options = with_conformers(1);
  options.conformers.attempts = 1;
  const auto molecule = testing::chemistry().read("smi", impossible, options, 1);
  EXPECT_EQ(molecule.conformers, 0u);
  EXPECT_EQ(molecule.conformer_source, ConformerSource::none);
  EXPECT_TRUE(molecule.positions.empty());
  options.conformers.required = true;
  EXPECT_THROW(testing::chemistry().read("smi", impossible, options, 1), Rejected);
}

}  // namespace
}  // namespace moleblend
