// Updates that lie far above those before: seen, logged, left out where that is asked for, and the same after a stop.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tests/engine/fake_model.h"
#include "tests/engine/training_run.h"

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;
using testing::FakeModel;

/// Alternates around `mean`: its standard deviation is `step`.
void feed(Recent& r, int count, double mean, double step) {
  for (int k = 0; k < count; ++k) r.add(mean + (k % 2 == 0 ? step : -step), 6);
}

TEST(Spikes, StandardDeviationsAboveTheMean) {
  Recent r;
  feed(r, 40, 10, 0.5);
  EXPECT_EQ(r.z(1000), 0) << "too few are known";
  feed(r, 60, 10, 0.5);
  EXPECT_NEAR(r.mean, 10, 0.01);
  // Of a hundred values that alternate, all of them in the window.
  EXPECT_NEAR(r.z(12), 4, 0.1);
  EXPECT_NEAR(r.z(8), -4, 0.1);
}

TEST(Spikes, OneDoesNotHideTheNext) {
  Recent r;
  feed(r, 200, 10, 0.5);
  const double before = r.z(20);
  r.add(1e9, 6);
  EXPECT_GT(r.z(20), 0.7 * before);
}

TEST(Spikes, ASeriesThatHasMovedIsFollowed) {
  Recent r;
  feed(r, 200, 10, 0.5);
  int spikes = 0;
  for (int k = 0; k < 300; ++k) {
    const double value = 30 + (k % 2 == 0 ? 0.5 : -0.5);
    spikes += r.z(value) > 6;
    r.add(value, 6);
  }
  EXPECT_GT(spikes, 0);
  EXPECT_LT(spikes, 100);
  EXPECT_LT(std::abs(r.z(30)), 3);
}

TEST(Spikes, AConstantSeriesHasNone) {
  Recent r;
  for (int k = 0; k < 100; ++k) r.add(0.25, 6);
  EXPECT_LT(std::abs(r.z(0.25 * (1 + 1e-9))), 1e-3);
  EXPECT_LT(std::abs(r.z(0.25)), 1e-3);
  EXPECT_GT(r.z(0.3), 6);
}

class SpikesInTraining : public testing::TrainingRun {
 protected:
  SpikesInTraining() {
    settings_.schedule = {.decay = Decay::constant, .peak = 1e-3, .steps = 120, .warmup = 0};
    settings_.loader.batch_size = 9;  // five steps an epoch
    settings_.valid_every = 0;
    settings_.checkpoint_every = 40;
    // One molecule, at its first place after enough others to compare with.
    Loader loader(*data_, split_.train, settings_.loader, 0, 120);
    while (auto step = loader.next()) {
      if (step->step < 70) continue;
      key_ = step->micro_batches.front().key[3];
      spike_ = step->step + 1;
      break;
    }
  }
  FakeModel model() const {
    FakeModel m;
    m.fill(0, 1);
    m.spiking = key_;
    return m;
  }

  std::uint64_t key_ = 0;
  std::int64_t spike_ = 0;
};

TEST_F(SpikesInTraining, AreLoggedAndDoneUnlessTheyAreToBeLeftOut) {
  settings_.log_every = 7;
  FakeModel watched = model();
  train("watched", std::nullopt, watched, std::nullopt);
  settings_.skip_spikes = true;
  FakeModel skipped = model();
  train("skipped", std::nullopt, skipped, std::nullopt);
  for (const char* name : {"watched", "skipped"}) {
    int found = 0;
    for (const Json& line : lines(name)) {
      if (!line.contains("spike")) continue;
      ++found;
      EXPECT_EQ(line["step"], spike_) << "logged whatever --log-every is";
      EXPECT_GT(line["spike"]["loss_z"].get<double>(), 6);
      EXPECT_GT(line["spike"]["grad_norm_z"].get<double>(), 6);
      EXPECT_EQ(line["spike"]["skipped"], std::string(name) == "skipped");
    }
    EXPECT_EQ(found, 1) << name;
  }
  EXPECT_EQ(watched.steps_seen.size(), 120u);
  EXPECT_EQ(skipped.steps_seen.size(), 119u);
  EXPECT_EQ(std::count(skipped.steps_seen.begin(), skipped.steps_seen.end(), spike_), 0);
}

TEST_F(SpikesInTraining, AreToldWithWhatWasDoneAboutThem) {
  quiet_ = false;
  for (const bool skip : {false, true}) {
    settings_.skip_spikes = skip;
    FakeModel m = model();
    ::testing::internal::CaptureStderr();
    train(skip ? "skipped" : "watched", std::nullopt, m, std::nullopt);
    const std::string told = ::testing::internal::GetCapturedStderr();
    EXPECT_NE(told.find(fmt::format("step {}: a spike: loss ", spike_)), std::string::npos) << told;
    EXPECT_EQ(told.find("the update is done all the same (--skip-spikes would leave it out)") != std::string::npos,
              !skip)
        << told;
    EXPECT_EQ(told.find("the update is left out") != std::string::npos, skip) << told;
  }
}

TEST_F(SpikesInTraining, AStopChangesNothing) {
  settings_.skip_spikes = true;
  FakeModel straight = model();
  train("straight", std::nullopt, straight, std::nullopt);
  for (const std::int64_t stop : {std::int64_t{30}, spike_ - 1, spike_, std::int64_t{120}}) {
    FakeModel part = model();
    train("stopped", newest("stopped"), part, stop);
  }
  EXPECT_EQ(final_model("stopped"), final_model("straight"));
  EXPECT_EQ(lines("stopped"), lines("straight"));
}

TEST_F(SpikesInTraining, NoWatchSeesNone) {
  settings_.spike_z = 0;
  FakeModel unwatched = model();
  train("unwatched", std::nullopt, unwatched, std::nullopt);
  for (const Json& line : lines("unwatched")) EXPECT_FALSE(line.contains("spike"));
}

}  // namespace
}  // namespace moleblend
