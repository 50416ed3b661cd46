// A machine that computes wrongly: figures of wrong results are not taken for measurements.

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {

using Json = nlohmann::json;

TEST(WrongArithmetic, EndsBenchWithStatus1) {
  const char* options = std::getenv("ASAN_OPTIONS");
  const TemporaryFolder folder;
  const std::string file = folder / "bench.json";
  // gelu in double precision, to which bench compares, asks for erfc.
  const Outcome outcome = run_command({"env",
                                       "LD_PRELOAD=" MOLEBLEND_WRONG_ERFC,
                                       std::string("ASAN_OPTIONS=") + (options ? std::string(options) + ":" : "") +
                                           "verify_asan_link_order=0:exitcode=99",
                                       program(),
                                       "bench",
                                       "--train",
                                       "--kernels",
                                       "--model",
                                       "tiny",
                                       "--batch-size",
                                       "4",
                                       "--sizes",
                                       "n14",
                                       "--precision",
                                       "fp32",
                                       "--seconds",
                                       "0.001",
                                       "--threads",
                                       "2",
                                       "--json",
                                       file});
  EXPECT_EQ(outcome.status, 1) << outcome.out << outcome.err;
  EXPECT_EQ(lines_of(outcome.err).size(), 1u) << outcome.err;
  EXPECT_NE(outcome.err.find("wrong results, train.tiny.fp32.n14 the first"), std::string::npos) << outcome.err;
  // All is measured and written all the same, so that it can be reported.
  int wrong = 0, right = 0;
  const Json json = Json::parse(read_file(file));
  for (const Json& row : json.at("rows")) {
    const std::string name = row.at("name");
    const bool has_gelu = name == "train.tiny.fp32.n14" || name.find("gelu") != std::string::npos;
    if (row.at("correct") == Json(false)) ++wrong;
    if (row.at("correct") == Json(true)) ++right;
    if (has_gelu) {
      EXPECT_EQ(row.at("correct"), Json(false)) << row;
    }
  }
  EXPECT_GE(wrong, 3);
  EXPECT_GE(right, 10);
}

}  // namespace
}  // namespace moleblend::end_to_end
