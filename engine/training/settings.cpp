#include "engine/training/settings.h"

#include <cmath>

#include "io/support/error.h"

namespace moleblend {
void PretrainSettings::check() const {
  model.check();
  objective.check();
  schedule.check();
  const auto need = [](bool ok, std::string_view flag, std::string_view what) {
    if (!ok) throw UsageError("--{} {}", flag, what);
  };
  need(loader.batch_size >= 1, "batch-size", "must be at least 1");
  need(loader.micro_batch_atoms >= 0, "micro-batch-atoms", "must not be negative (0: no limit)");
  need(loader.micro_batches >= 1 && loader.micro_batches <= loader.batch_size, "micro-batches",
       "must lie between 1 and the batch size");
  need(loader.threads >= 1 && loader.threads <= 1024, "loader-threads", "must lie between 1 and 1024");
  place.check();
  need(valid_fraction >= 0 && valid_fraction < 1, "valid-fraction", "must be at least 0 and below 1");
  need(valid_every >= 0, "valid-every", "must not be negative (0: never)");
  need(valid_molecules >= 1, "valid-molecules", "must be at least 1");
  need(log_every >= 1, "log-every", "must be at least 1");
  need(checkpoint_every >= 1, "checkpoint-every", "must be at least 1");
  need(keep_last >= 1, "keep-last", "must be at least 1");
  need(keep_every >= 0, "keep-every", "must not be negative (0: none)");
  need(spike_z >= 0 && std::isfinite(spike_z), "spike-z", "must not be negative (0: no watch)");
  need(!skip_spikes || spike_z > 0, "skip-spikes", "needs a --spike-z above 0");
  need(adam.clip_norm >= 0 && std::isfinite(adam.clip_norm), "clip", "must not be negative (0: no clipping)");
  need(adam.weight_decay >= 0 && adam.weight_decay < 1, "weight-decay", "must be at least 0 and below 1");
  need(adam.beta1 >= 0 && adam.beta1 < 1 && adam.beta2 >= 0 && adam.beta2 < 1, "beta1 and --beta2",
       "must be at least 0 and below 1");
  need(adam.epsilon > 0 && std::isfinite(adam.epsilon), "adam-epsilon", "must be positive");
}

void apply_preset(std::string_view name, PretrainSettings& s) {
  if (name != "released" && name != "paper")
    throw UsageError("no preset is called '{}'; choose released or paper", name);
  const bool released = name == "released";
  s.schedule = {.decay = Decay::cosine,
                .peak = 1e-5,
                .steps = released ? 200'000 : 1'000'000,
                .warmup = released ? 20'000 : 100'000};
  s.adam = {};
  s.loader.batch_size = 4096;
}

}  // namespace moleblend
