// Records cut out of texts of every kind, well-formed and not.

#include <cmath>

#include "io/support/error.h"
#include "tests/prepare/folder.h"

namespace moleblend {
namespace {

class Splitters : public ::testing::Test {
 protected:
  std::vector<Record> split(const std::string& name, const std::string& text, const ColumnNames& columns = {}) {
    const auto path = folder_.write(name, text);
    return all_records(*open_records(path, format_of(path), columns));
  }
  TemporaryFolder folder_;
};

TEST_F(Splitters, FormatIsTheEndingWithoutGz) {
  EXPECT_EQ(format_of("a/b.SDF.gz"), "sdf");
  EXPECT_EQ(format_of("b.Smi"), "smi");
  EXPECT_EQ(format_of("README"), "");
  EXPECT_EQ(splitter_of("cif"), Splitter::whole_file);
}

TEST_F(Splitters, SmilesLines) {
  const auto records =
      split("a.smi", "\xef\xbb\xbfSMILES Name\r\n\r\nCCO  ethanol of wine\r\n# a comment\n\nC\nCC\tethane");
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].text, "CCO");
  EXPECT_EQ(records[0].identifier, "ethanol of wine");
  EXPECT_EQ(records[0].format, "smi");
  EXPECT_EQ(records[0].line, 3u);
  EXPECT_EQ(records[1].text, "C");
  EXPECT_EQ(records[1].identifier, "");
  EXPECT_EQ(records[2].number, 2u);
  EXPECT_EQ(records[2].identifier, "ethane");
}

TEST_F(Splitters, FirstLineThatIsAMoleculeIsNoHeader) {
  EXPECT_EQ(split("a.smi", "CCO\nCC\n").size(), 2u);
}

TEST_F(Splitters, CxsmilesExtensionIsLeftOut) {
  const auto records = split("a.cxsmi", "CC[C@H](F)Cl |(1,2,;3,4,),r| the name\nCC |no end\n");
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].text, "CC[C@H](F)Cl");
  EXPECT_EQ(records[0].identifier, "the name");
  EXPECT_EQ(records[1].text, "CC");
}

TEST_F(Splitters, OldMacintoshLineEnds) {
  EXPECT_EQ(split("a.smi", "CCO a\rCC b\r").size(), 2u);
}

TEST_F(Splitters, BinaryLineIsRefusedAlone) {
  const auto records = split("a.smi", std::string("CC a\nC\0\x01 b\nC c\n", 15));
  ASSERT_EQ(records.size(), 3u);
  EXPECT_TRUE(records[0].refused.empty());
  EXPECT_FALSE(records[1].refused.empty());
  EXPECT_TRUE(records[2].refused.empty());
}

TEST_F(Splitters, Utf16IsAnError) {
  EXPECT_THROW(split("a.smi", std::string("\xff\xfe"
                                          "C\0\n\0",
                                          6)),
               Error);
}

TEST_F(Splitters, CutGzipGivesEveryWholeLineAndOneRefused) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += fmt::format("CCO molecule_{}_{}\n", i, i * 7919 % 10007);
  const std::string packed = gzipped(text);
  const auto whole = split("whole.smi.gz", packed);
  const auto cut = split("cut.smi.gz", packed.substr(0, packed.size() / 2));
  ASSERT_EQ(whole.size(), 3000u);
  ASSERT_GT(cut.size(), 500u);
  ASSERT_LT(cut.size(), 3000u);
  for (std::size_t i = 0; i + 1 < cut.size(); ++i) {
    EXPECT_EQ(cut[i].identifier, whole[i].identifier);
    EXPECT_TRUE(cut[i].refused.empty());
  }
  EXPECT_NE(cut.back().refused.find("gzip"), std::string::npos);
}

