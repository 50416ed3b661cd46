// Faults under a run: killed anywhere, its newest files damaged, the disk full, the folder read-only or in use. It goes on to the same
// bytes as a run that nothing happened to, or stops with one line.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

constexpr int kMolecules = 40;
constexpr const char* kSteps = "12";
constexpr const char* kCheckpointFiles[] = {"model.safetensors", "optimizer.safetensors", "state.json"};

/// One line on standard error that begins as others do and has the words, and the exit status of a failure.
void expect_one_line(const Outcome& outcome, const std::vector<std::string>& words) {
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  const std::vector<std::string> lines = lines_of(outcome.err);
  ASSERT_EQ(lines.size(), 1u) << outcome.err;
  EXPECT_TRUE(lines[0].starts_with("moleblend: ")) << lines[0];
  EXPECT_NE(lines[0].find("; "), std::string::npos) << "no remedy: " << lines[0];
  for (const std::string& word : words)
    EXPECT_NE(lines[0].find(word), std::string::npos) << "no \"" << word << "\" in: " << lines[0];
}

/// A data set, and a run that nothing happens to.
class Faults : public ::testing::Test {
 protected:
  void SetUp() override {
    write_sample_molecules(folder / "molecules.smi", kMolecules);
    succeed({"prepare", "--input", folder / "molecules.smi", "--output", data, "--quiet"});
    ASSERT_FALSE(HasFailure());
    succeed(pretrain(whole));
    ASSERT_FALSE(HasFailure());
  }

  Arguments pretrain(const std::string& output, const Arguments& more = {}) const {
    Arguments arguments{"pretrain", "--data", data,           "--output", output,      "--model", "tiny",
                        "--steps",  kSteps,   "--batch-size", "4",        "--threads", "1",       "--checkpoint-every",
                        "3",        "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Arguments resume() const { return {"pretrain", "--resume", run, "--quiet"}; }

  void expect_as_whole() const {
    const fs::path a = last_checkpoint(whole), b = last_checkpoint(run);
    ASSERT_EQ(a.filename(), b.filename());
    for (const char* file : kCheckpointFiles)
      EXPECT_TRUE(read_file(a / file) == read_file(b / file)) << file << " differs";
    EXPECT_EQ(names_below(fs::path(whole) / "checkpoints"), names_below(fs::path(run) / "checkpoints"));
    EXPECT_EQ(losses(whole), losses(run));
  }
  /// Every line of the log without the fields that tell times.
  static std::vector<std::string> losses(const std::string& of) {
    std::vector<std::string> lines;
    for (const std::string& text : lines_of(read_file(fs::path(of) / "metrics.jsonl"))) {
      nlohmann::json line = nlohmann::json::parse(text);
      line.erase("seconds");
      line.erase("molecules_per_s");
      lines.push_back(line.dump());
    }
    return lines;
  }

  /// Calls f for faults of many kinds in a file, with the file in that state, and puts it right after each.
  template <class F>
  static void with_each_damage(const fs::path& file, F&& f) {
    const std::string good = read_file(file);
    const auto flipped = [&](std::size_t at) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0x10);
      write_file(file, bad);
    };
    write_file(file, good.substr(0, good.size() / 2)), f("cut");
    flipped(good.size() / 2), f("middle changed");
    if (!MOLEBLEND_SANITIZED) {  // the same code again, in runs that take several times as long
      fs::remove(file), f("missing");
      write_file(file, ""), f("empty");
      flipped(3), f("beginning changed");
      flipped(good.size() - 5), f("end changed");
    }
    write_file(file, good);
  }

  TemporaryFolder folder;
  const std::string data = folder / "data", whole = folder / "whole", run = folder / "run";
};

TEST_F(Faults, KilledAgainAndAgainEndsWithTheSameBytes) {
  const fs::path log = fs::path(run) / "metrics.jsonl", checkpoints = fs::path(run) / "checkpoints";
  const auto lines = [&](std::size_t n) { return fs::exists(log) && lines_of(read_file(log)).size() >= n; };
  const auto writing = [&] {
    const auto names = names_below(checkpoints);
    return std::any_of(names.begin(), names.end(),
                       [](const std::string& name) { return name.starts_with(".writing-"); });
  };
  // As soon as the folder is there: with settings the run is resumed, without them it is begun again.
  ASSERT_TRUE(kill_program_when(pretrain(run), [&] { return fs::exists(run); }));
  const bool begun = fs::exists(fs::path(run) / "config.toml");
  EXPECT_TRUE(kill_program_when(begun ? resume() : pretrain(run), [&] { return lines(1); }));
  EXPECT_TRUE(kill_program_when(resume(), writing)) << "no checkpoint was seen being written";
  EXPECT_TRUE(kill_program_when(resume(), [&] { return lines(5); }));
  EXPECT_TRUE(kill_program_when(resume(), [&] { return lines(5) && writing(); }))
      << "no checkpoint was seen being written";
  succeed(resume());
  expect_as_whole();
}

