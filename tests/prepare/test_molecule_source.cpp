// Molecules from files and from data sets: in order, refusals among them, the same from both; and nothing is left running, whatever
// ends the reading.

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <map>
#include <thread>

#include "io/prepare/molecule_source.h"
#include "io/prepare/prepare.h"
#include "io/prepare/reader_pool.h"
#include "io/support/error.h"
#include "tests/prepare/fake_chemistry.h"
#include "tests/prepare/folder.h"

namespace moleblend {
namespace {

using namespace std::chrono_literals;

/// Processes whose parent is `parent`; those that have ended and wait for it are among them.
std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text;
    std::getline(file, text);
    // "pid (name) state parent …", and the name may hold anything.
    const std::size_t close = text.rfind(')');
    if (close == std::string::npos) continue;  // it has just gone
    char state = 0;
    pid_t of = 0;
    if (std::sscanf(text.c_str() + close + 1, " %c %d", &state, &of) == 2 && of == parent)
      children.push_back(std::stoi(name));
  }
  return children;
}

bool gone(pid_t pid) {
  for (int tries = 0; tries < 400; ++tries) {
    if (::kill(pid, 0) != 0) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

std::vector<SourcedMolecule> all(MoleculeSource& source) {
  std::vector<SourcedMolecule> items;
  for (SourcedMolecule item; source.next(item);) items.push_back(item);
  SourcedMolecule more;
  EXPECT_FALSE(source.next(more)) << "the end stays the end";
  return items;
}

std::string text_of(const SourcedMolecule& item) {
  return fmt::format("{} {}: {}", item.number, item.molecule.identifier, item.kept ? "kept" : item.reason);
}

class FakeFiles : public ::testing::Test {
 protected:
  InputOptions options(const std::string& lines, int workers = 2) {
    InputOptions o;
    o.inputs = {folder_.write("fake.smi", lines)};
    o.workers = workers;
    o.timeout = 0.5;
    o.memory_mb = 0;
    return o;
  }
  /// A batch of records that are read at once, then one at which a reader sleeps for minutes.
  InputOptions sleeping() {
    std::string lines;
    for (int k = 0; k < 128; ++k) lines += "a\n";
    InputOptions o = options(lines + "sleep\n");
    o.timeout = 60;
    return o;
  }

  TemporaryFolder folder_;
  FakeChemistry chemistry_;
};

TEST_F(FakeFiles, RefusalsAndDyingReadersKeepTheirPlaces) {
  std::string lines;
  std::vector<std::string> expected;
  const std::map<std::string, std::string> ends = {{"crash", "Open Babel crashed (signal 11: Segmentation fault)"},
                                                   {"exit", "Open Babel ended the reader process (exit status 3)"},
                                                   {"throw", "refused on purpose"}};
  const auto add = [&](const std::string& text, const std::string& name) {
    const std::string identifier = name.empty() ? fmt::format("fake.smi#{}", expected.size()) : name;
    const auto end = ends.find(text);
    expected.push_back(fmt::format("{} {}: {}", expected.size(), identifier, end == ends.end() ? "kept" : end->second));
    lines += text + " " + name + "\n";
  };
  for (int k = 0; k < 1000; ++k) {
    add(fmt::format("m{}", k), fmt::format("name {}", k));
    if (k % 250 == 100) add("crash", "");
    if (k % 250 == 101) add("throw", fmt::format("refused {}", k));
    if (k == 500) add("exit", "ending");
  }
  for (const int workers : {1, 3}) {
    const auto source = open_molecule_files(options(lines, workers), chemistry_);
    std::vector<std::string> found;
    for (const SourcedMolecule& item : all(*source)) {
      found.push_back(text_of(item));
      EXPECT_EQ(item.kept, item.molecule.size() == 3) << "atoms of the kept alone";
      EXPECT_FALSE(item.molecule.smiles.empty()) << found.back();
    }
    EXPECT_EQ(found, expected) << workers << " workers";
    EXPECT_EQ(source->progress().done, source->progress().total);
  }
  EXPECT_TRUE(children_of(::getpid()).empty());
}

TEST_F(FakeFiles, OfRefusedRecordsItKeepsWhatAPersonReads) {
  const auto source =
      open_molecule_files(options("throw  refused\ton purpose\n" + std::string(17u << 20, 'C') + "\n"), chemistry_);
  const auto items = all(*source);
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].molecule.identifier, "refused on purpose");
  EXPECT_EQ(items[0].molecule.smiles, "throw");
  EXPECT_EQ(items[1].reason, "the line is longer than 16 MB");
  EXPECT_EQ(items[1].molecule.identifier, "fake.smi#1");
  EXPECT_EQ(items[1].molecule.smiles, std::string(1000, 'C'));
}