TEST_F(Splitters, TableWithQuotesAndLineBreaks) {
  const auto records = split("a.csv",
                             "id,Smiles,\"act, log\",note\r\n"
                             "1,CCO,1.5,\"two\nlines and a \"\"quote\"\"\"\r\n"
                             "\r\n"
                             "2,CC,,x\n"
                             "3,C,TRUE,5\" rule\n"
                             "4,CCC,high,\n"
                             "5,CCCC\n"
                             "6,,1,\n",
                             {.smiles = "", .labels = {"act, log"}, .identifier = "id"});
  ASSERT_EQ(records.size(), 6u);
  EXPECT_EQ(records[0].text, "CCO");
  EXPECT_EQ(records[0].identifier, "1");
  EXPECT_EQ(records[0].labels, std::vector<double>{1.5});
  EXPECT_TRUE(std::isnan(records[1].labels.at(0)));
  EXPECT_EQ(records[1].line, 5u);
  EXPECT_EQ(records[1].odd_labels, 0u);
  EXPECT_EQ(records[2].labels.at(0), 1.0);
  EXPECT_TRUE(std::isnan(records[3].labels.at(0)));
  EXPECT_EQ(records[3].odd_labels, 1u);
  EXPECT_NE(records[4].refused.find("2 fields"), std::string::npos) << records[4].refused;
  EXPECT_FALSE(records[5].refused.empty());
}

TEST_F(Splitters, UnclosedQuoteCostsItsLineOnly) {
  std::string text = "smiles,name\nC,a\nCC,\"b\n";
  for (int i = 0; i < 500; ++i) text += fmt::format("CCC,c{}\n", i);
  const auto records = split("a.csv", text, {.smiles = "", .labels = {}, .identifier = "name"});
  ASSERT_EQ(records.size(), 502u);
  EXPECT_FALSE(records[1].refused.empty());
  for (std::size_t i = 2; i < records.size(); ++i) {
    EXPECT_TRUE(records[i].refused.empty()) << records[i].refused;
    EXPECT_EQ(records[i].identifier, fmt::format("c{}", i - 2));
    EXPECT_EQ(records[i].line, i + 2);
  }
}

TEST_F(Splitters, TableSeparators) {
  for (const auto& [name, text] :
       {std::pair{"a.tsv", "smiles\ty\nCC\t1\n"}, {"b.csv", "smiles\ty\nCC\t1\n"}, {"c.csv", "smiles;y\nCC;1\n"}}) {
    const auto records = split(name, text, {.smiles = "", .labels = {"y"}, .identifier = ""});
    ASSERT_EQ(records.size(), 1u) << name;
    EXPECT_EQ(records[0].labels.at(0), 1.0) << name;
  }
}

TEST_F(Splitters, UnknownColumnsAreNamedWithThoseThatExist) {
  const auto message = [&](const ColumnNames& columns) -> std::string {
    try {
      split("a.csv", "mol,y\nC,1\n", columns);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_NE(message({}).find("mol, y"), std::string::npos) << message({});
  const ColumnNames label{.smiles = "mol", .labels = {"z"}, .identifier = ""};
  EXPECT_NE(message(label).find("no column z"), std::string::npos) << message(label);
  EXPECT_EQ(message({.smiles = "mol", .labels = {"y"}, .identifier = ""}), "no error");
}

const std::string kWater =
    "water\n prog\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.0000 O   0  0\nM  END\n";

TEST_F(Splitters, Sdf) {
  const auto records = split("a.sdf",
                             kWater + "> <gap>\n1.25\n\n>  <name>  (1)\nH2O\nsecond line\n\n$$$$\r\n" + kWater +
                                 "> <gap>\n\n> <other>\n7\n\n$$$$\n" + kWater + "\n\n",
                             {.smiles = "", .labels = {"gap"}, .identifier = "name"});
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].identifier, "H2O");
  EXPECT_EQ(records[0].labels.at(0), 1.25);
  EXPECT_EQ(records[0].text, kWater + "$$$$\n");
  EXPECT_EQ(records[1].identifier, "water");
  EXPECT_TRUE(std::isnan(records[1].labels.at(0)));
  EXPECT_TRUE(records[2].refused.empty()) << "the last record needs no $$$$";
}

TEST_F(Splitters, SdfCutInTheMiddle) {
  const auto records = split("a.sdf", kWater + "$$$$\n" + kWater.substr(0, 60));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_TRUE(records[0].refused.empty());
  EXPECT_FALSE(records[1].refused.empty());
}