/// What a kill may leave, put there by hand: a moment that a test can't meet for sure.
TEST_F(Faults, HalfWrittenThingsAreNotUsed) {
  succeed(pretrain(run, {"--stop-at", "6"}));
  const fs::path checkpoints = fs::path(run) / "checkpoints", half = checkpoints / ".writing-step-00000009-123";
  fs::create_directory(half);
  write_file(half / "model.safetensors", "half of a mod");
  write_file(checkpoints / ".best.json.partial-123-0-0", "{\"st");
  // Between the removal of an old checkpoint's state and of the rest.
  fs::create_directory(checkpoints / "step-00000001");
  write_file(checkpoints / "step-00000001" / "model.safetensors", "old");
  const std::string log = read_file(fs::path(run) / "metrics.jsonl");
  write_file(fs::path(run) / "metrics.jsonl", log + R"({"step": 7, "loss": 1.5})" + "\n" + R"({"step": 8, "lo)");
  succeed(resume());
  expect_as_whole();
}

TEST_F(Faults, DamagedNewestCheckpointIsPassedOver) {
  succeed(pretrain(whole + "-6", {"--stop-at", "6"}));
  for (const char* file : kCheckpointFiles) {
    with_each_damage(last_checkpoint(whole + "-6") / file, [&](const std::string& how) {
      SCOPED_TRACE(std::string(file) + " " + how);
      fs::remove_all(run);
      fs::copy(whole + "-6", run, fs::copy_options::recursive);
      const Outcome outcome = run_program(resume());
      EXPECT_EQ(outcome.status, 0) << outcome.err;
      const std::vector<std::string> lines = lines_of(outcome.err);
      ASSERT_EQ(lines.size(), 1u) << outcome.err;
      EXPECT_TRUE(lines[0].starts_with("moleblend: warning: ")) << lines[0];
      EXPECT_NE(lines[0].find("step-00000006"), std::string::npos) << lines[0];
      expect_as_whole();
    });
  }
}

TEST_F(Faults, WithoutAWholeCheckpointTheRunBeginsAgain) {
  succeed(pretrain(run, {"--stop-at", "4"}));
  for (const auto& entry : fs::directory_iterator(fs::path(run) / "checkpoints")) {
    if (entry.is_directory()) fs::resize_file(entry.path() / "model.safetensors", 1000);
  }
  const Outcome outcome = run_program(resume());
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("it begins again at step 0"), std::string::npos) << outcome.err;
  expect_as_whole();
}

TEST_F(Faults, AnotherDataSetUnderTheRunIsRefused) {
  succeed(pretrain(run, {"--stop-at", "6"}));
  fs::rename(data, data + "-kept");
  write_sample_molecules(folder / "others.smi", kMolecules - 10);
  succeed({"prepare", "--input", folder / "others.smi", "--output", data, "--quiet"});
  expect_one_line(run_program(resume()), {"fingerprint", "--data"});
  fs::remove_all(data);
  fs::rename(data + "-kept", data);
  succeed(resume());
  expect_as_whole();
}

TEST_F(Faults, ShardThatBecomesShorterUnderTheRunStopsItInOneLine) {
  Arguments endless = pretrain(run);
  *(std::find(endless.begin(), endless.end(), "--steps") + 1) = "100000000";
  const fs::path shard = fs::path(data) / "shard-00000000.mbs";
  const std::string good = read_file(shard);
  // The shell cuts the shard once the run is under way, and ends as the run does.
  const std::string script = R"sh(log=$1; shard=$2; shift 2
    "$@" & pid=$!
    until [ "$(cat "$log" 2>/dev/null | wc -l)" -ge 3 ]; do kill -0 $pid || exit 77; sleep 0.02; done
    : > "$shard"
    wait $pid)sh";
  const Outcome outcome = run_program_under({"sh", "-c", script, "sh", run + "/metrics.jsonl", shard.string()}, endless,
                                            std::chrono::minutes(2));
  expect_one_line(outcome, {"shard-00000000.mbs", "shorter"});
  write_file(shard, good);
  EXPECT_EQ(run_program({"inspect", last_checkpoint(run).string()}).status, 0);
}

