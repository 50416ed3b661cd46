// The promises of the program as a whole: prepare, pretrain, evaluate and inspect fit together, and the same seed gives the
// same bytes, whether a run is repeated, interrupted and resumed, or killed.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/common/cpu.h"
#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

constexpr int kMolecules = 60;
constexpr int kRunSteps = 30;

Arguments prepare(const std::string& input, const std::string& output, const std::string& workers = "2") {
  return {"prepare", "--input", input, "--output", output, "--conformers", "1", "--workers", workers, "--quiet"};
}

Arguments pretrain(const std::string& data, const std::string& run, Arguments more = {},
                   const std::string& seed = "7") {
  Arguments arguments{"pretrain",     "--data",    data,
                      "--output",     run,         "--model",
                      "tiny",         "--steps",   std::to_string(kRunSteps),
                      "--batch-size", "16",        "--seed",
                      seed,           "--threads", "2",
                      "--quiet"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/// A data set of the project's own molecules, in a folder of this test.
class Pipeline : public ::testing::Test {
 protected:
  void SetUp() override {
    write_sample_molecules(folder / "molecules.smi", kMolecules);
    succeed(prepare(folder / "molecules.smi", data));
    ASSERT_FALSE(HasFailure());
  }

  void expect_same_weights(const fs::path& a, const fs::path& b) {
    ASSERT_EQ(last_checkpoint(a).filename(), last_checkpoint(b).filename());
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      EXPECT_TRUE(read_file(last_checkpoint(a) / file) == read_file(last_checkpoint(b) / file)) << file << " differs";
    }
  }

  TemporaryFolder folder;
  const std::string data = folder / "data";
};

TEST_F(Pipeline, PreparedDataSetAccountsForEveryMolecule) {
  const Json dataset = Json::parse(read_file(fs::path(data) / "dataset.json"));
  EXPECT_EQ(dataset.at("molecules").get<int>() + dataset.at("rejected").get<int>(), kMolecules);
  EXPECT_GT(dataset.at("molecules").get<int>(), kMolecules * 9 / 10);
  // A header, then one line a refused molecule.
  EXPECT_EQ(lines_of(read_file(fs::path(data) / "rejected.csv")).size(), 1 + dataset.at("rejected").get<std::size_t>());
}

TEST_F(Pipeline, NumberOfWorkersDoesNotChangeTheDataSet) {
  succeed(prepare(folder / "molecules.smi", folder / "again", "1"));
  const std::vector<std::string> names = names_below(data);
  ASSERT_EQ(names, names_below(folder / "again"));
  for (const std::string& name : names) {
    if (name == ".lock" || fs::is_directory(fs::path(data) / name)) continue;  // the lock names the process that wrote
    EXPECT_TRUE(read_file(fs::path(data) / name) == read_file(folder.path() / "again" / name)) << name << " differs";
  }
}

TEST_F(Pipeline, MetricsHaveEveryStepAndFiniteLosses) {
  succeed(pretrain(data, folder / "run"));
  int steps = 0;
  for (const std::string& line : lines_of(read_file(folder.path() / "run" / "metrics.jsonl"))) {
    const Json entry = Json::parse(line);
    if (!entry.contains("loss")) continue;
    EXPECT_EQ(entry.at("step").get<int>(), ++steps);
    const Json& loss = entry.at("loss");
    for (const Json& part : loss.is_object() ? loss : Json::array({loss})) {
      EXPECT_TRUE(std::isfinite(part.get<double>())) << line;
    }
  }
  EXPECT_EQ(steps, kRunSteps);
}

TEST_F(Pipeline, RepeatedRunGivesTheSameBytes) {
  succeed(pretrain(data, folder / "first"));
  succeed(pretrain(data, folder / "second"));
  expect_same_weights(folder / "first", folder / "second");
}

TEST_F(Pipeline, AnotherSeedGivesOtherWeights) {
  succeed(pretrain(data, folder / "first"));
  succeed(pretrain(data, folder / "second", {}, "8"));
  EXPECT_FALSE(read_file(last_checkpoint(folder / "first") / "model.safetensors") ==
               read_file(last_checkpoint(folder / "second") / "model.safetensors"));
}

TEST_F(Pipeline, ResumedRunGivesTheSameBytes) {
  succeed(pretrain(data, folder / "whole"));
  succeed(pretrain(data, folder / "halves", {"--stop-at", "13"}));
  succeed({"pretrain", "--resume", folder / "halves", "--quiet"});
  expect_same_weights(folder / "whole", folder / "halves");
}

TEST_F(Pipeline, KilledRunResumesToTheSameBytes) {
  succeed(pretrain(data, folder / "whole"));
  // Killed a few steps past the checkpoint of step 10: what came after it is done again.
  ASSERT_TRUE(kill_program_after(pretrain(data, folder / "killed", {"--checkpoint-every", "10"}),
                                 folder.path() / "killed" / "metrics.jsonl", 13));
  succeed({"pretrain", "--resume", folder / "killed", "--quiet"});
  expect_same_weights(folder / "whole", folder / "killed");
}

/// In bf16 a CPU that can multiply it learns the same to rounding, and again to the same bytes; another refuses in one line.
TEST_F(Pipeline, Bf16OnTheCpuLearnsTheSameOrIsRefused) {
  const std::string run = folder / "bf16", again = folder / "again", full = folder / "fp32";
  if (!has_bf16_products()) {
    const Outcome refused = run_program(pretrain(data, run, {"--precision", "bf16"}), std::chrono::minutes(2));
    EXPECT_EQ(refused.status, 1);
    ASSERT_EQ(lines_of(refused.err).size(), 1u) << refused.err;
    EXPECT_NE(refused.err.find("use --precision fp32"), std::string::npos) << refused.err;
    EXPECT_FALSE(fs::exists(run));
    return;
  }
  succeed(pretrain(data, run, {"--precision", "bf16"}));
  succeed(pretrain(data, again, {"--precision", "bf16"}));
  succeed(pretrain(data, full));
  expect_same_weights(run, again);
  const auto losses = [](const std::string& of) {
    std::vector<double> found;
    for (const std::string& line : lines_of(read_file(fs::path(of) / "metrics.jsonl")))
      if (const Json one = Json::parse(line); one.contains("loss")) found.push_back(one.at("loss").get<double>());
    return found;
  };
  const std::vector<double> in_bf16 = losses(run), in_fp32 = losses(full);
  ASSERT_EQ(in_bf16.size(), in_fp32.size());
  ASSERT_GE(in_bf16.size(), static_cast<std::size_t>(kRunSteps));
  // Products in bf16 are products in bf16: other numbers, and not far off (operands are rounded by 2⁻⁹ at most; 30 updates).
  EXPECT_NE(in_bf16, in_fp32);
  for (std::size_t k = 0; k < in_fp32.size(); ++k)
    EXPECT_NEAR(in_bf16[k], in_fp32[k], 0.02 * in_fp32[k]) << "step " << k + 1;
}

TEST_F(Pipeline, EvaluateAndInspectTell) {
  succeed(pretrain(data, folder / "run"));
  const std::string checkpoint = last_checkpoint(folder / "run").string();

  const Json evaluation = Json::parse(succeed({"evaluate", "--data", data, "--checkpoint", checkpoint, "--json"}));
  EXPECT_TRUE(evaluation.is_object());
  EXPECT_FALSE(evaluation.empty());
  // The same weights and seed: the same figures.
  EXPECT_EQ(evaluation, Json::parse(succeed({"evaluate", "--data", data, "--checkpoint", checkpoint, "--json"})));

  for (const std::string& what : {data, checkpoint, folder / "run"}) {
    EXPECT_FALSE(Json::parse(succeed({"inspect", what, "--json"})).empty()) << what;
    EXPECT_FALSE(succeed({"inspect", what}).empty()) << what;
  }
}

}  // namespace
}  // namespace moleblend::end_to_end
