// Records that crash, hang, eat memory or throw cost themselves and nothing else, in order, for any number of readers.

#include <sys/resource.h>
#include <unistd.h>

#include <map>

#include "io/prepare/reader_pool.h"
#include "tests/prepare/fake_chemistry.h"
#include "tests/prepare/folder.h"

namespace moleblend {
namespace {

std::vector<Record> records_of(const std::vector<std::string>& texts, std::uint64_t first = 0) {
  std::vector<Record> records;
  for (const std::string& text : texts) {
    Record& record = records.emplace_back();
    record.number = first++;
    record.format = "smi";
    record.text = text;
  }
  return records;
}

ReaderOptions reader_options() {
  ReaderOptions options;
  options.file_names = {"a.smi", "b.stream", "c.stream"};
  return options;
}

/// number: what became of it, in the order of delivery.
std::vector<std::string> deliver(ReaderPool& pool) {
  std::vector<std::string> all;
  Record record;
  Outcome outcome;
  while (pool.next(record, outcome))
    all.push_back(fmt::format("{}/{}: {}", record.file, record.number,
                              outcome.kept ? "kept " + outcome.molecule.identifier : outcome.reason));
  return all;
}

TEST(ReaderPool, IsReadyWhereNothingIsWaitedFor) {
  FakeChemistry chemistry;
  ReaderPool pool(chemistry, reader_options(), {.workers = 1, .seconds = 5, .memory_bytes = 0, .stop = nullptr});
  EXPECT_FALSE(pool.ready()) << "nothing was submitted";
  std::vector<Record> refused = records_of({"a", "b"});
  for (Record& record : refused) record.refused = "cut short";
  pool.submit(refused);
  EXPECT_TRUE(pool.ready());
  pool.submit(records_of({"CCO", "C"}, 2));
  Record record;
  Outcome outcome;
  for (int k = 0; k < 2; ++k) {
    EXPECT_TRUE(pool.ready());
    EXPECT_TRUE(pool.next(record, outcome));
  }
  EXPECT_FALSE(pool.ready()) << "a reader has to read it first";
  EXPECT_TRUE(pool.next(record, outcome));
  EXPECT_EQ(record.number, 2u);
  EXPECT_TRUE(pool.next(record, outcome));
  EXPECT_FALSE(pool.next(record, outcome));
  EXPECT_FALSE(pool.ready());
}

class Pool : public ::testing::TestWithParam<int> {};

TEST_P(Pool, EveryRecordPaysForItself) {
  FakeChemistry chemistry;
  ReaderPool pool(chemistry, reader_options(),
                  {.workers = GetParam(), .seconds = 0.5, .memory_bytes = 0, .stop = nullptr});
  const std::map<std::string, std::string> expected = {
      {"crash", "Open Babel crashed (signal 11: Segmentation fault)"},
      {"abort", "Open Babel crashed (signal 6: Aborted)"},
      {"exit", "Open Babel ended the reader process (exit status 3)"},
      {"spin", "took longer than 0.5 s"},
      {"sleep", "took longer than 0.5 s"},
      {"throw", "refused on purpose"},
      {"odd", "Open Babel failed on it and gave no reason"},
  };
  std::vector<std::string> texts, outcomes;
  const auto add = [&](const std::string& text) {
    const auto found = expected.find(text);
    outcomes.push_back(fmt::format("0/{}: {}", texts.size(), found == expected.end() ? "kept " + text : found->second));
    texts.push_back(text);
  };
  for (int i = 0; i < 400; ++i) {
    add(fmt::format("m{}", i));
    if (i % 40 == 7) add("crash");
    if (i % 40 == 8) add("crash");
    if (i % 70 == 11) add("abort");
    if (i % 90 == 13) add("exit");
    if (i % 30 == 17) add("throw");
    if (i % 30 == 18) add("odd");
    if (i == 0 || i == 399) add("spin");
    if (i == 200) add("sleep");
    if (i % 50 == 3) add("victim");
    if (i % 50 == 4) add("print");
  }
  const std::vector<Record> records = records_of(texts);
  for (std::size_t i = 0; i < records.size(); i += 64)
    pool.submit({records.begin() + static_cast<std::ptrdiff_t>(i),
                 records.begin() + static_cast<std::ptrdiff_t>(std::min(i + 64, records.size()))});
  EXPECT_EQ(deliver(pool), outcomes);
}

TEST_P(Pool, MemoryIsBounded) {
  if (MOLEBLEND_SANITIZED) GTEST_SKIP() << "a sanitizer's own memory can't be told from the program's";
  FakeChemistry chemistry;
  ReaderPool pool(chemistry, reader_options(),
                  {.workers = GetParam(), .seconds = 30, .memory_bytes = 256u << 20, .stop = nullptr});
  pool.submit(records_of({"a", "eat", "b"}));
  EXPECT_EQ(deliver(pool),
            (std::vector<std::string>{"0/0: kept a", "0/1: needed more than 256 MB of memory", "0/2: kept b"}));
}

TEST_P(Pool, RefusedAndSkippedRecordsPassThrough) {
  FakeChemistry chemistry;
  ReaderPool pool(chemistry, reader_options(),
                  {.workers = GetParam(), .seconds = 5, .memory_bytes = 0, .stop = nullptr});
  auto records = records_of({"a", "crash", "crash", "b"});
  records[1].refused = "cut short";
  records[2].skipped = true;
  pool.submit(records);
  pool.submit(std::vector<Record>{records[1]});
  EXPECT_EQ(deliver(pool),
            (std::vector<std::string>{"0/0: kept a", "0/1: cut short", "0/2: ", "0/3: kept b", "0/1: cut short"}));
}

TEST_P(Pool, WholeFilesKeepTheirPlace) {
  const TemporaryFolder folder;
  FakeChemistry chemistry;
  ReaderPool pool(chemistry, reader_options(),
                  {.workers = GetParam(), .seconds = 0.5, .memory_bytes = 0, .stop = nullptr});
  // More than the pool keeps of a file whose turn has not come.
  constexpr int count = 20000;
  pool.submit(records_of({"a", "sleep"}));
  pool.submit_file(1, folder.write("b.stream", fmt::format("{} -1", count)), "stream");
  pool.submit_file(2, folder.write("c.stream", "5 3"), "stream");
  pool.submit_file(2, folder.write("d.stream", "nonsense"), "stream");
  pool.submit(records_of({"z"}, 9));
  std::vector<std::string> expected = {"0/0: kept a", "0/1: took longer than 0.5 s"};
  for (int i = 0; i < count; ++i)
    expected.push_back(fmt::format("1/{}: {}", i, i % 10 == 9 ? "every tenth" : fmt::format("kept m{}", i)));
  for (int i = 0; i < 3; ++i) expected.push_back(fmt::format("2/{}: kept m{}", i, i));
  expected.push_back("2/3: Open Babel crashed (signal 11: Segmentation fault); the file's rest is lost");
  expected.push_back("2/0: not a file of this test");
  expected.push_back("0/9: kept z");
  EXPECT_EQ(deliver(pool), expected);
}

TEST_P(Pool, StopsWhenAsked) {
  FakeChemistry chemistry;
  std::atomic<int> stop{0};
  ReaderPool pool(chemistry, reader_options(),
                  {.workers = GetParam(), .seconds = 100, .memory_bytes = 0, .stop = &stop});
  pool.submit(records_of({"sleep"}));
  stop = SIGTERM;
  Record record;
  Outcome outcome;
  EXPECT_THROW(pool.next(record, outcome), Interrupted);
}

INSTANTIATE_TEST_SUITE_P(Workers, Pool, ::testing::Values(1, 2, 3));

TEST(Reader, SeedIsOfTheTextAlone) {
  EXPECT_EQ(text_seed(1, "CCO"), text_seed(1, "CCO"));
  EXPECT_NE(text_seed(1, "CCO"), text_seed(2, "CCO"));
  EXPECT_NE(text_seed(1, "CCO"), text_seed(1, "CCN"));
}

TEST(Reader, PairsThatDoNotBelongTogetherAreRefused) {
  FakeChemistry chemistry;
  Record record;
  record.text = "three atoms";
  record.smiles = "CCO";
  EXPECT_EQ(read_record(chemistry, record, reader_options()).smiles, "CCO");
  record.smiles = "CCCO";
  EXPECT_THROW(read_record(chemistry, record, reader_options()), Rejected);
}

TEST(Reader, NamelessRecordsAreNamedByTheirPlace) {
  FakeChemistry chemistry;
  Record record;
  record.number = 12;
  EXPECT_EQ(read_record(chemistry, record, reader_options()).identifier, "a.smi#12");
}

TEST(Reader, TooManyAtoms) {
  FakeChemistry chemistry;
  ReaderOptions options = reader_options();
  options.max_atoms = 2;
  Record record;
  EXPECT_THROW(read_record(chemistry, record, options), Rejected);
  options.max_atoms = 3;
  EXPECT_EQ(read_record(chemistry, record, options).size(), 3u);
}

}  // namespace
}  // namespace moleblend
