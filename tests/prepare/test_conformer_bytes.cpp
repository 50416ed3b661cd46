// Conformers of Open Babel are a function of the molecule and the seed: not of the number of workers, of the molecules that a reader
// process built before, or of the addresses that it happens to get.

#include <algorithm>
#include <map>
#include <random>

#include "io/dataset/dataset.h"
#include "io/prepare/prepare.h"
#include "io/support/error.h"
#include "tests/prepare/folder.h"

namespace moleblend {
namespace {

using Positions = std::map<std::string, std::vector<float>>;  // by identifier

class ConformerBytes : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      chemistry_ = load_chemistry();
    } catch (const Error& e) {
      GTEST_SKIP() << "this build reads no molecules: " << e.what();
    }
    // Several stereocentres, of which Open Babel's builder gets some wrong and turns parts of the molecule to correct them; stereoisomers
    // of each other among them.
    const std::vector<std::string> names = {"beta-lactose",  "alpha-maltose",    "trehalose",  "sucralose",
                                            "phylloquinone", "prostaglandin_E2", "bortezomib", "cefalexin"};
    std::string text = read_file(MOLEBLEND_SOURCE_DIR "/examples/molecules.smi");
    for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
      const std::string line = text.substr(at, end - at);
      if (std::find(names.begin(), names.end(), line.substr(line.find(' ') + 1)) != names.end()) lines_.push_back(line);
    }
    ASSERT_EQ(lines_.size(), names.size());
    // The same elements, degrees and bond orders atom by atom and bond by bond, but other neighbours.
    lines_.push_back("C1CCC2CCC1CCC2 bridged");
    lines_.push_back("C1CCC2CCC2CCC1 fused");
  }

  PrepareOptions options(const std::vector<std::string>& lines, int workers) {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    PrepareOptions o;
    o.inputs = {folder_.write("molecules.smi", text)};
    o.output = folder_.path() / fmt::format("data{}", outputs_++);
    o.block_size = 2;  // so that every worker gets some
    o.workers = workers;
    o.read.conformers.count = 1;
    o.read.conformers.fallback = false;
    o.read.conformers.required = true;
    o.quiet = true;
    o.program_version = "test";
    return o;
  }

  Positions positions(const std::vector<std::string>& lines, int workers = 1) {
    const PrepareOptions o = options(lines, workers);
    EXPECT_EQ(prepare(o, *chemistry_).kept, lines.size());
    const Dataset dataset = Dataset::open(o.output, true);
    Positions all;
    Molecule molecule;
    for (std::uint64_t i = 0; i < dataset.size(); ++i) {
      dataset.read(i, molecule);
      all[molecule.identifier] = molecule.positions;
    }
    return all;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Chemistry> chemistry_;
  std::vector<std::string> lines_;
  int outputs_ = 0;
};

TEST_F(ConformerBytes, AreTheSameForAnyNumberOfWorkers) {
  const std::string one = prepare(options(lines_, 1), *chemistry_).fingerprint;
  EXPECT_FALSE(one.empty());
  for (const int workers : {2, 3}) EXPECT_EQ(prepare(options(lines_, workers), *chemistry_).fingerprint, one);
}

TEST_F(ConformerBytes, AreTheSameWhateverWasBuiltBefore) {
  const Positions in_order = positions(lines_);
  EXPECT_EQ(positions({lines_.rbegin(), lines_.rend()}), in_order);
  for (const std::string& line : lines_) {
    const Positions alone = positions({line});
    ASSERT_EQ(alone.size(), 1u) << line;
    EXPECT_EQ(alone.begin()->second, in_order.at(alone.begin()->first)) << line;
  }
}

TEST_F(ConformerBytes, AreTheSameWhereverMemoryLies) {
  const Positions before = positions(lines_);
  // Readers inherit this process' heap: with holes in a random order, addresses no longer ascend.
  for (const unsigned seed : {1u, 2u}) {
    std::mt19937 random(seed);
    std::vector<std::vector<char>> blocks;
    for (int i = 0; i < 20000; ++i) blocks.emplace_back(16 + random() % 500);
    std::shuffle(blocks.begin(), blocks.end(), random);
    blocks.resize(blocks.size() / 2);
    EXPECT_EQ(positions(lines_), before);
  }
}

}  // namespace
}  // namespace moleblend
