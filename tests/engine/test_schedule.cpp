// Learning rates against the formulas of METHOD section 8, and settings that are refused.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>

#include "engine/training/schedule.h"
#include "engine/training/settings.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

// A few roundings of a double.
constexpr double kRounding = 1e-15;

TEST(Schedule, CosineIsTheReferences) {
  // The formula that the reference's ten golden steps follow: t < 4: 1e-3 t / 4, then 0.5e-3 (1 + cos(pi (t − 4) / 6)).
  const Schedule s{.decay = Decay::cosine, .peak = 1e-3, .steps = 10, .warmup = 4};
  EXPECT_EQ(s.rate(0), 0) << "the first update has rate 0";
  for (int t = 0; t < 4; ++t) EXPECT_NEAR(s.rate(t), 1e-3 * t / 4, kRounding);
  for (int t = 4; t < 10; ++t)
    EXPECT_NEAR(s.rate(t), 0.5e-3 * (1 + std::cos(std::numbers::pi * (t - 4) / 6)), kRounding);
  EXPECT_EQ(s.rate(10), 0);
  EXPECT_EQ(s.rate(1000), 0);
}

TEST(Schedule, LinearAndConstantAndFloor) {
  const Schedule linear{.decay = Decay::linear, .peak = 2, .steps = 30, .warmup = 10, .floor = 1};
  EXPECT_EQ(linear.rate(5), 1);
  EXPECT_EQ(linear.rate(10), 2);
  EXPECT_NEAR(linear.rate(20), 1.5, kRounding);
  EXPECT_EQ(linear.rate(30), 1);
  const Schedule constant{.decay = Decay::constant, .peak = 2, .steps = 30, .warmup = 2};
  EXPECT_EQ(constant.rate(1), 1);
  EXPECT_EQ(constant.rate(2), 2);
  EXPECT_EQ(constant.rate(29), 2);
  const Schedule cold{.decay = Decay::cosine, .peak = 2, .steps = 30, .warmup = 0};
  EXPECT_EQ(cold.rate(0), 2) << "without a warm-up the first update has the peak rate";
  const Schedule all{.decay = Decay::cosine, .peak = 2, .steps = 3, .warmup = 3};
  EXPECT_NEAR(all.rate(2), 4.0 / 3, kRounding);
  EXPECT_EQ(all.rate(3), 0);
}

TEST(Schedule, PresetsAreThePapersRuns) {
  PretrainSettings s;
  apply_preset("released", s);
  EXPECT_EQ(s.schedule.steps, 200'000);
  EXPECT_EQ(s.schedule.warmup, 20'000);
  EXPECT_EQ(s.schedule.peak, 1e-5);
  EXPECT_EQ(s.loader.batch_size, 4096);
  EXPECT_EQ(s.adam.clip_norm, 5);
  EXPECT_NEAR(s.schedule.rate(10'000), 5e-6, 1e-20);
  EXPECT_NEAR(s.schedule.rate(110'000), 5e-6, 1e-20) << "halfway down the cosine";
  apply_preset("paper", s);
  EXPECT_EQ(s.schedule.steps, 1'000'000);
  EXPECT_EQ(s.schedule.warmup, 100'000);
  EXPECT_THROW(apply_preset("best", s), UsageError);
}

TEST(Settings, RefusesWhatCannotBeTrained) {
  const auto refused = [](auto change) {
    PretrainSettings s;
    s.check();  // the unchanged settings are fine
    change(s);
    try {
      s.check();
      return false;
    } catch (const UsageError&) {
      return true;
    }
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(refused([](auto& s) { s.schedule.steps = 0; }));
  EXPECT_TRUE(refused([](auto& s) { s.schedule.warmup = s.schedule.steps + 1; }));
  EXPECT_TRUE(refused([&](auto& s) { s.schedule.peak = nan; }));
  EXPECT_TRUE(refused([](auto& s) { s.schedule.peak = 0; }));
  EXPECT_TRUE(refused([](auto& s) { s.loader.batch_size = 0; }));
  EXPECT_TRUE(refused([](auto& s) { s.loader.micro_batches = s.loader.batch_size + 1; }));
  EXPECT_TRUE(refused([](auto& s) { s.valid_fraction = 1; }));
  EXPECT_TRUE(refused([&](auto& s) { s.valid_fraction = nan; }));
  EXPECT_TRUE(refused([](auto& s) { s.place.threads = 0; }));
  EXPECT_TRUE(refused([&](auto& s) { s.adam.clip_norm = nan; }));
  EXPECT_TRUE(refused([](auto& s) { s.adam.weight_decay = -1; }));
  EXPECT_TRUE(refused([](auto& s) { s.keep_last = 0; }));
  EXPECT_TRUE(refused([](auto& s) { s.model.heads = 7; }));
  EXPECT_TRUE(refused([](auto& s) { s.objective.blend.pair_spd = 0.9; }));
}

TEST(Settings, ModelAndObjectiveSurviveJson) {
  ModelConfig c = ModelConfig::named("base");
  c.target = DistanceTarget::displacement;
  c.tasks = 3;
  c.with_distance = false;
  c.reference_language_head = true;
  c.drop_path = 0.3;
  const auto text = to_json(c).dump();
  EXPECT_EQ(to_json(model_config_from(nlohmann::ordered_json::parse(text))).dump(), text);
  EXPECT_NE(to_json(ModelConfig::named("base")).dump(), text);
  const auto objective = to_json(Objective::named("3d-to-2d")).dump();
  EXPECT_EQ(to_json(objective_from(nlohmann::ordered_json::parse(objective))).dump(), objective);
}

TEST(Settings, TheFirstDifferenceIsNamed) {
  PretrainSettings a, b;
  EXPECT_EQ(first_difference(to_json(a), to_json(b)), "");
  b.place.threads = 9;
  b.loader.threads = 9;
  b.valid_every = 7;
  EXPECT_EQ(first_difference(to_json(a), to_json(b)), "") << "how a run is watched doesn't decide its weights";
  b.model.width = 64;
  EXPECT_EQ(first_difference(to_json(a), to_json(b)), "width is 256 here and 64 there");
  EXPECT_EQ(first_difference({{"x", 1}}, {{"x", 1}, {"y", 2}}), "y is missing here and 2 there");
}

}  // namespace
}  // namespace moleblend
