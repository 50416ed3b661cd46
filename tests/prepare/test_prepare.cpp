// Whole runs with the real chemistry: the same bytes for any number of workers, after a kill, and from parts; every record accounted
// for; refusals that leave nothing behind.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "io/dataset/dataset.h"
#include "io/dataset/dataset_json.h"
#include "io/prepare/merge.h"
#include "io/prepare/prepare.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "io/support/lock.h"
#include "tests/io/molecules.h"
#include "tests/prepare/folder.h"

namespace moleblend {
namespace {

class Prepare : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      chemistry_ = load_chemistry();
    } catch (const Error& e) {
      GTEST_SKIP() << "this build reads no molecules: " << e.what();
    }
    // Rings, chains, salts, charges, stereo; every 23rd line is no molecule.
    const std::vector<std::string> pieces = {
        "CCO", "c1ccccc1", "C[C@H](N)C(=O)O", "[Na+].[Cl-]", "F/C=C/Cl", "O=[N+]([O-])c1ccccc1", "CS(=O)C"};
    std::string lines = "SMILES name\n";
    for (int i = 0; i < kMolecules; ++i)
      lines += fmt::format("{}{}{} m{}\n", std::string(static_cast<std::size_t>(i % 5), 'C'),
                           pieces[static_cast<std::size_t>(i) % pieces.size()], i % 23 == 5 ? "1CC(" : "", i);
    smiles_ = folder_.write("molecules.smi", lines);
  }

  PrepareOptions options(const std::string& output, int workers = 2) const {
    PrepareOptions o;
    o.inputs = {smiles_};
    o.output = folder_.path() / output;
    o.block_size = 50;
    o.workers = workers;
    o.quiet = true;
    o.program_version = "test";
    return o;
  }
  std::vector<std::filesystem::path> three_parts();

  static constexpr int kMolecules = 500, kRejected = 22;
  TemporaryFolder folder_;
  std::filesystem::path smiles_;
  std::unique_ptr<Chemistry> chemistry_;
};

TEST_F(Prepare, EveryRecordIsAccountedForInOrder) {
  const PrepareSummary summary = prepare(options("a"), *chemistry_);
  EXPECT_EQ(summary.records, kMolecules);
  EXPECT_EQ(summary.read, kMolecules);
  EXPECT_EQ(summary.rejected, kRejected);
  EXPECT_EQ(summary.kept, kMolecules - kRejected);
  const Dataset dataset = Dataset::open(folder_.path() / "a", true);
  ASSERT_EQ(dataset.size(), summary.kept);
  std::vector<bool> seen(kMolecules, false);
  std::uint64_t last = 0;
  Molecule molecule;
  for (std::uint64_t i = 0; i < dataset.size(); ++i) {
    dataset.read(i, molecule);
    EXPECT_EQ(molecule.identifier, fmt::format("m{}", molecule.source_record));
    EXPECT_TRUE(i == 0 || molecule.source_record > last);
    last = molecule.source_record;
    seen.at(last) = true;
  }
  for (const auto& row : rejected_rows(folder_.path() / "a")) {
    const auto number = std::stoul(row.at(1));
    EXPECT_EQ(row.at(0), smiles_.string());
    EXPECT_EQ(row.at(2), fmt::format("{}", number + 2)) << "its line";
    EXPECT_EQ(row.at(3), fmt::format("m{}", number));
    EXPECT_FALSE(row.at(4).empty());
    EXPECT_FALSE(seen.at(number));
    seen.at(number) = true;
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), kMolecules);
}

TEST_F(Prepare, SameBytesForAnyNumberOfWorkers) {
  prepare(options("one", 1), *chemistry_);
  prepare(options("two", 2), *chemistry_);
  prepare(options("three", 3), *chemistry_);
  const auto one = contents(folder_.path() / "one");
  EXPECT_EQ(one.size(), 10u + 3u) << "ten shards, dataset.json, prepare.json, rejected.csv";
  EXPECT_EQ(one, contents(folder_.path() / "two"));
  EXPECT_EQ(one, contents(folder_.path() / "three"));
}