TEST_F(Faults, OneProgramAtATime) {
  succeed(pretrain(run, {"--stop-at", "6"}));
  const int lock = open((run + "/.lock").c_str(), O_RDWR);
  ASSERT_EQ(flock(lock, LOCK_EX), 0);
  const std::vector<std::string> before = names_below(run);
  expect_one_line(run_program(resume()), {"in use"});
  EXPECT_EQ(names_below(run), before);
  close(lock);
  succeed(resume());
  expect_as_whole();
}

TEST_F(Faults, FilesOverTheSizeLimitStopTheRunInOneLine) {
  succeed(pretrain(run, {"--stop-at", "6"}));
  // In blocks of 512 bytes: less than a checkpoint's parameters (2.4 MB), more than everything else.
  expect_one_line(run_program_under({"sh", "-c", "ulimit -f 2000; exec \"$@\"", "sh"}, resume()),
                  {"model.safetensors", "ulimit -f"});
  EXPECT_EQ(last_checkpoint(run).filename(), "step-00000006");
  succeed(resume());
  expect_as_whole();
}

/// A mount namespace of its own, in which this user may mount; empty where the system forbids that.
Arguments mount_namespace() {
  const Arguments words = {"unshare", "--map-root-user", "--mount"};
  Arguments probe = words;
  probe.insert(probe.end(), {"sh", "-c", "mount -t tmpfs -o size=1m none /mnt && exit 3", "sh"});
  return run_program_under(probe, {}).status == 3 ? words : Arguments();
}

TEST_F(Faults, FullDiskStopsTheRunInOneLineAndItGoesOn) {
  Arguments words = mount_namespace();
  if (words.empty()) GTEST_SKIP() << "this system gives no mount namespace for a small disk";
  // A checkpoint takes 7.5 MB. The third finds no room beside the filler; then the filler goes.
  const std::string script = R"sh(run=$1; shift
    mkdir "$run-disk" && mount -t tmpfs -o size=36m none "$run-disk" && head -c 17000000 /dev/zero > "$run-disk/filler"
    "$@" ; echo "first $?" ; rm "$run-disk/filler"
    "$1" pretrain --resume "$run-disk/run" --quiet ; echo "second $?" ; cp -r "$run-disk/run" "$run")sh";
  words.insert(words.end(), {"sh", "-c", script, "sh", run});
  const Outcome outcome = run_program_under(words, pretrain(run + "-disk/run"));
  EXPECT_EQ(outcome.out, "first 1\nsecond 0\n") << outcome.err;
  expect_one_line({1, "", outcome.err}, {"No space left on device", "free some space"});
  expect_as_whole();
}

TEST_F(Faults, ReadOnlyFolderIsRefusedInOneLine) {
  Arguments words = mount_namespace();
  if (words.empty()) GTEST_SKIP() << "this system gives no mount namespace, and permissions do not bind every user";
  succeed(pretrain(run, {"--stop-at", "6"}));
  const std::string script = R"(mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@")";
  words.insert(words.end(), {"sh", "-c", script, "sh", folder.path().string()});
  expect_one_line(run_program_under(words, resume()), {"Read-only file system"});
  expect_one_line(run_program_under(words, pretrain(folder / "new")), {"Read-only file system"});
  expect_one_line(
      run_program_under(words, {"prepare", "--input", folder / "molecules.smi", "--output", folder / "new", "--quiet"}),
      {"Read-only file system"});
  EXPECT_FALSE(fs::exists(folder.path() / "new"));
  succeed(resume());
  expect_as_whole();
}

TEST_F(Faults, WhatSettingsCantHoldIsRefusedBeforeTheRun) {
  const std::string odd = folder / "data\n#1";
  fs::rename(data, odd);
  const Outcome outcome =
      run_program({"pretrain", "--data", odd, "--output", run, "--model", "tiny", "--steps", "2", "--quiet"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(lines_of(outcome.err).size(), 1u) << outcome.err;
  EXPECT_NE(outcome.err.find("--data"), std::string::npos) << outcome.err;
  EXPECT_FALSE(fs::exists(run));
}

}  // namespace
}  // namespace moleblend::end_to_end
