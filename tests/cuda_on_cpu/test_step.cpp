// How much a training step queues: each launch costs the host a few microseconds, whatever the batch, and a step of the base model on a large
// GPU has about ten milliseconds. What the counts are for is told in docs/gpu_notes.md.

#include <gtest/gtest.h>

#include "engine/bench/bench_size.h"
#include "engine/bench/molecules.h"
#include "engine/model/gpu_batch.h"
#include "engine/model/network.h"
#include "launch.h"

namespace moleblend::testing {
namespace {

using cuda_on_cpu::Queued;

struct Counts {
  long kernels, products, transfers;
  Counts operator-(const Counts& other) const {
    return {kernels - other.kernels, products - other.products, transfers - other.transfers};
  }
  bool operator==(const Counts&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Counts& c) {
  return out << c.kernels << " kernels, " << c.products << " products, " << c.transfers << " transfers";
}
Counts counts() {
  return {cuda_on_cpu::queued(Queued::kernel), cuda_on_cpu::queued(Queued::product),
          cuda_on_cpu::queued(Queued::transfer)};
}

/// Of the third step, when everything has grown to its size; all dropouts on, as in pretraining.
Counts of_a_step(std::int64_t layers, std::int64_t molecules) {
  ModelConfig config = ModelConfig::named("tiny");
  config.layers = layers;
  config.hidden_dropout = 0.1;
  config.drop_path = 0.1;
  const Batch batch = std::move(made_up_batches(kSmallMolecules, molecules, 1)[0]);
  const Objective objective;
  const PretrainStep step{.objective = &objective, .counts = count_targets(batch, objective)};
  Network<Gpu, bf16> model(config, 0);
  initialise(model, 1, false);
  Counts before{};
  for (std::int64_t k = 1; k <= 3; ++k) {
    before = counts();
    model.zero_gradients();
    model.pretrain(batch, step);
    model.update({}, 1e-4, k);
  }
  return counts() - before;
}

TEST(Step, QueuesAsMuchWhateverTheBatch) {
  EXPECT_EQ(of_a_step(2, 3), of_a_step(2, 24));
}

/// Exact, so that whoever changes it sees it and says so in docs/gpu_notes.md.
TEST(Step, QueuesThisMuch) {
  const Counts one = of_a_step(1, 3), layer = of_a_step(2, 3) - one;
  EXPECT_EQ(layer, (Counts{15, 12, 0})) << "each further layer";
  EXPECT_EQ(one, (Counts{74, 21, 7})) << "a network of one layer";
}

}  // namespace
}  // namespace moleblend::testing
