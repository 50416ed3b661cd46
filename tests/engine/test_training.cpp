// The training loop's bookkeeping, with a model simple enough to know what it must do.

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/training/not_finite.h"
#include "engine/training/stop_signal.h"
#include "io/support/error.h"
#include "tests/engine/fake_model.h"
#include "tests/engine/training_run.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using testing::FakeModel;

class Training : public testing::TrainingRun {
 protected:
  Training() {
    settings_.schedule = {.decay = Decay::cosine, .peak = 0.05, .steps = 24, .warmup = 4};
    settings_.loader.batch_size = 7;
    settings_.valid_every = 5;
    settings_.checkpoint_every = 6;
  }

  PretrainOutcome run(const std::string& name, Model& model, std::optional<std::int64_t> stop_at = std::nullopt) {
    return train(name, newest(name), model, stop_at);
  }
};

TEST_F(Training, StepsRatesAndLinesAreThoseOfTheSchedule) {
  FakeModel model;
  model.fill(0, 1);  // far from all targets, which lie in [0, 1)
  const PretrainOutcome outcome = run("a", model);
  EXPECT_EQ(outcome.step, 24);
  EXPECT_EQ(outcome.signal, 0);
  ASSERT_EQ(model.steps_seen.size(), 24u);
  for (int t = 0; t < 24; ++t) {
    EXPECT_EQ(model.steps_seen[t], t + 1);
    EXPECT_EQ(model.rates_seen[t], settings_.schedule.rate(t));
  }
  std::vector<double> losses, valid;
  int step = 0;
  for (const Json& line : lines("a")) {
    if (line.contains("valid")) {
      EXPECT_TRUE(line["step"] == 24 || line["step"].get<int>() % 5 == 0);
      valid.push_back(line["valid"]["loss"]);
      continue;
    }
    EXPECT_EQ(line["step"], ++step);
    EXPECT_EQ(line["lr"], settings_.schedule.rate(step - 1));
    EXPECT_EQ(line["molecules"], 7);
    EXPECT_GT(line["tokens"].get<int>(), 7 * 3);
    losses.push_back(line["loss"]);
  }
  EXPECT_EQ(losses.size(), 24u);
  EXPECT_EQ(valid.size(), 5u) << "every fifth step and the last one";
  EXPECT_LT(valid.back(), 0.7 * valid.front()) << "a quadratic must be descended";
  ASSERT_TRUE(outcome.best);
  EXPECT_EQ(outcome.best->loss, *std::min_element(valid.begin(), valid.end()));
}

TEST_F(Training, StoppedAndResumedLeavesTheSameBytes) {
  FakeModel straight;
  run("straight", straight);
  // Stopped at steps that are and that aren't multiples of anything, each time with a fresh model.
  for (const std::int64_t stop : {1, 11, 12, 23}) {
    FakeModel part;
    EXPECT_EQ(run("broken", part, stop).step, stop);
  }
  FakeModel last;
  EXPECT_EQ(run("broken", last).step, 24);
  EXPECT_EQ(last.values(0), straight.values(0));
  EXPECT_EQ(final_model("broken"), final_model("straight"));
  EXPECT_EQ(lines("broken"), lines("straight"));
  EXPECT_EQ(read_file(folder_.path() / "broken/checkpoints/step-00000024/state.json"),
            read_file(folder_.path() / "straight/checkpoints/step-00000024/state.json"));
}

TEST_F(Training, KilledBetweenCheckpointsReplaysTheLostSteps) {
  FakeModel straight;
  run("straight", straight);
  FakeModel part;
  run("killed", part, 20);
  // What kill -9 at step 20 leaves: metrics up to 20, the checkpoints of 20 never finished.
  const fs::path checkpoints = folder_.path() / "killed" / "checkpoints";
  fs::remove(checkpoints / "step-00000020" / "state.json");
  FakeModel last;
  run("killed", last);
  EXPECT_EQ(final_model("killed"), final_model("straight"));
  EXPECT_EQ(lines("killed"), lines("straight"));
}

TEST_F(Training, MicroBatchesDoNotChangeWhatIsLearnt) {
  FakeModel whole, parts;
  run("whole", whole);
  settings_.loader.micro_batches = 3;
  run("parts", parts);
  // Sums in another order: a few roundings of a float a step.
  for (std::size_t k = 0; k < whole.values(0).size(); ++k) EXPECT_NEAR(whole.values(0)[k], parts.values(0)[k], 1e-5);
  EXPECT_NE(whole.values(0), FakeModel().values(0));
}

