// `moleblend bench` as scripts use it: fixed names, a check beside each figure, and a comparison of two files.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {

using Json = nlohmann::json;

TEST(Bench, WritesFixedNamesAndTheMachine) {
  const TemporaryFolder folder;
  const std::string file = folder / "bench.json";
  const Outcome outcome = run_program({"bench", "--train", "--kernels", "--model", "tiny", "--batch-size", "4",
                                       "--sizes", "n14", "--seconds", "0.001", "--threads", "2", "--json", file});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const Json json = Json::parse(read_file(file));
  for (const char* key :
       {"program", "commit", "build", "date", "machine", "device", "threads", "command", "rows", "left_out"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_TRUE(json.at("left_out").empty()) << json.at("left_out");
  std::set<std::string> names;
  for (const Json& row : json.at("rows")) {
    for (const char* key : {"name", "value", "unit", "correct", "share_of_floor"})
      EXPECT_TRUE(row.contains(key)) << row;
    EXPECT_NE(row.at("correct"), Json(false)) << row;
    names.insert(row.at("name"));
    EXPECT_NE(outcome.out.find(row.at("name").get<std::string>()), std::string::npos);
  }
  for (const char* name :
       {"ceiling.fp32", "train.tiny.fp32.n14", "train.tiny.memory.n14.b4", "kernels.tiny.fp32.n14.attention.backward"})
    EXPECT_TRUE(names.count(name)) << name;
}

TEST(Bench, MeasuresTheLoaderOnADataSetOfTheUsers) {
  const TemporaryFolder folder;
  write_sample_molecules(folder / "molecules.smi", 60);
  ASSERT_EQ(
      run_program({"prepare", "--input", folder / "molecules.smi", "--output", folder / "data", "--quiet"}).status, 0);
  const Outcome outcome = run_program({"bench", "--loader", "--data", folder / "data", "--seconds", "0.01", "--threads",
                                       "2", "--quiet", "--json", "-"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const Json rows = Json::parse(outcome.out).at("rows");
  ASSERT_EQ(rows.size(), 2u);
  for (const Json& row : rows) EXPECT_EQ(row.at("correct"), Json(true)) << row;
  EXPECT_EQ(rows[0].at("name"), "loader.data");
}

TEST(Bench, RefusesWhatItDoesNotKnow) {
  const Outcome size = run_program({"bench", "--train", "--sizes", "n15"});
  EXPECT_EQ(size.status, 2);
  EXPECT_NE(size.err.find("n15"), std::string::npos) << size.err;
  const Outcome precision = run_program({"bench", "--kernels", "--precision", "fp8"});
  EXPECT_EQ(precision.status, 2);
}

}  // namespace
}  // namespace moleblend::end_to_end
