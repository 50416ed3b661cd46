// Parts of a data set: the field's rules against their plain form in Python on RDKit's scaffolds, and what is true of all rules.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <set>

#include "engine/evaluation/fixed_batches.h"
#include "engine/property/splits.h"
#include "io/dataset/dataset_writer.h"
#include "io/dataset/shard_writer.h"
#include "io/graph/scaffold.h"
#include "io/support/error.h"
#include "tests/engine/temporary_folder.h"
#include "tests/property/expected_scaffolds.h"

namespace moleblend {
namespace {

using testing::TemporaryFolder;

/// A letter a molecule: t, v, e, and - for none.
std::string letters(const Parts& parts, std::uint64_t size) {
  std::string text(size, '-');
  for (const auto& [part, letter] :
       {std::pair(parts.train, 't'), std::pair(parts.valid, 'v'), std::pair(parts.test, 'e')}) {
    EXPECT_FALSE(part.empty());
    EXPECT_TRUE(part.ascends());
    for (const std::uint64_t k : part) {
      EXPECT_EQ(text.at(k), '-') << "molecule " << k << " is in two parts";
      text.at(k) = letter;
    }
  }
  EXPECT_EQ(parts.unused, std::count(text.begin(), text.end(), '-'));
  return text;
}

/// Groups numbered by first appearance.
ScaffoldGroups groups_of(const std::vector<std::string>& names) {
  std::map<std::string, std::uint32_t> number;
  ScaffoldGroups groups;
  for (const auto& name : names) groups.group.push_back(number.emplace(name, number.size()).first->second);
  groups.count = static_cast<std::uint32_t>(number.size());
  return groups;
}

ScaffoldGroups groups_of_examples() {
  std::vector<std::string> names;
  for (const auto& row : testing::read_scaffolds("example_scaffolds.tsv", true)) names.push_back(row.group);
  return groups_of(names);
}

TEST(Splits, ByScaffoldAreTheFields) {
  const ScaffoldGroups groups = groups_of_examples();
  std::size_t rows = 0;
  const std::string path = std::string(MOLEBLEND_SOURCE_DIR) + "/tests/property/data/example_splits.tsv";
  for (const auto& line : testing::split(testing::read_text(path), '\n')) {
    if (line.starts_with('#')) continue;
    const auto columns = testing::split(line, '\t');
    const Fractions fractions{std::stod(columns.at(1)), std::stod(columns.at(2)), std::stod(columns.at(3))};
    const Parts parts = columns[0] == "balanced"
                            ? balanced_scaffold_parts(groups, fractions, std::stoull(columns.at(4)))
                            : largest_first_scaffold_parts(groups, fractions);
    EXPECT_EQ(letters(parts, groups.group.size()), columns.at(5)) << line.substr(0, 40);
    EXPECT_EQ(parts.unused, 0u);
    ++rows;
  }
  EXPECT_EQ(rows, 12u);
}

TEST(Splits, LargestFirstBreaksTiesAndFillsPartsAsDocumented) {
  // Groups a and b of three, c and d of two; of equal ones the later comes first: b, a, d, c.
  const ScaffoldGroups groups = groups_of({"a", "b", "c", "d", "a", "b", "c", "d", "a", "b"});
  EXPECT_EQ(letters(largest_first_scaffold_parts(groups, {0.5, 0.3, 0.2}), 10), "vtetvtetvt");
  // Training may hold 6.4: b, a. The test gets what validation, up to 8, has no room for.
  EXPECT_EQ(letters(largest_first_scaffold_parts(groups, {0.64, 0.16, 0.2}), 10), "ttevttevtt");
}

TEST(Splits, ByScaffoldNeverPartAGroup) {
  const ScaffoldGroups groups = groups_of_examples();
  for (const std::uint64_t seed : {1, 2, 3}) {
    const std::string text = letters(balanced_scaffold_parts(groups, {0.6, 0.2, 0.2}, seed), groups.group.size());
    std::vector<char> part(groups.count, '-');
    for (std::size_t k = 0; k < text.size(); ++k) {
      char& known = part[groups.group[k]];
      if (known == '-') known = text[k];
      EXPECT_EQ(known, text[k]) << "molecule " << k;
    }
  }
}

TEST(Splits, AtRandomHaveTheSizesAskedFor) {
  const Parts parts = random_parts(1000, {0.7, 0.1, 0.2}, 4);  // 0.7 + 0.1 is less than 0.8 in doubles
  EXPECT_EQ(parts.train.size(), 700u);
  EXPECT_EQ(parts.valid.size(), 100u);
  EXPECT_EQ(parts.test.size(), 200u);
  const std::string text = letters(parts, 1000);
  EXPECT_EQ(text, letters(random_parts(1000, {0.7, 0.1, 0.2}, 4), 1000));
  EXPECT_NE(text, letters(random_parts(1000, {0.7, 0.1, 0.2}, 5), 1000));
  // Of the first half of the molecules about as many are for training as of the second: standard deviation 7.2.
  EXPECT_NEAR(static_cast<double>(std::count(text.begin(), text.begin() + 500, 't')), 350, 5 * 7.2);

  const Parts qm9 = counted_parts(1000, 800, 150, 4);
  EXPECT_EQ(qm9.train.size(), 800u);
  EXPECT_EQ(qm9.valid.size(), 150u);
  EXPECT_EQ(qm9.test.size(), 50u);
  letters(qm9, 1000);
}

void expect_error(const std::function<void()>& call, const std::string& message) {
  try {
    call();
    FAIL() << "no error: " << message;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
}

TEST(Splits, RefuseImpossibleShares) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Fractions& wrong :
       {Fractions{0.8, 0.1, 0.2}, Fractions{0.9, 0.1, 0}, Fractions{1.2, -0.1, -0.1}, Fractions{nan, 0.1, 0.1}}) {
    EXPECT_THROW(random_parts(100, wrong, 1), UsageError);
    EXPECT_THROW(balanced_scaffold_parts(groups_of_examples(), wrong, 1), UsageError);
    EXPECT_THROW(largest_first_scaffold_parts(groups_of_examples(), wrong), UsageError);
  }
  expect_error([] { random_parts(3, {0.9, 0.05, 0.05}, 1); }, "leaves none for the validation part");
  expect_error([] { counted_parts(10, 8, 2, 1); }, "leaves none for the test part");
  expect_error([] { counted_parts(10, 8, 3, 1); }, "10 molecules can't give 8 for training and 3 for validation");
  // One group is too large for any part but the test.
  expect_error(
      [] {
        largest_first_scaffold_parts(groups_of({"a", "a", "a"}), {});
      },
      "leaves none for the training part");
}

/// A data set of the scaffold cases in two shards, with a label column of parts.
class SplitsOfData : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto cases = testing::scaffold_cases();
    for (std::uint64_t block = 0; block < 2; ++block) {
      ShardWriter writer(folder_.path(), block, 2);
      for (std::size_t k = block * 50; k < (block == 0 ? 50 : cases.size()); ++k) {
        Molecule molecule = cases[k].molecule;
        molecule.identifier = k == 9 ? "molecule-8" : "molecule-" + std::to_string(k);
        molecule.smiles = cases[k].scaffold.smiles;
        const double part = k % 4 == 3 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(k % 4);
        molecule.labels = {static_cast<double>(k), part};
        keys_.push_back(scaffold(molecule).key);
        writer.add(molecule);
      }
      writer.finish();
    }
    DatasetDescription description;
    description.labels = {"number", "part"};
    description.sources.emplace_back().path = "made by hand";
    write_dataset_json(folder_.path(), description);
  }

  Dataset data() const { return Dataset::open(folder_.path()); }
  Parts from(const std::string& text, const std::string& name = "parts.csv") const {
    std::ofstream(folder_.path() / name) << text;
    return parts_from_file(data(), folder_.path() / name);
  }
  void expect_refused(const std::string& text, const std::string& message) const {
    expect_error([&] { from(text); }, message);
  }

  TemporaryFolder folder_;
  std::vector<std::string> keys_;
};

