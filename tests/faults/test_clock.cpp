// A machine's wall clock that jumps under a run, as when it is set right or a virtual machine wakes up: what is written does not depend on
// it, and no deadline, of readers, ranks or locks, is taken for passed.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

/// What a program is started with so that its clock jumps. A sanitizer's runtime wants to be the first library, but works as the second.
Arguments jumping() {
  const char* options = std::getenv("ASAN_OPTIONS");
  return {"env", "LD_PRELOAD=" MOLEBLEND_JUMPING_CLOCK,
          std::string("ASAN_OPTIONS=") + (options ? std::string(options) + ":" : "") +
              "verify_asan_link_order=0:exitcode=99"};
}

Outcome run_jumping(const Arguments& words) {
  Arguments command = jumping();
  command.insert(command.end(), words.begin(), words.end());
  return run_command(command, std::chrono::minutes(5));
}

void expect_same_files(const fs::path& a, const fs::path& b, const std::set<std::string>& names) {
  for (const std::string& name : names) EXPECT_TRUE(read_file(a / name) == read_file(b / name)) << name << " differs";
}

class ClockJumps : public ::testing::Test {
 protected:
  void SetUp() override { write_labelled_molecules(table, 40); }

  Arguments prepare(const std::string& output) const {
    return {"prepare", "--input",  table,  "--label-columns", "oxygens", "--conformers",
            "1",       "--output", output, "--workers",       "2",       "--quiet"};
  }
  Arguments pretrain(const std::string& output) const {
    return {"pretrain", "--data", data,           "--output", output,      "--model", "tiny",
            "--steps",  "6",      "--batch-size", "4",        "--threads", "1",       "--checkpoint-every",
            "3",        "--quiet"};
  }
  static void expect_same_model(const fs::path& a, const fs::path& b) {
    ASSERT_EQ(last_checkpoint(a).filename(), last_checkpoint(b).filename());
    expect_same_files(last_checkpoint(a), last_checkpoint(b), {"model.safetensors", "optimizer.safetensors"});
  }

  TemporaryFolder folder;
  const std::string table = folder / "table.csv", data = folder / "data", run = folder / "run",
                    jumped = folder / "jumped";
};

/// Without this, the tests below would show nothing.
TEST_F(ClockJumps, TheClockDoesJump) {
  const auto year = [](const Outcome& outcome) { return std::atoi(outcome.out.c_str()); };
  const Outcome usual = run_command({"date", "+%Y"}), other = run_jumping({"date", "+%Y"});
  ASSERT_EQ(other.status, 0) << other.err;
  EXPECT_GE(std::abs(year(usual) - year(other)), 4) << usual.out << other.out;
}

TEST_F(ClockJumps, DataSetsAreTheSame) {
  succeed(prepare(data));
  const Outcome outcome = run_program_under(jumping(), prepare(jumped));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const auto names = names_below(data);
  EXPECT_EQ(names, names_below(jumped));
  for (const std::string& name : names)
    if (name != ".lock") expect_same_files(data, jumped, {name});
}

TEST_F(ClockJumps, RunsAreTheSame) {
  succeed(prepare(data));
  succeed(pretrain(run));
  Outcome outcome = run_program_under(jumping(), pretrain(jumped));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_same_model(run, jumped);

  // Two ranks, with a deadline for each other that every jump is far beyond.
  setenv("MOLEBLEND", program().c_str(), 1);
  const auto ranks = [&](const std::string& output) {
    Arguments words = {MOLEBLEND_SOURCE_DIR "/scripts/launch_local.sh", "--ranks", "2", "--tcp"};
    for (const std::string& word : pretrain(output)) words.push_back(word);
    words.insert(words.end(), {"--rank-deadline", "60"});
    return words;
  };
  outcome = run_command(ranks(run + "-2"));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  outcome = run_jumping(ranks(jumped + "-2"));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_same_model(run + "-2", jumped + "-2");
}

}  // namespace
}  // namespace moleblend::end_to_end
