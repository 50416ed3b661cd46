// What `moleblend bench` says of its own figures: that results are right, or that they are not.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/bench/kernel_bench.h"
#include "engine/bench/padding.h"
#include "engine/bench/timing.h"
#include "engine/bench/train_bench.h"

namespace moleblend {
namespace {

NetworkBenchOptions tiny() {
  return {.config = ModelConfig::named("tiny"),
          .place = {.threads = 2},
          .size = kSmallMolecules,
          .batch_size = 4,
          .seconds = 1e-3,
          .ceilings = {.flop_per_s = 1e12, .bytes_per_s = 1e12}};
}

/// A case that writes these values.
KernelCase writes(std::vector<double> values) {
  KernelCase one;
  one.run = [] {};
  one.outputs.push_back({"array", [] {}, [values] { return values; }});
  return one;
}

TEST(BenchCheck, ErrorIsRelativeToTheTruth) {
  EXPECT_DOUBLE_EQ(compare(writes({1, 2, 2}), writes({1, 2, 2})).worst, 0);
  EXPECT_NEAR(compare(writes({3, 4.5}), writes({3, 4})).worst, 0.1, 1e-12);
  EXPECT_EQ(compare(writes({3, 4.5}), writes({3, 4})).array, "array");
}

TEST(BenchCheck, ZerosAndNanAreWrong) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(compare(writes({0, 0}), writes({3, 4})).worst <= kernel_tolerance("bf16"));
  EXPECT_FALSE(compare(writes({3, nan}), writes({3, 4})).worst <= kernel_tolerance("bf16"));
  EXPECT_FALSE(compare(writes({1e-30}), writes({0})).worst <= kernel_tolerance("bf16"));
}

TEST(BenchCheck, EveryOperationIsThereAndRight) {
  std::vector<BenchRow> rows;
  bench_kernels(tiny(), [&](BenchRow row) { rows.push_back(std::move(row)); });
  EXPECT_GE(rows.size(), 20u);
  for (const BenchRow& row : rows) {
    EXPECT_TRUE(row.name.starts_with("kernels.tiny.fp32.n14.")) << row.name;
    ASSERT_TRUE(row.correct) << row.name;
    EXPECT_TRUE(*row.correct) << row.name << ": " << row.detail.dump();
    EXPECT_GT(row.value, 0) << row.name;
    EXPECT_GT(row.share_of_floor.value_or(0), 0) << row.name;
    // An operation that wrote nothing would be as wrong as any.
    EXPECT_GT(row.detail.at("relative_error").get<double>() + (row.name.ends_with("draws") ? 1 : 0), 0) << row.name;
  }
}

/// Molecules of 2 and 0 atoms, thus 3 and 1 tokens.
struct TwoMolecules {
  std::vector<std::int64_t> atoms{0, 2, 2}, pairs{0, 4, 4}, token_pairs{0, 9, 10};
  Packed packed() const { return Packed::of(2, atoms.data(), pairs.data(), token_pairs.data()); }
};

TEST(PaddingOfRows, PutsEachMoleculeAtItsOwnBeginning) {
  const Padding padding = Padding::of_rows(TwoMolecules().packed(), 4, 2);
  const std::vector<int> packed{1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(padding.pad(packed), (std::vector<int>{1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(padding.unpad(padding.pad(packed)), packed);
}

TEST(PaddingOfSquares, KeepsHeadsAndRowsApart) {
  const Padding padding = Padding::of_squares(TwoMolecules().packed(), 4, 2);
  ASSERT_EQ(padding.packed_count(), 20);
  ASSERT_EQ(padding.padded_count(), 2 * 2 * 4 * 4);
  std::vector<int> packed(20);
  for (int k = 0; k < 20; ++k) packed[static_cast<std::size_t>(k)] = k + 1;
  const std::vector<int> expected{
      1,  2,  3,  0, 4,  5,  6,  0, 7,  8,  9,  0, 0, 0, 0, 0,   // first molecule, both heads
      10, 11, 12, 0, 13, 14, 15, 0, 16, 17, 18, 0, 0, 0, 0, 0,   //
      19, 0,  0,  0, 0,  0,  0,  0, 0,  0,  0,  0, 0, 0, 0, 0,   // second
      20, 0,  0,  0, 0,  0,  0,  0, 0,  0,  0,  0, 0, 0, 0, 0};  //
  EXPECT_EQ(padding.pad(packed), expected);
  std::vector<int> written = expected;
  for (int& x : written)
    if (x == 0) x = -1;  // what a library leaves beyond a molecule's tokens is nobody's
  EXPECT_EQ(padding.unpad(written), packed);
}

TEST(BenchCheck, TrainingStepIsRightAndItsPartsAddUp) {
  std::vector<BenchRow> rows;
  bench_training(tiny(), [&](BenchRow row) { rows.push_back(std::move(row)); });
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].name, "train.tiny.fp32.n14");
  EXPECT_TRUE(rows[0].correct.value_or(false)) << rows[0].detail.dump();
  double sum = 0;
  for (const auto& [part, share] : rows[0].detail.at("shares").items()) sum += share.get<double>();
  EXPECT_NEAR(sum, 1, 1e-9);
  EXPECT_GT(rows[0].detail.at("shares").at("linear.backward").get<double>(), 0);
  EXPECT_EQ(rows[1].name, "train.tiny.memory.n14.b4");
  EXPECT_GT(rows[1].value, 1);
}

TEST(StepFlop, IsThatOfTheBaseModel) {
  // 12 layers of 6 · 768² weights, three products of two operations each, a token; attention, distances and heads are a few per cent more.
  const ModelConfig base = ModelConfig::named("base");
  const std::vector<std::int64_t> atoms{0, 14}, pairs{0, 196}, token_pairs{0, 225};
  const double flop = step_flop(base, Packed::of(1, atoms.data(), pairs.data(), token_pairs.data()));
  const double encoder = 6.0 * 12 * 6 * 768 * 768 * 15;
  EXPECT_GT(flop, encoder * 1.03);
  EXPECT_LT(flop, encoder * 1.10);
}

TEST(Median, IsTheMiddleOne) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2);
  EXPECT_TRUE(std::isnan(median({})));
}

}  // namespace
}  // namespace moleblend