TEST_F(Training, ValidationIsFixedAndApart) {
  std::set<std::uint64_t> train(split_.train.begin(), split_.train.end());
  for (const std::uint64_t index : split_.valid) EXPECT_FALSE(train.contains(index));
  EXPECT_EQ(split_.train.size() + split_.valid.size(), 60u);
  // With rate 0 from the start the model stays, and so must the validation loss.
  settings_.schedule = {.decay = Decay::constant, .peak = 1e-30, .steps = 24, .warmup = 0};
  FakeModel model;
  run("still", model);
  std::set<double> losses;
  for (const Json& line : lines("still"))
    if (line.contains("valid")) losses.insert(line["valid"]["loss"].get<double>());
  EXPECT_EQ(losses.size(), 1u);
}

TEST_F(Training, ANumberThatIsNotFiniteStopsTheRunAndNamesTheMolecules) {
  FakeModel model;
  model.poisoned = split_.train[4];
  try {
    run("poisoned", model);
    FAIL() << "a loss of NaN went through";
  } catch (const Error& e) {
    const std::string text = e.what();
    // No update from its gradients, which are finite.
    EXPECT_NE(text.find(fmt::format("loss of step {} ", model.steps_seen.size() + 1)), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos);
    const std::string name = "molecule-" + std::to_string(split_.train[4]);
    const fs::path left =
        not_finite_folder(folder_.path() / "poisoned", static_cast<std::int64_t>(model.steps_seen.size()) + 1);
    const bool listed = read_file(left / "molecules.csv").find(name + ",") != std::string::npos;
    EXPECT_TRUE(listed) << text;
    FakeModel before;
    load_checkpoint(left / "checkpoint", before);
    EXPECT_EQ(before.values(0), model.values(0)) << "the model as the step before left it";
  }
  for (const float v : model.values(0)) EXPECT_TRUE(std::isfinite(v));
}

TEST_F(Training, ASignalEndsTheRunWithACheckpoint) {
  /// Sends the program a signal in the middle of a step, as a pre-emption does.
  class Preempted final : public Model {
   public:
    const ModelConfig& config() const override { return inner.config(); }
    const std::vector<ParameterInfo>& parameters() const override { return inner.parameters(); }
    std::int64_t parameter_count() const override { return inner.parameter_count(); }
    std::string place() const override { return inner.place(); }
    std::size_t batch_bytes(const Packed& p, bool gradients) const override { return inner.batch_bytes(p, gradients); }
    void read(int moment, std::span<float> out) const override { inner.read(moment, out); }
    void write(int moment, std::span<const float> in) override { inner.write(moment, in); }
    void read_gradient(std::span<float> out) const override { inner.read_gradient(out); }
    std::string join(Ranks& ranks) override { return inner.join(ranks); }
    void zero_gradients() override { inner.zero_gradients(); }
    void sum_gradients() override { inner.sum_gradients(); }
    double gradient_norm() override { return inner.gradient_norm(); }
    void encode(const Batch& b, const EncodeStep& s, std::vector<float>& r) override { inner.encode(b, s, r); }
    PretrainResult pretrain(const Batch& b, const PretrainStep& s) override { return inner.pretrain(b, s); }
    double property(const Batch& b, const PropertyStep& s, std::vector<double>* l) override {
      return inner.property(b, s, l);
    }
    double update(const AdamSettings& a, double rate, std::int64_t step) override {
      if (step == 9) std::raise(SIGUSR1);
      return inner.update(a, rate, step);
    }
    FakeModel inner;
  };
  Preempted model;
  const PretrainOutcome outcome = run("preempted", model);
  EXPECT_EQ(outcome.step, 9);
  EXPECT_EQ(outcome.signal, SIGUSR1);
  FakeModel straight, last;
  run("straight", straight);
  EXPECT_EQ(run("preempted", last).step, 24);
  EXPECT_EQ(final_model("preempted"), final_model("straight"));
  EXPECT_EQ(lines("preempted"), lines("straight"));
}

}  // namespace
}  // namespace moleblend
