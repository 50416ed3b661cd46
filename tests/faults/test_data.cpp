// Faults under prepare and finetune: killed anywhere, a full disk, damaged shards and results. The end is the same bytes, or one line
// that says what to do, and what it says to do helps.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

/// Everything in a folder but the lock, whose text is the process that held it.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const std::string& name : names_below(folder))
    if (fs::is_regular_file(folder / name) && fs::path(name).filename() != ".lock")
      files[name] = read_file(folder / name);
  return files;
}

void expect_same_contents(const fs::path& a, const fs::path& b) {
  const auto whole = contents(a), other = contents(b);
  for (const auto& [name, bytes] : whole) {
    const auto found = other.find(name);
    EXPECT_TRUE(found != other.end() && found->second == bytes)
        << name << (found == other.end() ? " is missing" : " differs");
  }
  EXPECT_EQ(other.size(), whole.size()) << "more files than in the undisturbed run";
}

int shards_in(const fs::path& folder) {
  const auto names = names_below(folder);
  return static_cast<int>(
      std::count_if(names.begin(), names.end(), [](const std::string& name) { return name.starts_with("shard-"); }));
}

class PrepareFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    write_sample_molecules(molecules, 60);
    write_file(molecules, read_file(molecules) + "C1CC broken ring\n");
    succeed(prepare(whole));
    ASSERT_FALSE(HasFailure());
  }
  Arguments prepare(const std::string& output, const Arguments& more = {}) const {
    Arguments arguments{"prepare", "--input",   molecules, "--output",     output, "--conformers",
                        "1",       "--workers", "2",       "--block-size", "5",    "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Arguments resume() const { return prepare(data, {"--resume"}); }

  TemporaryFolder folder;
  const std::string molecules = folder / "molecules.smi", whole = folder / "whole", data = folder / "data";
};

TEST_F(PrepareFaults, KilledAgainAndAgainEndsWithTheSameBytes) {
  ASSERT_TRUE(kill_program_when(prepare(data), [&] { return shards_in(data) >= 1; }));
  for (const int shards : {3, 6, 10})
    EXPECT_TRUE(kill_program_when(resume(), [&] { return shards_in(data) >= shards; })) << shards;
  succeed(resume());
  expect_same_contents(whole, data);
}

TEST_F(PrepareFaults, KilledAtOnceGoesOn) {
  ASSERT_TRUE(kill_program_when(prepare(data), [&] { return fs::exists(data); }));
  succeed(resume());
  expect_same_contents(whole, data);
}

/// The remedy that the message gives, tried.
TEST_F(PrepareFaults, DamagedShardIsMendedByTheRemedy) {
  fs::copy(whole, data);
  const fs::path shard = fs::path(data) / "shard-00000003.mbs";
  const std::string good = read_file(shard);
  const std::size_t header = 20, tables = 100, records = good.size() / 2, checksum = good.size() - 3;
  for (const std::size_t at : {header, tables, records, checksum}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x01);
    write_file(shard, bad);
    const Outcome outcome = run_program(
        {"pretrain", "--data", data, "--output", folder / "run", "--model", "tiny", "--steps", "2", "--quiet"});
    EXPECT_EQ(outcome.status, 1) << at;
    EXPECT_EQ(lines_of(outcome.err).size(), 1u) << outcome.err;
    EXPECT_NE(outcome.err.find("shard-00000003.mbs"), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("--resume"), std::string::npos) << outcome.err;
    EXPECT_FALSE(fs::exists(folder.path() / "run"));
    fs::remove(shard);
    succeed(resume());
    expect_same_contents(whole, data);
  }
}

TEST_F(PrepareFaults, DamagedDescriptionIsMendedByTheRemedy) {
  fs::copy(whole, data);
  const fs::path description = fs::path(data) / "dataset.json";
  fs::resize_file(description, fs::file_size(description) / 2);
  const Outcome outcome = run_program({"inspect", data});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("delete it and run the same `moleblend prepare` with --resume"), std::string::npos)
      << outcome.err;
  fs::remove(description);
  succeed(resume());
  expect_same_contents(whole, data);
}