TEST_F(Splitters, SdfWithoutTheDataField) {
  EXPECT_THROW(split("a.sdf", kWater + "> <gap>\n1\n\n$$$$\n", {.smiles = "", .labels = {"gup"}, .identifier = ""}),
               UsageError);
}

TEST_F(Splitters, HugeRecordIsRefusedAndTheNextIsRead) {
  std::string text = "big\n\n\n";
  while (text.size() < kMaxRecordBytes + 100) text += std::string(1000, 'x') + "\n";
  const auto records = split("a.sdf", text + "$$$$\n" + kWater + "$$$$\n");
  ASSERT_EQ(records.size(), 2u);
  EXPECT_NE(records[0].refused.find("16 MB"), std::string::npos);
  EXPECT_LE(records[0].text.size(), kMaxRecordBytes);
  EXPECT_TRUE(records[1].refused.empty());
}

TEST_F(Splitters, Mol2) {
  const std::string molecule = "@<TRIPOS>MOLECULE\nethane\n 2 1\n@<TRIPOS>ATOM\n";
  const auto records = split("a.mol2", "# made by hand\n\n" + molecule + "# inside\n" + molecule);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].identifier, "ethane");
  EXPECT_TRUE(records[0].text.starts_with("@<TRIPOS>MOLECULE"));
  EXPECT_EQ(records[1].line, 8u);
  const auto junk = split("b.mol2", "nothing\nof value\n" + molecule);
  ASSERT_EQ(junk.size(), 2u);
  EXPECT_FALSE(junk[0].refused.empty());
  EXPECT_TRUE(junk[1].refused.empty());
}

TEST_F(Splitters, Xyz) {
  const auto records = split("a.xyz", "2\nfirst\nH 0 0 0\nH 0 0 .7\n\n 1 \nsecond\nHe 0 0 0\n3\ncut\nO 0 0 0\n");
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].identifier, "first");
  EXPECT_EQ(records[1].text, " 1 \nsecond\nHe 0 0 0\n");
  EXPECT_NE(records[2].refused.find("ends"), std::string::npos);
}

TEST_F(Splitters, XyzWithAWrongCountGoesOnWithTheNextRecord) {
  const auto records = split("a.xyz", "5\ntoo many\nH 0 0 0\n1\ngood\nHe 0 0 0\nnonsense\n1\ngood too\nHe 0 0 0\n");
  ASSERT_EQ(records.size(), 4u);
  EXPECT_NE(records[0].refused.find("atom 2 of 5"), std::string::npos) << records[0].refused;
  EXPECT_TRUE(records[1].refused.empty()) << records[1].refused;
  EXPECT_FALSE(records[2].refused.empty());
  EXPECT_EQ(records[3].identifier, "good too");
}

TEST_F(Splitters, XyzOfQm9) {
  const std::string text =
      "2\ngdb "
      "7\t80.4\t19.9\t19.9\t0.\t23.95\t-0.3385\t0.1041\t0.4426\t109.5\t0.0745\t-79.7\t-79.7\t-79.7\t-79.7\t10.098\t\n"
      "C\t 0.\t 1.5*^-6\t 0.1\t-0.4\nC\t 0.\t 0.\t 1.5\t-0.4\n100.\t200.\nCC\tCC\t\nInChI=1S/C2H6\tInChI=1S/C2H6\n";
  const auto records = split("a.xyz", text + text, {.smiles = "", .labels = {"gap", "mu"}, .identifier = ""});
  ASSERT_EQ(records.size(), 2u);
  for (const Record& record : records) {
    EXPECT_TRUE(record.refused.empty()) << record.refused;
    EXPECT_EQ(record.identifier, "gdb_7");
    EXPECT_EQ(record.smiles, "CC");
    EXPECT_EQ(record.labels, (std::vector<double>{0.4426, 0.0}));
    EXPECT_NE(record.text.find("1.5e-6"), std::string::npos);
  }
  EXPECT_THROW(split("b.xyz", "1\nplain\nHe 0 0 0\n", {.smiles = "", .labels = {"gap"}, .identifier = ""}), UsageError);
}