TEST_F(Prepare, SameConformersForAnyNumberOfWorkers) {
  const auto with_conformers = [&](const std::string& output, int workers, std::uint64_t seed) {
    PrepareOptions o = options(output, workers);
    o.inputs = {folder_.write("few.smi", "CCO\nCC(C)CC\nc1ccccc1O\nC[C@H](N)C(=O)O\nCCCCN\nOCC=C\n")};
    o.block_size = 2;
    o.read.conformers.count = 2;
    o.seed = seed;
    EXPECT_EQ(prepare(o, *chemistry_).with_positions, 6u);
    auto files = contents(o.output);
    return files;
  };
  const auto one = with_conformers("one", 1, 1);
  EXPECT_EQ(one, with_conformers("three", 3, 1));
  EXPECT_NE(one.at("shard-00000000.mbs"), with_conformers("other", 1, 2).at("shard-00000000.mbs"));
}

/// Prepares three parts into folders part1, part2 and part3; gives them.
std::vector<std::filesystem::path> Prepare::three_parts() {
  std::vector<std::filesystem::path> folders;
  std::uint64_t records = 0;
  for (std::uint64_t part = 1; part <= 3; ++part) {
    PrepareOptions o = options(fmt::format("part{}", part));
    o.part = part;
    o.parts = 3;
    const PrepareSummary summary = prepare(o, *chemistry_);
    records += summary.records;
    EXPECT_EQ(summary.records_in_all, kMolecules);
    EXPECT_NE(read_dataset_json(o.output).options.find(fmt::format("{}/3", part)), std::string::npos);
    folders.push_back(o.output);
  }
  EXPECT_EQ(records, kMolecules);
  return folders;
}

TEST_F(Prepare, PartsMergedAreTheWhole) {
  const PrepareSummary whole = prepare(options("whole"), *chemistry_);
  std::vector<std::filesystem::path> parts = three_parts();
  std::swap(parts[0], parts[2]);  // in any order
  const MergeOptions merge{.parts = parts, .output = folder_.path() / "merged", .quiet = true};
  const PrepareSummary merged = merge_parts(merge);
  EXPECT_EQ(contents(merge.output), contents(folder_.path() / "whole"));
  EXPECT_EQ(merged.records, whole.records);
  EXPECT_EQ(merged.kept, whole.kept);
  EXPECT_EQ(merged.rejected, whole.rejected);
  EXPECT_EQ(merged.reasons, whole.reasons);
  EXPECT_EQ(merged.fingerprint, whole.fingerprint);

  // Killed in the middle: some shards are there, one of them damaged, and no dataset.json.
  MergeOptions again = merge;
  again.resume = true;
  std::filesystem::remove(merge.output / "dataset.json");
  std::filesystem::remove(merge.output / "shard-00000001.mbs");
  write_file(merge.output / "shard-00000000.mbs", "half a shard");
  merge_parts(again);
  EXPECT_EQ(contents(merge.output), contents(folder_.path() / "whole"));
  EXPECT_EQ(read_file(parts[2] / "shard-00000000.mbs"), read_file(folder_.path() / "whole" / "shard-00000000.mbs"))
      << "a part stays as it was";
}

TEST_F(Prepare, WhatIsNoPartOfTheSameDataSetIsNotMerged) {
  const std::vector<std::filesystem::path> parts = three_parts();
  const auto refused = [&](std::vector<std::filesystem::path> folders, const std::string& why) {
    const std::string error =
        testing::error_of([&] { merge_parts({.parts = folders, .output = folder_.path() / "merged", .quiet = true}); });
    EXPECT_NE(error.find(why), std::string::npos) << error;
    EXPECT_FALSE(std::filesystem::exists(folder_.path() / "merged" / "dataset.json"));
  };
  refused({parts[0], parts[2]}, "part 2/3 is missing");
  refused({parts[0], parts[1], parts[1], parts[2]}, "both have shard-");
  refused({parts[0], folder_.path()}, "no run of prepare");
  PrepareOptions other = options("other");
  other.seed = 99;
  other.part = 2;
  other.parts = 3;
  prepare(other, *chemistry_);
  refused({parts[0], other.output, parts[2]}, "other options (seed)");
  std::filesystem::remove(parts[1] / "dataset.json");
  refused(parts, "no finished part");
}

TEST_F(Prepare, PartsMovedIntoOneFolderAreTheWhole) {
  prepare(options("whole"), *chemistry_);
  three_parts();
  for (const char* part : {"part2", "part3"})
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path() / part)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("shard-") || name.starts_with("rejected-"))
        std::filesystem::rename(entry.path(), folder_.path() / "part1" / name);
    }
  PrepareOptions unite = options("part1");
  unite.resume = true;
  EXPECT_EQ(prepare(unite, *chemistry_).read, 0u) << "nothing is read again";
  EXPECT_EQ(contents(folder_.path() / "part1"), contents(folder_.path() / "whole"));
}