TEST_F(PrepareFaults, FilesOverTheSizeLimitStopItInOneLine) {
  // In blocks of 512 bytes: more than prepare.json has, less than a shard.
  const Outcome outcome = run_program_under({"sh", "-c", "ulimit -f 2; exec \"$@\"", "sh"}, prepare(data));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(lines_of(outcome.err).size(), 1u) << outcome.err;
  EXPECT_NE(outcome.err.find("ulimit -f"), std::string::npos) << outcome.err;
  succeed(resume());
  expect_same_contents(whole, data);
}

TEST_F(PrepareFaults, ColumnNamesWithLineBreaksStayOnOneLine) {
  write_file(folder / "table.csv", "\"a\nb\",c\n1,2\n");
  const Outcome outcome = run_program({"prepare", "--input", folder / "table.csv", "--output", data, "--quiet"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(lines_of(outcome.err).size(), 1u) << outcome.err;
}

class FinetuneFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    write_labelled_molecules(folder / "table.csv", 60);
    succeed({"prepare", "--input", folder / "table.csv", "--label-columns", "oxygens", "--output", folder / "data",
             "--quiet"});
    succeed(finetune(whole));
    ASSERT_FALSE(HasFailure());
  }
  Arguments finetune(const std::string& output) const {
    return {"finetune",   "--data",   folder / "data", "--output", output,
            "--init",     "none",     "--model",       "tiny",     "--task",
            "regression", "--labels", "oxygens",       "--epochs", "4",
            "--seeds",    "2",        "--batch-size",  "8",        "--threads",
            "1",          "--quiet"};
  }
  Arguments resume() const { return {"finetune", "--resume", run, "--quiet"}; }

  void expect_as_whole() const {
    for (const std::string seed : {"seed-1", "seed-2"}) {
      const fs::path a = last_checkpoint(fs::path(whole) / seed), b = last_checkpoint(fs::path(run) / seed);
      EXPECT_EQ(a.filename(), b.filename());
      for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json"})
        EXPECT_TRUE(read_file(a / file) == read_file(b / file)) << seed << " " << file;
      EXPECT_EQ(read_file(whole + "/" + seed + "/test.csv"), read_file(run + "/" + seed + "/test.csv"));
    }
    EXPECT_EQ(names_below(whole), names_below(run));
    EXPECT_EQ(read_file(whole + "/split.csv"), read_file(run + "/split.csv"));
  }

  TemporaryFolder folder;
  const std::string whole = folder / "whole", run = folder / "run";
};

TEST_F(FinetuneFaults, KilledAgainAndAgainEndsWithTheSameBytes) {
  const auto lines = [&](const std::string& seed, std::size_t n) {
    const std::string log = run + "/" + seed + "/metrics.jsonl";
    return fs::exists(log) && lines_of(read_file(log)).size() >= n;
  };
  ASSERT_TRUE(kill_program_when(finetune(run), [&] { return fs::exists(run + "/config.toml"); }));
  EXPECT_TRUE(kill_program_when(resume(), [&] { return lines("seed-1", 3); }));
  EXPECT_TRUE(kill_program_when(resume(), [&] { return lines("seed-1", 12); }));
  EXPECT_TRUE(kill_program_when(resume(), [&] { return lines("seed-2", 3); }));
  succeed(resume());
  expect_as_whole();
}

TEST_F(FinetuneFaults, LostAndDamagedResultsAreMadeAgain) {
  fs::copy(whole, run, fs::copy_options::recursive);
  fs::remove(run + "/split.csv");
  write_file(run + "/.split.csv.partial-12-0-0", "index,ident");
  fs::resize_file(run + "/seed-1/result.json", 20);
  fs::remove(run + "/seed-2/result.json");
  const Outcome outcome = run_program(resume());
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(lines_of(outcome.err).size(), 1u) << outcome.err;
  EXPECT_NE(outcome.err.find("seed-1/result.json is damaged"), std::string::npos) << outcome.err;
  expect_as_whole();
}

}  // namespace
}  // namespace moleblend::end_to_end