TEST_F(FakeFiles, ThreadsOfTheCallerAndReadersThatDieDoNotMeet) {
  // Readers are forked anew while this process has threads that allocate: a fork from here would inherit their locks.
  std::string lines;
  for (int k = 0; k < 600; ++k) lines += k % 20 == 10 ? "exit\n" : fmt::format("m{}\n", k);
  const auto source = open_molecule_files(options(lines), chemistry_);
  std::atomic<bool> done = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      while (!done) std::vector<std::string>(100, std::string(1000, 'x'));
    });
  std::size_t kept = 0, refused = 0;
  for (const SourcedMolecule& item : all(*source)) ++(item.kept ? kept : refused);
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(kept, 570u);
  EXPECT_EQ(refused, 30u);
}

TEST_F(FakeFiles, WholeFilesAndTheirRests) {
  InputOptions o = options("a\nb\n");
  o.inputs = {folder_.write("first.stream", "25 -1"), o.inputs[0], folder_.write("second.stream", "5 3"),
              folder_.write("none.smi", "\n")};
  const auto source = open_molecule_files(o, chemistry_);
  std::vector<std::string> found;
  for (const SourcedMolecule& item : all(*source)) found.push_back(text_of(item));
  ASSERT_EQ(found.size(), 31u);
  EXPECT_EQ(found[8], "8 m8: kept");
  EXPECT_EQ(found[9], "9 first.stream#9: every tenth");
  EXPECT_EQ(found[25], "25 a: kept");
  EXPECT_EQ(found[29], "29 m2: kept");
  EXPECT_NE(found[30].find("the file's rest is lost"), std::string::npos) << found[30];
  ASSERT_EQ(source->remarks().size(), 1u);
  EXPECT_NE(source->remarks()[0].find("none.smi: no molecules"), std::string::npos);
}

TEST_F(FakeFiles, EndsWithItsReadersWhenItIsLeft) {
  InputOptions o = sleeping();
  std::vector<pid_t> readers;
  {
    const auto source = open_molecule_files(o, chemistry_);
    SourcedMolecule item;
    ASSERT_TRUE(source->next(item));
    const auto coordinators = children_of(::getpid());
    ASSERT_EQ(coordinators.size(), 1u);
    readers = children_of(coordinators[0]);
    EXPECT_FALSE(readers.empty());
  }
  EXPECT_TRUE(children_of(::getpid()).empty()) << "not waited for";
  // The coordinator has waited for them, so there is not even a zombie.
  for (const pid_t reader : readers) EXPECT_NE(::kill(reader, 0), 0) << "a reader is left";
}