TEST_F(Prepare, PartsOneAfterTheOtherInOneFolder) {
  prepare(options("whole"), *chemistry_);
  for (std::uint64_t part = 1; part <= 2; ++part) {
    PrepareOptions o = options("both");
    o.part = part;
    o.parts = 2;
    o.resume = true;
    prepare(o, *chemistry_);
  }
  EXPECT_EQ(contents(folder_.path() / "both"), contents(folder_.path() / "whole"));
}

TEST_F(Prepare, KilledAndResumedGivesTheSameBytes) {
  PrepareOptions o = options("whole");
  o.read.conformers.count = 1;  // slow enough to be killed in the middle
  o.read.conformers.force_field_steps = 0;
  prepare(o, *chemistry_);
  o.output = folder_.path() / "killed";
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      prepare(o, *chemistry_);
    } catch (...) {
    }
    ::_exit(0);
  }
  const auto shards = [&] {
    std::size_t count = 0;
    if (std::filesystem::exists(o.output))
      for (const auto& entry : std::filesystem::directory_iterator(o.output))
        count += entry.path().extension() == ".mbs";
    return count;
  };
  while (shards() < 3) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ASSERT_FALSE(std::filesystem::exists(o.output / "dataset.json"));
  // A shard that is damaged counts as not done.
  const auto damaged = o.output / "shard-00000001.mbs";
  std::string bytes = read_file(damaged);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file(damaged, bytes);
  EXPECT_THROW(prepare(o, *chemistry_), UsageError) << "without --resume";
  o.resume = true;
  const PrepareSummary summary = prepare(o, *chemistry_);
  EXPECT_GT(summary.read, 0u);
  EXPECT_LT(summary.read, static_cast<std::uint64_t>(kMolecules));
  EXPECT_EQ(contents(o.output), contents(folder_.path() / "whole"));
  const PrepareSummary again = prepare(o, *chemistry_);
  EXPECT_TRUE(again.was_complete);
  EXPECT_EQ(again.kept, summary.kept);
  EXPECT_EQ(again.reasons, summary.reasons);
}

TEST_F(Prepare, SigtermKeepsWhatIsFinished) {
  PrepareOptions o = options("stopped");
  o.read.conformers.count = 1;
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 1;
    try {
      prepare(o, *chemistry_);
    } catch (const std::exception& e) {
      status = std::string(e.what()).find("--resume") != std::string::npos ? 42 : 43;
    }
    ::_exit(status);
  }
  while (!std::filesystem::exists(o.output / "shard-00000000.mbs"))
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  ::kill(child, SIGTERM);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_FALSE(std::filesystem::exists(o.output / "dataset.json"));
}

