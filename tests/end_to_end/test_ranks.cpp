// Many ranks, brought together by mpirun or over TCP: they learn what one learns, tell failures once, and what is killed goes on.

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

constexpr int kSteps = MOLEBLEND_SANITIZED ? 12 : 40;

enum class Launcher { mpi, tcp };
const Launcher kLaunchers[] = {
#ifdef MOLEBLEND_WITH_MPI
    Launcher::mpi,
#endif
    Launcher::tcp};

class RanksStarted : public ::testing::TestWithParam<Launcher> {
 protected:
  void SetUp() override {
    // What mpirun asks of a container: it may run as root, and finds no network to itself.
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("MOLEBLEND", program().c_str(), 1);
    write_sample_molecules(folder / "molecules.smi", 60);
    succeed({"prepare", "--input", folder / "molecules.smi", "--output", data, "--quiet"});
    ASSERT_FALSE(HasFailure());
  }

  static Outcome start(int ranks, const Arguments& arguments) {
    Arguments words = {MOLEBLEND_SOURCE_DIR "/scripts/launch_local.sh", "--ranks", std::to_string(ranks)};
    if (GetParam() == Launcher::tcp) words.push_back("--tcp");
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_command(words, std::chrono::minutes(5));
  }
  Arguments pretrain(const std::string& run, Arguments more = {}) {
    Arguments arguments{"pretrain",
                        "--data",
                        data,
                        "--output",
                        run,
                        "--model",
                        "tiny",
                        "--steps",
                        std::to_string(kSteps),
                        "--batch-size",
                        "12",
                        "--checkpoint-every",
                        std::to_string(kSteps / 4),
                        "--threads",
                        "1",
                        "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static Arguments resume(const std::string& run) { return {"pretrain", "--resume", run, "--threads", "1", "--quiet"}; }

  static std::vector<Json> metrics(const std::string& run) {
    std::vector<Json> lines;
    for (const std::string& line : lines_of(read_file(fs::path(run) / "metrics.jsonl")))
      lines.push_back(Json::parse(line));
    return lines;
  }
  static void expect_same_losses(const std::string& a, const std::string& b) {
    const std::vector<Json> x = metrics(a), y = metrics(b);
    ASSERT_EQ(x.size(), y.size());
    for (std::size_t k = 0; k < x.size(); ++k) {
      ASSERT_EQ(x[k].at("step"), y[k].at("step"));
      if (!x[k].contains("loss")) continue;
      const double expected = x[k].at("loss"), found = y[k].at("loss");
      // Partial sums rounded to float, and what 40 steps of Adam make of it: 1e-7 was seen.
      EXPECT_TRUE(std::abs(found - expected) <= 1e-5 * std::abs(expected)) << "step " << x[k].at("step");
    }
  }
  static std::string step_name(int step) {
    const std::string digits = std::to_string(step);
    return "step-" + std::string(8 - digits.size(), '0') + digits;
  }
  static void expect_same_weights(const std::string& a, const std::string& b) {
    ASSERT_EQ(last_checkpoint(a).filename(), last_checkpoint(b).filename());
    for (const char* file : {"model.safetensors", "optimizer.safetensors"})
      EXPECT_TRUE(read_file(last_checkpoint(a) / file) == read_file(last_checkpoint(b) / file)) << file << " differs";
  }

  /// Sends a signal to one of the ranks that write to `run`, once its log has so many lines.
  static void send_to_a_rank(const std::string& run, std::size_t lines, int signal) {
    for (int tries = 0; tries < 6000; ++tries, std::this_thread::sleep_for(std::chrono::milliseconds(10))) {
      const fs::path log = fs::path(run) / "metrics.jsonl";
      if (!fs::exists(log) || lines_of(read_file(log)).size() < lines) continue;
      // The last rank: not the one that writes.
      std::vector<pid_t> ranks;
      for (const auto& entry : fs::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (!std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) continue;
        // Not read_file(), which throws: any process of the machine may end between its listing and its reading.
        std::ifstream file(entry.path() / "cmdline", std::ios::binary);
        const std::string command{std::istreambuf_iterator<char>(file), {}};
        if (command.starts_with(program()) && command.find(run) != std::string::npos) ranks.push_back(std::stoi(name));
      }
      ASSERT_FALSE(ranks.empty());
      kill(*std::max_element(ranks.begin(), ranks.end()), signal);
      return;
    }
    FAIL() << run << " never came so far";
  }

  TemporaryFolder folder;
  const std::string data = folder / "data";
};

TEST_P(RanksStarted, LearnWhatOneLearnsAndTheSameBytesTwice) {
  succeed(pretrain(folder / "one"));
  for (const int ranks : {2, 3}) {
    const std::string run = folder / std::to_string(ranks);
    const Outcome outcome = start(ranks, pretrain(run));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    expect_same_losses(folder / "one", run);
  }
  ASSERT_EQ(start(3, pretrain(folder / "again")).status, 0);
  expect_same_weights(folder / "3", folder / "again");
}

TEST_P(RanksStarted, ARunGoesOnOnAnotherNumberOfRanks) {
  succeed(pretrain(folder / "one"));
  ASSERT_EQ(start(3, pretrain(folder / "elastic", {"--stop-at", std::to_string(kSteps / 3)})).status, 0);
  succeed({"pretrain", "--resume", folder / "elastic", "--quiet", "--stop-at", std::to_string(kSteps / 2)});
  ASSERT_EQ(start(2, resume(folder / "elastic")).status, 0);
  expect_same_losses(folder / "one", folder / "elastic");
}

TEST_P(RanksStarted, ADeadRankEndsTheRunWhichGoesOnToTheSameBytes) {
  ASSERT_EQ(start(2, pretrain(folder / "straight")).status, 0);
  const std::string run = folder / "killed";
  auto outcome = std::async(std::launch::async, [&] { return start(2, pretrain(run)); });
  send_to_a_rank(run, kSteps / 3, SIGKILL);
  EXPECT_NE(outcome.get().status, 0);
  ASSERT_EQ(start(2, resume(run)).status, 0);
  expect_same_weights(folder / "straight", run);
}

TEST_P(RanksStarted, ASignalToOneStopsAllWithACheckpoint) {
  ASSERT_EQ(start(2, pretrain(folder / "straight")).status, 0);
  const std::string run = folder / "stopped";
  auto outcome = std::async(std::launch::async, [&] { return start(2, pretrain(run)); });
  send_to_a_rank(run, kSteps / 8, SIGUSR1);
  EXPECT_EQ(outcome.get().status, 128 + SIGUSR1);
  EXPECT_EQ(last_checkpoint(run).filename().string(), step_name(metrics(run).back().at("step")));
  ASSERT_EQ(start(2, resume(run)).status, 0);
  expect_same_weights(folder / "straight", run);
}

TEST_P(RanksStarted, RefusalsAreToldOnce) {
  const auto lines_of_ours = [](const Outcome& outcome) {
    std::vector<std::string> ours;
    for (const std::string& line : lines_of(outcome.err))
      if (line.starts_with("moleblend: ")) ours.push_back(line);
    return ours;
  };
  const Outcome missing = start(3, {"pretrain", "--data", folder / "nothing", "--output", folder / "run"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_EQ(lines_of_ours(missing).size(), 1u) << missing.err;
  const Outcome small = start(3, pretrain(folder / "small", {"--batch-size", "2"}));
  EXPECT_EQ(small.status, 2);
  ASSERT_EQ(lines_of_ours(small).size(), 1u) << small.err;
  EXPECT_NE(lines_of_ours(small)[0].find("--batch-size"), std::string::npos) << small.err;
}

TEST_P(RanksStarted, FineTuningLearnsWhatOneLearnsAndGoesOn) {
  write_labelled_molecules(folder / "table.csv", 60);
  succeed({"prepare", "--input", folder / "table.csv", "--label-columns", "oxygens", "--output", folder / "labelled",
           "--quiet"});
  const auto finetune = [&](const std::string& run, const Arguments& more = {}) {
    Arguments arguments{"finetune",
                        "--data",
                        folder / "labelled",
                        "--output",
                        folder / run,
                        "--model",
                        "tiny",
                        "--labels",
                        "oxygens",
                        "--task",
                        "regression",
                        "--epochs",
                        MOLEBLEND_SANITIZED ? "2" : "4",
                        "--batch-size",
                        "12",
                        "--seeds",
                        "2",
                        "--threads",
                        "1",
                        "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const auto expect_same = [&](const std::string& run) {
    for (const char* seed : {"seed-1", "seed-2"}) {
      expect_same_losses(folder / ("one/" + std::string(seed)), folder / (run + "/" + seed));
      const Json one = Json::parse(read_file(folder / ("one/" + std::string(seed) + "/result.json"))),
                 many = Json::parse(read_file(folder / (run + "/" + seed + "/result.json")));
      const double expected = one.at("test").at("rmse"), found = many.at("test").at("rmse");
      EXPECT_TRUE(std::abs(found - expected) <= 1e-4 * expected) << found << " for " << expected;
    }
  };
  succeed(finetune("one"));
  const Outcome many = start(3, finetune("many", {"--json"}));
  ASSERT_EQ(many.status, 0) << many.err;
  EXPECT_EQ(Json::parse(many.out).at("seeds").size(), 2u) << "one result, of the first rank";
  expect_same("many");

  ASSERT_EQ(start(3, finetune("elastic", {"--stop-at", "6"})).status, 0);
  ASSERT_EQ(start(2, {"finetune", "--resume", folder / "elastic", "--threads", "1", "--quiet"}).status, 0);
  expect_same("elastic");

  const Outcome missing = start(
      2, {"finetune", "--data", folder / "nothing", "--output", folder / "x", "--labels", "a", "--task", "regression"});
  EXPECT_EQ(missing.status, 1) << missing.err;
}

TEST_P(RanksStarted, LaunchLocalSaysWhatItRuns) {
  const bool tcp = GetParam() == Launcher::tcp;
  const Outcome dry = start(2, {"--dry-run", "pretrain", "--data", data, "--output", folder / "dry"});
  EXPECT_EQ(dry.status, 0) << dry.err;
  EXPECT_NE(dry.out.find(tcp ? "RANK=$rank" : "mpirun -n 2"), std::string::npos) << dry.out;
  EXPECT_FALSE(fs::exists(folder / "dry"));
  const Outcome run =
      start(2, {"pretrain", "--data", data, "--output", folder / "run", "--model", "tiny", "--steps", "3"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_NE(run.err.find("ranks      2"), std::string::npos) << run.err;
}

INSTANTIATE_TEST_SUITE_P(By, RanksStarted, ::testing::ValuesIn(kLaunchers),
                         [](const auto& launched) { return launched.param == Launcher::mpi ? "mpi" : "tcp"; });

}  // namespace
}  // namespace moleblend::end_to_end
