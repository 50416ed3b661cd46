// Real molecule files, where they are: every record of each is kept or rejected with a reason, and nothing brings the run down.

#include <algorithm>
#include <cstdlib>

#include "io/dataset/dataset.h"
#include "io/prepare/prepare.h"
#include "io/support/error.h"
#include "tests/prepare/folder.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;

class RealData : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* named = std::getenv("MOLEBLEND_TEST_DATA");
    data_ = named ? fs::path(named) : fs::path(MOLEBLEND_SOURCE_DIR) / ".." / "shared" / "data";
    if (!fs::is_directory(data_))
      GTEST_SKIP() << "no molecule files at " << data_ << " (MOLEBLEND_TEST_DATA names their folder)";
    try {
      chemistry_ = load_chemistry();
    } catch (const Error& e) {
      GTEST_SKIP() << "this build reads no molecules: " << e.what();
    }
  }

  PrepareOptions options() const {
    PrepareOptions o;
    o.output = folder_.path() / "out";
    o.workers = 2;
    o.timeout = 1;
    o.memory_mb = 1024;
    o.block_size = 1000;
    o.quiet = true;
    return o;
  }

  /// Runs it and checks the account.
  PrepareSummary account(const PrepareOptions& o) {
    const PrepareSummary summary = prepare(o, *chemistry_);
    EXPECT_EQ(summary.kept + summary.rejected, summary.records);
    EXPECT_EQ(rejected_rows(o.output).size(), summary.rejected);
    const Dataset dataset = Dataset::open(o.output, true);
    EXPECT_EQ(dataset.size(), summary.kept);
    Molecule molecule;
    for (std::uint64_t i = 0; i < dataset.size(); ++i) dataset.read(i, molecule);
    return summary;
  }

  fs::path data_;
  TemporaryFolder folder_;
  std::unique_ptr<Chemistry> chemistry_;
};

TEST_F(RealData, Tables) {
  PrepareOptions o = options();
  o.inputs = {data_ / "moleculenet/BBBP.csv", data_ / "moleculenet/delaney-processed.csv",
              data_ / "moleculenet/toxcast_data.csv.gz"};
  const PrepareSummary summary = account(o);
  EXPECT_EQ(summary.records, 2050u + 1128u + 8615u);
  // The rows of ToxCast whose SMILES is the text FAIL.
  EXPECT_EQ(summary.rejected, 15u);
}

TEST_F(RealData, TableAndSdfThatBelongTogether) {
  PrepareOptions o = options();
  o.pairs = {{data_ / "pcqm4mv2/data-sample.csv.gz", data_ / "pcqm4mv2/pcqm4m-v2-train-sample.sdf.gz"}};
  o.columns.labels = {"homolumogap"};
  o.columns.identifier = "row";
  const PrepareSummary summary = account(o);
  EXPECT_EQ(summary.records, 1584u);
  EXPECT_EQ(summary.kept, 1584u);
  EXPECT_EQ(summary.with_positions, 1584u);
  EXPECT_TRUE(summary.remarks.empty());
  const Dataset dataset = Dataset::open(o.output);
  Molecule molecule;
  double sum = 0;
  for (std::uint64_t i = 0; i < dataset.size(); ++i) {
    dataset.read(i, molecule);
    sum += molecule.labels.at(0);
  }
  // The mean gap in eV that the data's description gives with two decimals.
  EXPECT_NEAR(sum / static_cast<double>(dataset.size()), 5.16, 0.02);
}

TEST_F(RealData, ThreeDimensionalFormats) {
  PrepareOptions o = options();
  o.inputs = {data_ / "druglike_xyz/druglike.xyz.gz", data_ / "gmtkn55/gmtkn55.xyz.gz",
              data_ / "freesolv_3d/freesolv.sdf.gz", data_ / "mmff94/MMFF94_dative.sdf.gz",
              data_ / "mmff94/MMFF94_hypervalent.sdf.gz"};
  const PrepareSummary summary = account(o);
  EXPECT_EQ(summary.records, 663u + 1937u + 642u + 2u * 761u);
  EXPECT_EQ(summary.with_positions, summary.kept);
  EXPECT_LE(summary.rejected, summary.records / 50) << "most of these are sound";
}

TEST_F(RealData, NastyFiles) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(data_ / "nasty")) {
    const fs::path& path = entry.path();
    // Small files of every kind; the lists of 50,000 molecules are for the script that reads all data.
    if (entry.is_regular_file() && splitter_of(format_of(path)) != Splitter::whole_file &&
        splitter_of(format_of(path)) != Splitter::table && fs::file_size(path) < 60'000)
      files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  ASSERT_GT(files.size(), 700u);
  PrepareOptions o = options();
  o.inputs = files;
  const PrepareSummary summary = account(o);
  EXPECT_GT(summary.kept, 2000u);
  EXPECT_GT(summary.rejected, 50u);
}

}  // namespace
}  // namespace moleblend
