// Records of several formats, what is refused and why, and where positions come from.

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "io/support/error.h"
#include "tests/features/chemistry_test.h"
#include "tests/features/expected_features.h"

namespace moleblend {
namespace {

using testing::chemistry;

class Reading : public testing::ChemistryTest {};
class Streams : public testing::ChemistryTest {};
class Plugin : public testing::ChemistryTest {};

std::string reason(std::string_view format, std::string_view text, const ReadOptions& options = {}) {
  try {
    chemistry().read(format, text, options, 1);
  } catch (const Rejected& rejected) {
    return rejected.what();
  }
  return "accepted";
}

#define EXPECT_REASON(text, words) EXPECT_NE((text).find(words), std::string::npos) << (text)

/// Methanol with positions; the header says 3D.
const std::string kMethanol =
    "methanol\n     test          3D\n\n"
    "  6  5  0  0  0  0  0  0  0  0999 V2000\n"
    "    0.0000    0.0000    0.0000 C   0  0\n"
    "    1.4200    0.0000    0.0000 O   0  0\n"
    "   -0.3600    1.0300    0.0000 H   0  0\n"
    "   -0.3600   -0.5100    0.8900 H   0  0\n"
    "   -0.3600   -0.5100   -0.8900 H   0  0\n"
    "    1.7400    0.9000    0.0000 H   0  0\n"
    "  1  2  1  0\n  1  3  1  0\n  1  4  1  0\n  1  5  1  0\n  2  6  1  0\nM  END\n";

TEST_F(Reading, SmilesAndItsName) {
  const auto plain = chemistry().read("smi", "CCO", {}, 1);
  EXPECT_EQ(plain.identifier, "");
  EXPECT_EQ(plain.smiles, "CCO");
  EXPECT_EQ(plain.size(), 3u);
  EXPECT_EQ(plain.bonds.size(), 2u);
  EXPECT_EQ(plain.conformers, 0u);
  EXPECT_EQ(plain.conformer_source, ConformerSource::none);
  EXPECT_EQ(chemistry().read("smi", "CCO grain alcohol\n", {}, 1).identifier, "grain alcohol");
  EXPECT_EQ(chemistry().read("smi", "CCO\tZINC1\t-0.31", {}, 1).identifier, "ZINC1");
  EXPECT_EQ(chemistry().read("smi", "CCO |(0,0,;1,0,;2,0,)| ethanol", {}, 1).identifier, "ethanol");
  EXPECT_EQ(chemistry().read("smi", "CCO |(0,0,;1,0,;2,0,)|", {}, 1).identifier, "");
}

TEST_F(Reading, PositionsOfAFile) {
  const auto molecule = chemistry().read("sdf", kMethanol, {}, 1);
  EXPECT_EQ(molecule.identifier, "methanol");
  EXPECT_EQ(molecule.smiles, "CO");
  EXPECT_EQ(molecule.conformer_source, ConformerSource::file);
  EXPECT_EQ(molecule.conformers, 1u);
  EXPECT_EQ(molecule.positions, (std::vector<float>{0, 0, 0, 1.42F, 0, 0}));
  EXPECT_EQ(molecule.atoms[0][4], 3);  // folded hydrogens are counted

  ReadOptions all;
  all.keep_hydrogens = true;
  const auto with_hydrogens = chemistry().read("sdf", kMethanol, all, 1);
  EXPECT_EQ(with_hydrogens.size(), 6u);
  EXPECT_EQ(with_hydrogens.positions.size(), 18u);
  EXPECT_EQ(with_hydrogens.atoms[0][4], 0);  // they are atoms now, as OGB counts them
  EXPECT_EQ(with_hydrogens.atoms[0][2], 4);

  ReadOptions graph_only;
  graph_only.use_positions = false;
  EXPECT_EQ(chemistry().read("sdf", kMethanol, graph_only, 1).conformers, 0u);
}

TEST_F(Reading, FlatDrawingsAndZerosAreNoPositions) {
  auto drawing = kMethanol;
  drawing.replace(drawing.find("3D"), 2, "2D");
  for (const char* z : {" 0.8900 H", "-0.8900 H"}) drawing.replace(drawing.find(z), 7, " 0.0000");
  const auto flat = chemistry().read("sdf", drawing, {}, 1);
  EXPECT_EQ(flat.conformer_source, ConformerSource::none);
  EXPECT_TRUE(flat.positions.empty());
  const std::string zeros =
      "\n     test          3D\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n"
      "    0.0000    0.0000    0.0000 C   0  0\n    0.0000    0.0000    0.0000 O   0  0\n  1  2  1  0\nM  END\n";
  EXPECT_EQ(chemistry().read("sdf", zeros, {}, 1).conformers, 0u);
}

TEST_F(Reading, TheHeadersMarkCountsInAnyColumn) {
  const std::string linear =
      "\n  converted          3D\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n"
      "    0.6000    0.0000    0.0000 C   0  0\n   -0.6000    0.0000    0.0000 C   0  0\n  1  2  3  0\nM  END\n";
  EXPECT_EQ(chemistry().read("sdf", linear, {}, 1).conformers, 1u);
}

TEST_F(Reading, OtherFormatsGiveTheSameMolecule) {
  const std::string xyz =
      "6\nmethanol\nC 0 0 0\nO 1.42 0 0\nH -0.36 1.03 0\nH -0.36 -0.51 0.89\nH -0.36 -0.51 -0.89\nH 1.74 0.9 0\n";
  const std::string mol2 =
      "@<TRIPOS>MOLECULE\nmethanol\n 2 1 0 0 0\nSMALL\nNO_CHARGES\n\n@<TRIPOS>ATOM\n"
      "      1 C1          0.0000    0.0000    0.0000 C.3     1  LIG1        0.0000\n"
      "      2 O1          1.4200    0.0000    0.0000 O.3     1  LIG1        0.0000\n"
      "@<TRIPOS>BOND\n     1     1     2    1\n";
  const std::string pdb =
      "HETATM    1  C1  LIG A   1       0.000   0.000   0.000  1.00  0.00           C\n"
      "HETATM    2  O1  LIG A   1       1.420   0.000   0.000  1.00  0.00           O\n"
      "CONECT    1    2\nEND\n";
  const std::string v3000 =
      "methanol\n     test          3D\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\nM  V30 COUNTS 2 "
      "1 0 0 0\n"
      "M  V30 BEGIN ATOM\nM  V30 1 C 0 0 1 0\nM  V30 2 O 1.42 0 1 0\nM  V30 END ATOM\n"
      "M  V30 BEGIN BOND\nM  V30 1 1 1 2\nM  V30 END BOND\nM  V30 END CTAB\nM  END\n";
  const auto expected = chemistry().read("sdf", kMethanol, {}, 1);
  for (const auto& [format, text] : {std::pair{"xyz", xyz}, {"mol2", mol2}, {"pdb", pdb}, {"mol", v3000}}) {
    const auto molecule = chemistry().read(format, text, {}, 1);
    EXPECT_EQ(molecule.atoms, expected.atoms) << format;
    EXPECT_EQ(molecule.bonds, expected.bonds) << format;
    EXPECT_EQ(molecule.conformer_source, ConformerSource::file) << format;
    ASSERT_EQ(molecule.positions.size(), 6u) << format;
    EXPECT_EQ(molecule.positions[3], 1.42F) << format;
  }
}

TEST_F(Reading, SaysWhyARecordIsRefused) {
  EXPECT_REASON(reason("smi", ""), "empty");
  EXPECT_REASON(reason("smi", "   \n"), "empty");
  EXPECT_REASON(reason("smi", "C1CC"), "ring");
  EXPECT_REASON(reason("smi", "CC(C"), "parentheses");
  EXPECT_REASON(reason("smi", "hello"), "Open Babel can't read it as smi");
  EXPECT_REASON(reason("smi", "*CC"), "query atom or an R group");
  EXPECT_REASON(reason("smi", "CCO>>CC=O"), "reaction");
  EXPECT_REASON(reason("smi", "c1cccc1"), "aromatic");
  EXPECT_REASON(reason("sdf", "no\nmol\nfile\n"), "sdf");
  EXPECT_REASON(reason("sdf", ""), "empty");
  EXPECT_REASON(reason("sdf", "\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n"), "no atoms");
  EXPECT_REASON(reason("nosuchformat", "C"), "no format");
  auto far = kMethanol;
  far.replace(far.find("    1.4200"), 10, "99999.4200");
  EXPECT_REASON(reason("sdf", far), "99999.42");
  ReadOptions small;
  small.max_atoms = 2;
  EXPECT_REASON(reason("smi", "CCO", small), "limit is 2");
  EXPECT_EQ(reason("smi", "CC", small), "accepted");
}

TEST_F(Reading, KeepsFragmentsIonsAndHydrogensThatAreNoSubstituents) {
  EXPECT_EQ(chemistry().read("smi", "[Na+].[Cl-]", {}, 1).size(), 2u);
  EXPECT_EQ(chemistry().read("smi", "[H+]", {}, 1).size(), 1u);
  EXPECT_EQ(chemistry().read("smi", "[H][H]", {}, 1).size(), 2u);
  EXPECT_EQ(chemistry().read("smi", "[2H]C", {}, 1).size(), 2u);
  EXPECT_EQ(chemistry().read("smi", "[H]C", {}, 1).size(), 1u);
  EXPECT_EQ(chemistry().read("smi", "[Pt](Cl)(Cl)(N)N", {}, 1).size(), 5u);
}

TEST_F(Reading, DoesNotDependOnWhatWasReadBefore) {
  const char* const smiles[] = {"C[C@H](N)C(=O)O", "c1ccc2[nH]ccc2c1", "F/C=C\\F", "O=N(=O)c1ccccc1",
                                "C[N+](C)(C)C.[Br-]"};
  std::vector<Molecule> forwards, backwards;
  for (const auto* s : smiles) forwards.push_back(chemistry().read("smi", s, {}, 1));
  reason("smi", "c1cccc1(");
  for (auto s = std::rbegin(smiles); s != std::rend(smiles); ++s)
    backwards.push_back(chemistry().read("smi", *s, {}, 1));
  for (std::size_t i = 0; i < forwards.size(); ++i) EXPECT_EQ(forwards[i], backwards[forwards.size() - 1 - i]);
}

class TemporaryFile {
 public:
  TemporaryFile(const std::string& name, const std::string& text)
      : path_(std::filesystem::temp_directory_path() / fmt::format("moleblend_{}_{}", getpid(), name)) {
    std::ofstream(path_) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST_F(Streams, GoOnAfterABadRecord) {
  const std::string end = "$$$$\n";
  auto bad = kMethanol;
  bad.replace(bad.find("    1.4200"), 10, "99999.4200");
  const TemporaryFile file("stream.sdf", kMethanol + end + bad + end + kMethanol + end);
  const auto stream = chemistry().open(file.path(), "sdf", {}, 1);
  Molecule molecule;
  EXPECT_TRUE(stream->next(molecule));
  EXPECT_EQ(molecule.identifier, "methanol");
  EXPECT_THROW(stream->next(molecule), Rejected);
  EXPECT_TRUE(stream->next(molecule));
  EXPECT_EQ(molecule, chemistry().read("sdf", kMethanol, {}, 1));
  EXPECT_FALSE(stream->next(molecule));
  EXPECT_FALSE(stream->next(molecule));
}

TEST_F(Streams, ReadGzippedFiles) {
  const TemporaryFile file("stream.smi.gz", "");
  const std::string text = "CCO a\nCCN b\n";
  const auto gz = gzopen(file.path().c_str(), "wb");
  gzwrite(gz, text.data(), static_cast<unsigned>(text.size()));
  gzclose(gz);
  const auto stream = chemistry().open(file.path(), "smi", {}, 1);
  Molecule molecule;
  EXPECT_TRUE(stream->next(molecule));
  EXPECT_EQ(molecule.identifier, "a");
  EXPECT_TRUE(stream->next(molecule));
  EXPECT_EQ(molecule.identifier, "b");
  EXPECT_EQ(molecule.size(), 3u);
  EXPECT_FALSE(stream->next(molecule));
}

// Open Babel's reader of plain text goes on giving molecules without atoms when nothing is left to read. Each line is a record, and so is
// what follows the last line's end; a file without any is told once.
TEST_F(Streams, EndWhereNothingIsReadAndNothingFound) {
  const std::pair<const char*, int> files[] = {{"a\nb\n", 3}, {"a\nb", 2}, {"", 1}};
  for (const auto& [text, records] : files) {
    const TemporaryFile file("titles.txt", text);
    const auto stream = chemistry().open(file.path(), "txt", {}, 1);
    Molecule molecule;
    int rejected = 0;
    for (bool more = true; more && rejected < 100;) {
      try {
        more = stream->next(molecule);
        EXPECT_FALSE(more) << "a molecule in plain text";
      } catch (const Rejected&) {
        ++rejected;
      }
    }
    EXPECT_EQ(rejected, records) << '"' << text << '"';
  }
}

TEST_F(Streams, CanBeCountedByOpenBabelAlone) {
  const auto path = std::filesystem::temp_directory_path() / "moleblend-test-count.smi";
  std::ofstream(path) << "CCO\nc1ccccc1 benzene\nN\n";
  EXPECT_EQ(chemistry().stream(path.string(), "smi"), 3u);
  EXPECT_ANY_THROW(chemistry().stream(path.string(), "no-such-format"));
  std::filesystem::remove(path);
  EXPECT_ANY_THROW(chemistry().stream(path.string(), "smi"));
}

TEST_F(Streams, RefuseUnknownFormatsAndMissingFiles) {
  EXPECT_THROW(chemistry().open("/nowhere/x.sdf", "sdf", {}, 1), Error);
  const TemporaryFile file("x.what", "?");
  EXPECT_THROW(chemistry().open(file.path(), "what", {}, 1), Error);
  const auto stream = chemistry().open(file.path(), "sdf", {}, 1);
  Molecule molecule;
  EXPECT_THROW(stream->next(molecule), Rejected);
  EXPECT_FALSE(stream->next(molecule));
}

// Not a ChemistryTest: this one is for builds without.
TEST(PluginMissing, IsOneLineWithTheRemedy) {
  if (testing::kWithOpenBabel) GTEST_SKIP() << "this build has Open Babel";
  try {
    load_chemistry();
    FAIL() << "found a chemistry library that this build did not make";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("install"), std::string::npos);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
}

TEST_F(Plugin, KnowsFormatsAndItself) {
  for (const auto* format : {"smi", "sdf", "mol", "mol2", "xyz", "pdb", "cif", "inchi"}) {
    EXPECT_TRUE(chemistry().knows_format(format)) << format;
  }
  EXPECT_FALSE(chemistry().knows_format("nosuchformat"));
  EXPECT_FALSE(chemistry().knows_format("png2"));
  EXPECT_FALSE(chemistry().knows_format("txt")) << "lines without molecules";
  EXPECT_TRUE(chemistry().versions().starts_with("Open Babel 3."));
  EXPECT_TRUE(chemistry().has_engine(ConformerEngine::openbabel));
}

}  // namespace
}  // namespace moleblend
