// `moleblend embed`: the same rows from files and from the data set made of them, the same bytes again, and clear refusals.

#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

std::vector<float> matrix(const fs::path& path) {
  const std::string bytes = read_file(path);
  std::vector<float> values((bytes.size() - 128) / sizeof(float));
  std::memcpy(values.data(), bytes.data() + 128, values.size() * sizeof(float));
  return values;
}

/// Molecules, two of them refused, the data set of the others, and a model that has seen it.
class Embed : public ::testing::Test {
 protected:
  void SetUp() override {
    write_sample_molecules(folder / "molecules.smi", 40);
    const std::vector<std::string> lines = lines_of(read_file(folder / "molecules.smi"));
    std::string text;
    for (std::size_t k = 0; k < lines.size(); ++k) {
      if (k == 10) text += "C1CC broken_ring\n";
      if (k == 20) text += "Xx unknown_element\n";
      text += lines[k] + "\n";
    }
    write_file(molecules, text);
    succeed({"prepare", "--input", molecules, "--output", data, "--conformers", "1", "--quiet"});
    succeed({"pretrain", "--data", data, "--output", run, "--model", "tiny", "--steps", "3", "--quiet"});
    ASSERT_FALSE(HasFailure());
  }

  /// Arguments for an output of this name; from the molecule file, or the data set.
  Arguments embed(const std::string& output, const Arguments& more = {}, bool from_data = false) const {
    Arguments arguments{"embed", "--checkpoint", run, "--output", folder / output, "--threads", "2", "--quiet"};
    if (from_data)
      arguments.insert(arguments.end(), {"--data", data});
    else
      arguments.insert(arguments.end(), {"--input", molecules});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  TemporaryFolder folder;
  const std::string molecules = folder / "mixed.smi", data = folder / "data", run = folder / "run";
};

TEST_F(Embed, FilesAndDataSetAgreeAndAgainIsTheSame) {
  const Json json = Json::parse(succeed(embed("a.npy", {"--workers", "1", "--json"})));
  EXPECT_EQ(json.at("records"), 42);
  EXPECT_EQ(json.at("molecules"), 40);
  EXPECT_EQ(json.at("refused"), 2);
  EXPECT_EQ(json.at("rows"), 40);
  EXPECT_EQ(json.at("dimensions"), 64);
  const std::string bytes = read_file(folder / "a.npy");
  EXPECT_EQ(bytes.size(), 128u + 40 * 64 * 4);
  EXPECT_NE(bytes.find("'shape': (40, 64)"), std::string::npos);
  for (const float value : matrix(folder / "a.npy")) ASSERT_TRUE(std::isfinite(value));

  const std::vector<std::string> index = lines_of(read_file(folder / "a.index.csv"));
  ASSERT_EQ(index.size(), 43u);
  EXPECT_TRUE(index[11].starts_with(",,broken_ring,C1CC,,")) << index[11];
  EXPECT_TRUE(index[12].starts_with("10,")) << index[12];
  EXPECT_TRUE(index[42].starts_with("39,")) << index[42];

  succeed(embed("b.npy", {"--workers", "3"}));
  EXPECT_EQ(read_file(folder / "b.npy"), bytes);
  EXPECT_EQ(read_file(folder / "b.index.csv"), read_file(folder / "a.index.csv"));
  succeed(embed("c", {}, true));
  EXPECT_EQ(read_file(folder / "c/embeddings.npy"), bytes);
}

TEST_F(Embed, CuttingBatchesOtherwiseChangesTheRoundingAlone) {
  for (const std::string show : {"2d", "both"}) {
    succeed(embed(show + "-a.npy", {"--show", show}, true));
    succeed(embed(show + "-b.npy", {"--show", show, "--batch-atoms", "1"}, true));
    const std::vector<float> a = matrix(folder / (show + "-a.npy")), b = matrix(folder / (show + "-b.npy"));
    ASSERT_EQ(a.size(), b.size());
    // Outputs of a LayerNorm are of order one; float rounds each of some hundred operations on the way by 6e-8.
    for (std::size_t k = 0; k < a.size(); ++k) ASSERT_TRUE(std::abs(a[k] - b[k]) <= 2e-5f) << k;
  }
  EXPECT_NE(matrix(folder / "2d-a.npy"), matrix(folder / "both-a.npy")) << "the data set has positions";
}

TEST_F(Embed, AtomsAverageToTheMean) {
  succeed(embed("atoms.npy", {"--level", "atom"}));
  succeed(embed("mean.npy", {"--readout", "mean"}));
  const std::vector<float> atoms = matrix(folder / "atoms.npy"), mean = matrix(folder / "mean.npy");
  const std::vector<std::string> index = lines_of(read_file(folder / "atoms.index.csv"));
  std::size_t molecule = 0, rows = 0;
  for (std::size_t line = 1; line < index.size(); ++line) {
    if (index[line].starts_with(",")) continue;
    std::size_t first = 0, count = 0;
    ASSERT_EQ(std::sscanf(index[line].c_str(), "%zu,%zu,", &first, &count), 2);
    EXPECT_EQ(first, rows);
    rows += count;
    for (std::size_t k = 0; k < 64; ++k) {
      double sum = 0;
      for (std::size_t row = first; row < rows; ++row) sum += atoms.at(64 * row + k);
      ASSERT_TRUE(std::abs(sum / static_cast<double>(count) - mean.at(64 * molecule + k)) <= 1e-5) << index[line];
    }
    ++molecule;
  }
  EXPECT_EQ(64 * rows, atoms.size());
  EXPECT_EQ(64 * molecule, mean.size());
}

TEST_F(Embed, ThreeDNeedsPositions) {
  const Outcome none = run_program(embed("none.npy", {"--show", "3d"}));
  EXPECT_EQ(none.status, 1);
  EXPECT_NE(none.err.find("it has no positions"), std::string::npos) << none.err;
  EXPECT_FALSE(fs::exists(folder / "none.npy"));
  const Json both = Json::parse(succeed(embed("both.npy", {"--show", "both", "--json"})));
  EXPECT_EQ(both.at("without_3d"), 40);
  const Json built = Json::parse(succeed(embed("built.npy", {"--show", "3d", "--conformers", "1", "--json"})));
  EXPECT_EQ(built.at("without_3d"), 0);
  // The conformers are those of the data set.
  succeed(embed("prepared.npy", {"--show", "3d"}, true));
  EXPECT_EQ(read_file(folder / "built.npy"), read_file(folder / "prepared.npy"));
}

TEST_F(Embed, BadInputIsOneLineAndLeavesNothing) {
  write_file(folder / "taken.npy", "x");
  write_file(folder / "empty.smi", "");
  write_file(folder / "nonsense.smi", "no_molecule\n");
  write_file(folder / "nonsense.safetensors", "x");
  struct {
    std::string what;
    int status;
    std::string word;
    Arguments arguments;
  } const cases[] = {
      {"no checkpoint",
       1,
       "nowhere",
       {"--checkpoint", folder / "nowhere", "--input", molecules, "--output", folder / "o"}},
      {"no model in it",
       1,
       "nonsense.safetensors",
       {"--checkpoint", folder / "nonsense.safetensors", "--input", molecules, "--output", folder / "o"}},
      {"no checkpoint named", 2, "--checkpoint", {"--input", molecules, "--output", folder / "o"}},
      {"no molecules named", 2, "--input", {"--checkpoint", run, "--output", folder / "o"}},
      {"both named",
       2,
       "--data",
       {"--checkpoint", run, "--input", molecules, "--data", data, "--output", folder / "o"}},
      {"no output", 2, "--output", {"--checkpoint", run, "--input", molecules}},
      {"output exists", 2, "taken.npy", {"--checkpoint", run, "--input", molecules, "--output", folder / "taken.npy"}},
      {"no such file",
       1,
       "nowhere.smi",
       {"--checkpoint", run, "--input", folder / "nowhere.smi", "--output", folder / "o"}},
      {"empty file", 1, "empty.smi", {"--checkpoint", run, "--input", folder / "empty.smi", "--output", folder / "o"}},
      {"no molecule",
       1,
       "none of 1 records",
       {"--checkpoint", run, "--input", folder / "nonsense.smi", "--output", folder / "o"}},
      {"no data set", 1, "nowhere", {"--checkpoint", run, "--data", folder / "nowhere", "--output", folder / "o"}},
      {"unknown readout",
       2,
       "--readout",
       {"--checkpoint", run, "--data", data, "--output", folder / "o", "--readout", "max"}},
      {"unknown level",
       2,
       "--level",
       {"--checkpoint", run, "--data", data, "--output", folder / "o", "--level", "bond"}},
      {"batches of nothing",
       2,
       "--batch-atoms",
       {"--checkpoint", run, "--data", data, "--output", folder / "o", "--batch-atoms", "-1"}},
      {"unknown view", 2, "--show", {"--checkpoint", run, "--data", data, "--output", folder / "o", "--show", "4d"}},
      {"conformers for nothing",
       2,
       "--show",
       {"--checkpoint", run, "--input", molecules, "--output", folder / "o", "--conformers", "1"}},
      {"no folder", 1, "o.npy", {"--checkpoint", run, "--data", data, "--output", folder / "nowhere/o.npy"}},
  };
  const std::vector<std::string> before = names_below(folder.path());
  for (const auto& one : cases) {
    Arguments arguments{"embed", "--quiet"};
    arguments.insert(arguments.end(), one.arguments.begin(), one.arguments.end());
    const Outcome outcome = run_program(arguments);
    EXPECT_EQ(outcome.status, one.status) << one.what << ": " << outcome.err;
    const std::vector<std::string> lines = lines_of(outcome.err);
    ASSERT_EQ(lines.size(), 1u) << one.what << ": " << outcome.err;
    EXPECT_TRUE(lines[0].starts_with("moleblend: ")) << lines[0];
    EXPECT_NE(lines[0].find(one.word), std::string::npos) << one.what << ": " << lines[0];
    EXPECT_EQ(names_below(folder.path()), before) << one.what << " left something";
  }
}

}  // namespace
}  // namespace moleblend::end_to_end