TEST_F(FakeFiles, EndsWithItsReadersWhenItsOwnerIsKilled) {
  InputOptions o = sleeping();
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t owner = ::fork();
  if (owner == 0) {
    const auto source = open_molecule_files(o, chemistry_);
    SourcedMolecule item;
    if (source->next(item) && ::write(ready[1], "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto coordinators = children_of(owner);
  ASSERT_EQ(coordinators.size(), 1u);
  const auto readers = children_of(coordinators[0]);
  EXPECT_FALSE(readers.empty());
  ::kill(owner, SIGKILL);
  ::waitpid(owner, nullptr, 0);
  EXPECT_TRUE(gone(coordinators[0]));
  for (const pid_t reader : readers) EXPECT_TRUE(gone(reader));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(FakeFiles, DeathOfTheCoordinatorIsOneLine) {
  InputOptions o = sleeping();
  const auto source = open_molecule_files(o, chemistry_);
  SourcedMolecule item;
  ASSERT_TRUE(source->next(item));
  const auto coordinators = children_of(::getpid());
  ASSERT_EQ(coordinators.size(), 1u);
  ::kill(coordinators[0], SIGKILL);
  try {
    while (source->next(item)) {
    }
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("signal 9"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("; "), std::string::npos) << "no remedy: " << e.what();
  }
  EXPECT_TRUE(children_of(::getpid()).empty());
}

TEST_F(FakeFiles, StopsWhereItIsAsked) {
  InputOptions o = sleeping();
  std::atomic<int> stop = 0;
  const auto source = open_molecule_files(o, chemistry_, [&] { return stop.load(); });
  SourcedMolecule item;
  for (int k = 0; k < 128; ++k) ASSERT_TRUE(source->next(item));
  std::thread later([&] {
    std::this_thread::sleep_for(50ms);
    stop = SIGINT;
  });
  EXPECT_THROW(source->next(item), Interrupted);
  later.join();
}

TEST_F(FakeFiles, WhatItCanNotReadIsSaidBeforeAnythingStarts) {
  InputOptions o = options("a\n");
  o.inputs = {folder_.path() / "nowhere.smi"};
  EXPECT_THROW(open_molecule_files(o, chemistry_), Error);
  o.inputs = {};
  EXPECT_THROW(open_molecule_files(o, chemistry_), UsageError);
  o = options("a\n");
  o.workers = -1;
  EXPECT_THROW(open_molecule_files(o, chemistry_), UsageError);
  EXPECT_THROW(open_molecule_files(options("\n"), chemistry_), Error);
  EXPECT_TRUE(children_of(::getpid()).empty());
}

TEST_F(FakeFiles, ErrorsInTheCoordinatorReachTheCaller) {
  // 40 batches of records for as many readers, where there may be 32 open files.
  std::string lines;
  for (int k = 0; k < 40 * 128; ++k) lines += "m\n";
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{32, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto source = open_molecule_files(options(lines, 64), chemistry_);
  ::setrlimit(RLIMIT_NOFILE, &before);
  SourcedMolecule item;
  try {
    source->next(item);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("use fewer --workers"), std::string::npos) << e.what();
  }
}

/// The real chemistry: what prepare keeps and refuses.
TEST(MoleculeSource, FilesAndTheDataSetMadeOfThemAgree) {
  std::unique_ptr<Chemistry> chemistry;
  try {
    chemistry = load_chemistry();
  } catch (const Error& e) {
    GTEST_SKIP() << "this build reads no molecules: " << e.what();
  }
  const TemporaryFolder folder;
  PrepareOptions o;
  o.inputs = {folder.write("molecules.smi", "CCO ethanol\nC1CC broken\nc1ccccc1O\n[Na+].[Cl-] salt\n"),
              folder.write("table.csv", "name,smiles\nx,CCN\ny,\nz,Xx\n")};
  o.columns.identifier = "";
  o.read.conformers.count = 1;
  o.output = folder.path() / "data";
  o.workers = 2;
  o.quiet = true;
  prepare(o, *chemistry);

  const auto data = open_molecule_dataset(o.output);
  const auto files = open_molecule_files(o, *chemistry);
  std::vector<Molecule> from_data, from_files;
  std::vector<std::string> refused;
  for (const SourcedMolecule& item : all(*data)) {
    EXPECT_EQ(item.number, from_data.size());
    EXPECT_TRUE(item.kept);
    from_data.push_back(item.molecule);
  }
  for (const SourcedMolecule& item : all(*files))
    if (item.kept)
      from_files.push_back(item.molecule);
    else
      refused.push_back(item.molecule.identifier);
  EXPECT_EQ(from_data, from_files);
  EXPECT_EQ(from_files.size(), 4u);
  EXPECT_EQ(refused, (std::vector<std::string>{"broken", "table.csv#1", "table.csv#2"}));
  EXPECT_EQ(rejected_rows(o.output).size(), refused.size());
  EXPECT_THROW(open_molecule_dataset(folder.path() / "nowhere"), Error);
}

}  // namespace
}  // namespace moleblend
