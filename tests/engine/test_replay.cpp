// A step over again is the step that was.

#include <cmath>

#include "engine/model/make_model.h"
#include "engine/training/replay.h"
#include "tests/engine/training_run.h"

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;

class ReplayedStep : public testing::TrainingRun {
 protected:
  ReplayedStep() {
    settings_.model = ModelConfig::named("tiny");
    settings_.schedule = {.decay = Decay::constant, .peak = 1e-3, .steps = 8, .warmup = 0};
    settings_.loader.batch_size = 7;
    settings_.loader.micro_batches = 2;
    settings_.valid_every = 0;
    settings_.checkpoint_every = 1;
    const std::unique_ptr<Model> model = make_cpu_model(settings_.model, 1);
    initialise(*model, 5, false);
    train("run", std::nullopt, *model, std::nullopt);
  }
};

TEST_F(ReplayedStep, HasTheLossTheGradientAndTheMoleculesOfTheRun) {
  const std::vector<Json> logged = lines("run");
  for (const std::int64_t step : {1, 7}) {
    const std::unique_ptr<Model> model = make_cpu_model(settings_.model, 1, true);
    load_parameters(folder_.path() / "run" / "checkpoints" / checkpoint_name(step), *model, Absent::refuse);
    Progress silent("replay", 7, "molecules", {.quiet = true});
    const Replay again = replay(*data_, split_, settings_, *model, step, silent);
    const Json& line = logged[static_cast<std::size_t>(step)];
    ASSERT_EQ(line["step"], step + 1);
    // The run was in float: rounding of 6e-8 through the network.
    const double loss = line["loss"], norm = line["grad_norm"];
    EXPECT_NEAR(again.result.total, loss, 1e-4 * loss);
    EXPECT_NEAR(again.gradient_norm, norm, 1e-3 * norm);

    ASSERT_EQ(again.molecules.size(), 7u);
    Loader loader(*data_, split_.train, settings_.loader, step, step + 1);
    const auto loaded = loader.next();
    std::size_t k = 0;
    double total = 0;
    for (const Batch& part : loaded->micro_batches)
      for (std::int64_t b = 0; b < part.molecules(); ++b, ++k) {
        EXPECT_EQ(again.molecules[k].index, part.index[static_cast<std::size_t>(b)]);
        EXPECT_EQ(again.molecules[k].key, part.key[static_cast<std::size_t>(b)]);
        EXPECT_EQ(again.molecules[k].identifier, "molecule-" + std::to_string(again.molecules[k].index));
        EXPECT_GT(again.molecules[k].gradient_norm, 0);
        if (again.molecules[k].has_positions) {
          EXPECT_GT(again.molecules[k].closest, 0);
          EXPECT_GE(again.molecules[k].farthest, again.molecules[k].closest);
        }
        total += again.molecules[k].result.total;
      }
    // The same sums in double, in another order.
    EXPECT_NEAR(total, again.result.total, 1e-12 * std::abs(total));
  }
}

TEST_F(ReplayedStep, LeavesTheModelAsItIs) {
  const std::unique_ptr<Model> model = make_cpu_model(settings_.model, 1, true);
  load_parameters(folder_.path() / "run" / "checkpoints" / checkpoint_name(3), *model, Absent::refuse);
  const auto values = [&] {
    std::vector<float> v(static_cast<std::size_t>(model->parameter_count()));
    model->read(0, v);
    return v;
  };
  const std::vector<float> before = values();
  Progress silent("replay", 7, "molecules", {.quiet = true});
  const Replay first = replay(*data_, split_, settings_, *model, 3, silent);
  const Replay second = replay(*data_, split_, settings_, *model, 3, silent);
  EXPECT_EQ(values(), before);
  EXPECT_EQ(first.result.total, second.result.total);
  EXPECT_EQ(first.gradient_norm, second.gradient_norm);
}

}  // namespace
}  // namespace moleblend