TEST_F(Splitters, Pdb) {
  const std::string atom = "HETATM    1  C1  LIG A   1       0.000   0.000   0.000  1.00  0.00           C\n";
  const auto single = split("a.pdb", "COMPND    LIGAND\n" + atom + "END\n\n");
  ASSERT_EQ(single.size(), 1u);
  EXPECT_EQ(single[0].identifier, "LIGAND");
  const auto models = split("b.pdb", "HEADER x\nMODEL        1\n" + atom + "ENDMDL\nMODEL        2\n" + atom +
                                         "ENDMDL\nCONECT    1    1\nEND\n");
  ASSERT_EQ(models.size(), 2u);
  for (const Record& record : models) {
    EXPECT_TRUE(record.refused.empty()) << record.refused;
    EXPECT_NE(record.text.find("HEADER"), std::string::npos);
    EXPECT_NE(record.text.find("CONECT"), std::string::npos);
  }
  EXPECT_EQ(split("c.pdb", atom + "END\n" + atom + "END\n").size(), 2u);
  const auto none = split("d.pdb", "HEADER x\nEND\n");
  ASSERT_EQ(none.size(), 1u);
  EXPECT_FALSE(none[0].refused.empty());
}

TEST_F(Splitters, PairedRecords) {
  const auto table = folder_.write("a.csv", "id,smiles,y\n1,O,0.5\n2,O,1\n3,CC,2\n");
  const auto sdf = folder_.write("a.sdf", kWater + "$$$$\n" + kWater + "$$$$\n");
  const ColumnNames columns{.smiles = "", .labels = {"y"}, .identifier = "id"};
  auto source = open_paired_records(table, sdf, columns);
  const auto records = all_records(*source);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].format, "sdf");
  EXPECT_EQ(records[0].smiles, "O");
  EXPECT_EQ(records[0].identifier, "1");
  EXPECT_EQ(records[0].labels.at(0), 0.5);
  EXPECT_EQ(records[2].format, "smi");
  EXPECT_EQ(records[2].text, "CC");
  EXPECT_NE(source->remark().find("1 of 3 rows"), std::string::npos) << source->remark();
  EXPECT_NE(source->remark().find("2 rows have another name"), std::string::npos) << source->remark();

  const auto longer = folder_.write("b.csv", "smiles,y\nO,1\n");
  const auto surplus =
      all_records(*open_paired_records(longer, sdf, {.smiles = "", .labels = {"y"}, .identifier = ""}));
  ASSERT_EQ(surplus.size(), 2u);
  EXPECT_TRUE(surplus[0].refused.empty());
  EXPECT_FALSE(surplus[1].refused.empty());
}

TEST(Labels, Numbers) {
  std::uint32_t odd = 0;
  EXPECT_EQ(parse_label(" -1.5e3 ", odd), -1500.0);
  EXPECT_EQ(parse_label("+2", odd), 2.0);
  EXPECT_EQ(parse_label("0.", odd), 0.0);
  EXPECT_EQ(parse_label("True", odd), 1.0);
  EXPECT_EQ(parse_label("false", odd), 0.0);
  for (const char* missing : {"", "  ", "NaN", "NA", "n/a", "None", "null", "?"})
    EXPECT_TRUE(std::isnan(parse_label(missing, odd))) << missing;
  EXPECT_EQ(odd, 0u);
  for (const char* text : {"CI", "1.5 eV", "inf", "1,5"}) EXPECT_TRUE(std::isnan(parse_label(text, odd))) << text;
  EXPECT_EQ(odd, 4u);
}

TEST(HeavyAtoms, CountedInSmiles) {
  EXPECT_EQ(heavy_atoms_in_smiles("CCO"), 3);
  EXPECT_EQ(heavy_atoms_in_smiles("[H][H]"), 0);
  EXPECT_EQ(heavy_atoms_in_smiles("[2H]C([2H])Cl.[Na+].[Hg]"), 4);
  EXPECT_EQ(heavy_atoms_in_smiles("Brc1ccc(cc1)[N+](=O)[O-]"), 10);
  EXPECT_EQ(heavy_atoms_in_smiles("C[C@@H](F)[nH]"), 4);
  EXPECT_EQ(heavy_atoms_in_smiles("C[C"), -1);
}

}  // namespace
}  // namespace moleblend
