// A run that meets a number that is not finite, and `moleblend replay`, which shows what each molecule did.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

class ReplayVerb : public ::testing::Test {
 protected:
  void SetUp() override {
    write_sample_molecules(folder / "molecules.smi", 40);
    succeed({"prepare", "--input", folder / "molecules.smi", "--output", data, "--quiet"});
    ASSERT_FALSE(HasFailure());
  }
  Arguments pretrain(const Arguments& more) const {
    Arguments arguments{"pretrain", "--data",       data, "--output",           run, "--model",   "tiny", "--steps",
                        "12",       "--batch-size", "8",  "--checkpoint-every", "5", "--threads", "1",    "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  TemporaryFolder folder;
  const std::string data = folder / "data", run = folder / "run";
};

TEST_F(ReplayVerb, AStepAfterACheckpointIsTheOneThatWas) {
  succeed(pretrain({"--keep-last", "9"}));
  const Json replayed = Json::parse(succeed({"replay", "--run", run, "--step", "6", "--json", "--quiet"}));
  const Json line = Json::parse(lines_of(read_file(run + "/metrics.jsonl"))[5]);
  ASSERT_EQ(line.at("step"), 6);
  const double loss = line.at("loss"), norm = line.at("grad_norm");
  // Float through the network against double.
  EXPECT_NEAR(replayed.at("loss").get<double>(), loss, 1e-4 * loss);
  EXPECT_NEAR(replayed.at("grad_norm").get<double>(), norm, 1e-3 * norm);
  EXPECT_EQ(replayed.at("molecules").size(), 8u);
  const std::string table = succeed({"replay", "--run", run, "--step", "6", "--top", "3", "--quiet"});
  EXPECT_NE(table.find("and 5 with smaller gradients"), std::string::npos) << table;

  const Outcome between = run_program({"replay", "--run", run, "--step", "8", "--quiet"});
  EXPECT_EQ(between.status, 1);
  EXPECT_EQ(lines_of(between.err).size(), 1u) << between.err;
  EXPECT_NE(between.err.find("can be replayed: 6, 11"), std::string::npos) << between.err;
  const Outcome whole = run_program({"replay", "--run", run, "--quiet"});
  EXPECT_EQ(whole.status, 2) << whole.err;
  EXPECT_NE(whole.err.find("--step"), std::string::npos) << whole.err;
}

TEST_F(ReplayVerb, WhatANumberThatIsNotFiniteLeavesIsReplayed) {
  // Weights of 1e18 after the first update, the squares of which float does not hold.
  const Outcome stopped = run_program(pretrain({"--lr", "1e18", "--warmup", "0", "--clip", "0"}));
  EXPECT_EQ(stopped.status, 1) << stopped.err;
  EXPECT_EQ(lines_of(stopped.err).size(), 1u) << stopped.err;
  for (const char* words : {"is not finite", "its 8 molecules are", "moleblend replay --run", "molecules.csv"})
    EXPECT_NE(stopped.err.find(words), std::string::npos) << words << " in " << stopped.err;
  fs::path left;
  for (const auto& entry : fs::directory_iterator(run))
    if (entry.path().filename().string().starts_with("not-finite-step-")) left = entry.path();
  ASSERT_FALSE(left.empty());
  const std::vector<std::string> rows = lines_of(read_file(left / "molecules.csv"));
  EXPECT_EQ(rows.size(), 9u);
  EXPECT_EQ(rows[0], "identifier,index,key,rank");

  const Json replayed = Json::parse(succeed({"replay", "--run", run, "--json", "--quiet"}));
  const std::string digits = left.filename().string().substr(std::string("not-finite-step-").size());
  EXPECT_EQ(replayed.at("step"), std::stoll(digits));
  ASSERT_EQ(replayed.at("molecules").size(), 8u);
  for (std::size_t k = 1; k < rows.size(); ++k) {
    bool found = false;
    for (const Json& m : replayed.at("molecules"))
      found = found || rows[k].find("," + std::to_string(m.at("index").get<int>()) + "," +
                                    m.at("key").get<std::string>() + ",") != std::string::npos;
    EXPECT_TRUE(found) << rows[k];
  }
  succeed({"replay", "--run", run, "--quiet"});
}

}  // namespace
}  // namespace moleblend::end_to_end