TEST_F(SplitsOfData, GroupsAreThoseOfTheKeys) {
  const ScaffoldGroups expected = groups_of(keys_);
  for (const int threads : {1, 3}) {
    const ScaffoldGroups groups = scaffold_groups(data(), threads);
    EXPECT_EQ(groups.group, expected.group);
    EXPECT_EQ(groups.count, expected.count);
  }
  EXPECT_THROW(scaffold_groups(data(), 0), UsageError);
}

TEST_F(SplitsOfData, CanBeGivenByIndexAndByIdentifier) {
  const Parts by_index = from("index,part\n0,test\n5,train\n2,valid\n1,train\n");
  EXPECT_EQ(letters(by_index, keys_.size()).substr(0, 7), "etv--t-");
  EXPECT_EQ(by_index.unused, keys_.size() - 4);
  const Parts by_identifier = from(
      "part\tremark\tidentifier\ntest\t\tmolecule-0\ntrain\tx\tmolecule-5\nvalid\t\tmolecule-2\ntrain\t\tmolecule-1\n",
      "parts.tsv");
  EXPECT_EQ(letters(by_identifier, keys_.size()), letters(by_index, keys_.size()));
  EXPECT_EQ(by_identifier.rule, "given by parts.tsv");
}

TEST_F(SplitsOfData, FromAFileSayWhatIsWrong) {
  expect_refused("index,part\n0,train\n1,dev\n",
                 "parts.csv, line 3: there is no part \"dev\", only train, valid and test");
  expect_refused("index,part\n0,train\n0,valid\n", "line 3: molecule 0 has a part already");
  expect_refused("index,part\n9999,train\n", "line 2: there is no molecule 9999 in a data set of");
  expect_refused("index,part\n-1,train\n", "line 2: the index \"-1\" is no whole number");
  expect_refused("index,part\n1\n", "line 2: the row has too few columns");
  expect_refused("part,identifier\ntrain,molecule-1\nvalid,molecule-1\n", "line 3: molecule-1 has a part already");
  expect_refused("part,identifier\ntrain,nobody\nvalid,none\n", "line 2: the data set has no molecule nobody");
  expect_refused("part,identifier\ntrain,molecule-8\n",
                 "line 2: several molecules of the data set are called molecule-8");
  expect_refused("name,part\nmolecule-1,train\n", "must name the columns part, and identifier or index");
  expect_refused("", "must name the columns");
  expect_refused("index,part\n1,train\n2,valid\n", "leaves none for the test part");
  expect_error([&] { parts_from_file(data(), folder_.path() / "nowhere.csv"); }, "nowhere.csv");
}

TEST_F(SplitsOfData, CanBeALabelColumn) {
  const Parts parts = parts_from_label(data(), "part");
  EXPECT_EQ(letters(parts, keys_.size()).substr(0, 9), "tve-tve-t");
  expect_error([&] { parts_from_label(data(), "split"); },
               "has no label column split to split by; it has: number, part");
  expect_error([&] { parts_from_label(data(), "number"); }, "molecule 3 has 3 in the column number");
}

TEST_F(SplitsOfData, HaveFingerprints) {
  const Dataset set = data();
  const Parts one = random_parts(set.size(), {}, 1), other = random_parts(set.size(), {}, 2);
  const PartsFingerprint name = fingerprint(set, one), again = fingerprint(set, random_parts(set.size(), {}, 1));
  EXPECT_EQ(name.train, fingerprint(set, one.train));
  EXPECT_EQ(name.test, fingerprint(set, one.test));
  EXPECT_EQ(name.all, again.all);
  EXPECT_EQ(std::set({name.train, name.valid, name.test, name.all, fingerprint(set, other).all}).size(), 5u);
}

}  // namespace
}  // namespace moleblend
