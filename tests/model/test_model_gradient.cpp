// The gradient of the whole network against finite differences, with every dropout on: what backward says of each
// parameter, composed over all operations.

#include <gtest/gtest.h>

#include <cmath>

#include "engine/model/cpu_model.h"
#include "tests/kernels/check.h"
#include "tests/model/random_batch.h"

namespace moleblend::testing {
namespace {

ModelConfig small_config() {
  ModelConfig c = ModelConfig::named("tiny");
  c.layers = 3;  // drop-path acts in the middle and in the last
  c.width = 48, c.heads = 2, c.ffn = 32, c.kernels = 8, c.distance_hidden = 12;
  c.hidden_dropout = 0.1;
  c.drop_path = 0.3;
  return c;
}

std::vector<Molecule> molecules() {
  return {random_molecule(1, 1), random_molecule(7, 2), random_molecule(12, 5), random_molecule(4, 3, false),
          random_molecule(9, 4)};
}

/// Checks d(loss)/d(parameter) for some entries of every parameter.
/// Entries of the tables that no input reaches have no gradient, so entries are taken where the analytic one is
/// largest, and at random.
void check_parameters(CpuModel<double>& model, const std::function<double(bool gradients)>& loss) {
  model.zero_gradients();
  loss(true);
  const std::vector<double> gradient(model.gradient().begin(), model.gradient().end());
  for (const ParameterInfo& p : model.parameters()) {
    const auto begin = static_cast<std::size_t>(p.offset), count = static_cast<std::size_t>(p.count);
    std::vector<std::size_t> entries{begin, begin + count - 1, begin + count / 2};
    std::size_t largest = begin;
    for (std::size_t k = begin; k < begin + count; ++k)
      if (std::abs(gradient[k]) > std::abs(gradient[largest])) largest = k;
    entries.push_back(largest);
    // Softmax is shift invariant, so a key's bias has no gradient; all else must have one, or the test would pass on
    // zeros.
    if (!p.name.ends_with("k_proj.bias")) {
      EXPECT_GT(std::abs(gradient[largest]), 1e-7) << p.name << " gets no gradient";
    }
    for (const std::size_t k : entries) {
      double& value = model.values(0)[k];
      const double kept = value, step = 1e-5;
      value = kept + step;
      const double up = loss(false);
      value = kept - step;
      const double down = loss(false);
      value = kept;
      const double expected = (up - down) / (2 * step);
      // Truncation (step² · third derivative) and rounding (1e-16 · loss / step) are both near 1e-10.
      const double difference = std::abs(gradient[k] - expected) / (1 + std::abs(expected));
      EXPECT_TRUE(difference <= 1e-7) << p.name << "[" << k - begin << "]: gradient " << gradient[k]
                                      << ", finite difference " << expected;
    }
  }
}

void randomise(CpuModel<double>& model) {
  initialise(model, 7, false);
  // Larger than the usual start, so that every term is visible.
  for (const ParameterInfo& p : model.parameters()) {
    const std::vector<double> noise =
        random_values(static_cast<std::size_t>(p.count), static_cast<std::uint64_t>(p.offset) + 1, 0.15);
    for (std::size_t k = 0; k < noise.size(); ++k) model.values(0)[static_cast<std::size_t>(p.offset) + k] += noise[k];
  }
}

class PretrainGradient : public ::testing::TestWithParam<DistanceTarget> {};

TEST_P(PretrainGradient, AgreesWithFiniteDifferences) {
  ModelConfig config = small_config();
  config.target = GetParam();
  CpuModel<double> model(config, 2);
  randomise(model);
  const Batch batch = batch_of(molecules(), {0, 1, 2, 3, 4});
  Objective objective;
  objective.spd_factor = objective.edge_factor = objective.distance_factor = objective.denoise_factor = 1;
  const TargetCounts counts = count_targets(batch, objective);
  ASSERT_GT(counts.denoise_atoms, 0);
  check_parameters(model, [&](bool gradients) {
    return model.pretrain(batch, {.objective = &objective, .counts = counts, .dropout = true, .gradients = gradients})
        .total;
  });
}
INSTANTIATE_TEST_SUITE_P(Targets, PretrainGradient,
                         ::testing::Values(DistanceTarget::displacement, DistanceTarget::distance),
                         [](const auto& instance) {
                           return instance.param == DistanceTarget::distance ? "Distance" : "Displacement";
                         });

class PropertyGradient : public ::testing::TestWithParam<Readout> {};

TEST_P(PropertyGradient, AgreesWithFiniteDifferences) {
  ModelConfig config = small_config();
  config.tasks = 2;
  CpuModel<double> model(config, 2);
  randomise(model);
  const Batch batch = batch_of(molecules(), {0, 1, 2, 3, 4});
  const double nan = std::nan("");
  for (const PropertyTask task : {PropertyTask::classification, PropertyTask::regression}) {
    const std::vector<double> labels{1, 0, nan, 1, 0, 0, 1, nan, 1, 1}, mean{0.3, -2}, std{1.5, 0.7};
    check_parameters(model, [&](bool gradients) {
      return model.property(batch,
                            {.task = task,
                             .readout = GetParam(),
                             .show_2d = true,
                             .show_3d = true,
                             .labels = labels,
                             .mean = mean,
                             .std = std,
                             .label_count = 8,
                             .dropout = true,
                             .gradients = gradients},
                            nullptr);
    });
  }
}
INSTANTIATE_TEST_SUITE_P(Readouts, PropertyGradient, ::testing::Values(Readout::cls, Readout::mean, Readout::sum),
                         [](const auto& instance) {
                           return instance.param == Readout::cls    ? "Cls"
                                  : instance.param == Readout::mean ? "Mean"
                                                                    : "Sum";
                         });

/// Micro-batches add up to the batch, draws and dropouts included: cutting a batch changes nothing but rounding.
TEST(Pretrain, MicroBatchesAddUp) {
  ModelConfig config = small_config();
  CpuModel<double> whole(config, 2), parts(config, 1);
  randomise(whole);
  randomise(parts);
  const Objective objective;
  const Batch all = batch_of(molecules(), {0, 1, 2, 3, 4});
  TargetCounts counts;
  std::vector<Batch> cut;
  for (const auto& index : {std::vector<std::uint64_t>{3, 1}, {0}, {4, 2}}) {
    cut.push_back(batch_of(molecules(), index));
    counts += count_targets(cut.back(), objective);
  }
  const PretrainResult expected =
      whole.pretrain(all, {.objective = &objective, .counts = count_targets(all, objective)});
  PretrainResult sum;
  for (const Batch& b : cut) sum += parts.pretrain(b, {.objective = &objective, .counts = counts});
  EXPECT_NEAR(sum.total, expected.total, 1e-12 * expected.total);
  EXPECT_NEAR(sum.edge, expected.edge, 1e-12 * expected.edge);
  EXPECT_NEAR(sum.denoise, expected.denoise, 1e-12 * expected.denoise);
  expect_close<double, double>(parts.gradient(), whole.gradient(), 1e-11, 1e-2, "gradient");
}

}  // namespace
}  // namespace moleblend::testing