TEST_F(Prepare, ResumeRefusesOtherOptionsAndInputs) {
  PrepareOptions o = options("a");
  o.part = 1;
  o.parts = 2;
  prepare(o, *chemistry_);
  o.resume = true;
  const auto message = [&](const PrepareOptions& changed) -> std::string {
    try {
      prepare(changed, *chemistry_);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  PrepareOptions changed = o;
  changed.seed = 2;
  changed.read.keep_hydrogens = true;
  EXPECT_NE(message(changed).find("keep_hydrogens, seed"), std::string::npos) << message(changed);
  changed = o;
  changed.inputs.push_back(smiles_);
  EXPECT_NE(message(changed).find("input files"), std::string::npos) << message(changed);
  folder_.write("molecules.smi", "CCO\n");
  EXPECT_NE(message(o).find("another content"), std::string::npos) << message(o);
}

TEST_F(Prepare, RefusalsLeaveNothingBehind) {
  const auto refused = [&](PrepareOptions o) {
    o.output = folder_.path() / "out";
    EXPECT_THROW(prepare(o, *chemistry_), Error);
    EXPECT_FALSE(std::filesystem::exists(o.output));
  };
  PrepareOptions o = options("out");
  o.inputs.push_back(folder_.path() / "nowhere.smi");
  refused(o);
  o = options("out");
  o.inputs = {folder_.write("empty.smi", "\n\n")};
  refused(o);
  o = options("out");
  o.inputs = {folder_.write("molecules.qqq", "CCO\n")};
  refused(o);
  o = options("out");
  o.columns.labels = {"y"};
  refused(o);
  o = options("out");
  o.part = 3;
  o.parts = 2;
  refused(o);
  o = options("out");
  o.read.conformers.required = true;
  refused(o);
  o = options("out");
  o.timeout = std::nan("");
  refused(o);
}

TEST_F(Prepare, OneRunAtATime) {
  const PrepareOptions o = options("busy");
  const FolderLock lock(o.output);
  EXPECT_THROW(prepare(o, *chemistry_), Error);
}

TEST_F(Prepare, TablesAndPairs) {
  const std::string water =
      "\n  by hand           3D\n\n  3  2  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.1170 O   0  0\n  "
      "  0.0000    "
      "0.7570   -0.4690 H   0  0\n"
      "    0.0000   -0.7570   -0.4690 H   0  0\n  1  2  1  0\n  1  3  1  0\nM  END\n$$$$\n";
  PrepareOptions o = options("a");
  o.inputs = {folder_.write("t.csv", "id,smiles,y\nx,CCO,1\ny,nonsense,2\nz,CC,high\n")};
  o.pairs = {
      {folder_.write("p.csv", "id,smiles,y\nw0,O,5\nw1,CO,6\nw2,CCC,7\n"), folder_.write("p.sdf", water + water)}};
  o.columns.labels = {"y"};
  o.columns.identifier = "id";
  const PrepareSummary summary = prepare(o, *chemistry_);
  EXPECT_EQ(summary.records, 6u);
  EXPECT_EQ(summary.kept, 4u);
  EXPECT_EQ(summary.with_positions, 1u);
  EXPECT_EQ(summary.odd_labels, 1u);
  EXPECT_EQ(summary.remarks.size(), 1u);
  const Dataset dataset = Dataset::open(o.output, true);
  EXPECT_EQ(dataset.info().labels, std::vector<std::string>{"y"});
  ASSERT_EQ(dataset.info().sources.size(), 3u);
  EXPECT_EQ(dataset.info().sources[1].records, 3u);
  EXPECT_EQ(dataset.info().sources[2].records, 2u);
  Molecule molecule;
  dataset.read(2, molecule);
  EXPECT_EQ(molecule.identifier, "w0");
  EXPECT_EQ(molecule.smiles, "O");
  EXPECT_EQ(molecule.conformer_source, ConformerSource::file);
  EXPECT_EQ(molecule.labels.at(0), 5.0);
  dataset.read(3, molecule);
  EXPECT_EQ(molecule.identifier, "w2");
  EXPECT_EQ(molecule.conformers, 0u);
  const auto rows = rejected_rows(o.output);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_NE(rows[1].at(4).find("heavy atoms"), std::string::npos) << rows[1].at(4);
}

TEST_F(Prepare, FormatsThatOnlyOpenBabelCanCut) {
  // Two molecules of the Chemical Markup Language in one file.
  std::string cml = "<?xml version=\"1.0\"?>\n<cml xmlns=\"http://www.xml-cml.org/schema\">\n";
  for (const char* name : {"methane", "methane2"})
    cml += fmt::format(
        "<molecule id=\"{0}\" title=\"{0}\"><atomArray><atom id=\"a1\" elementType=\"C\" "
        "hydrogenCount=\"4\"/></atomArray></molecule>\n",
        name);
  PrepareOptions o = options("a");
  o.inputs = {smiles_, folder_.write("two.cml", cml + "</cml>\n"), smiles_};
  const PrepareSummary summary = prepare(o, *chemistry_);
  EXPECT_EQ(summary.records, 2u * kMolecules + 2u);
  EXPECT_EQ(summary.kept, 2u * (kMolecules - kRejected) + 2u);
  prepare(
      [&] {
        PrepareOptions b = o;
        b.output = folder_.path() / "b";
        b.part = 1;
        b.parts = 2;
        return b;
      }(),
      *chemistry_);
  prepare(
      [&] {
        PrepareOptions b = o;
        b.output = folder_.path() / "b";
        b.part = 2;
        b.parts = 2;
        b.resume = true;
        return b;
      }(),
      *chemistry_);
  EXPECT_EQ(contents(folder_.path() / "a"), contents(folder_.path() / "b"));
}

}  // namespace
}  // namespace moleblend
