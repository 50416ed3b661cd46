#pragma once
// One fine-tuning run: epochs of training, validation after each, the best checkpoint kept.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "engine/property/labels.h"
#include "engine/property/settings.h"
#include "engine/ranks/ranks.h"
#include "engine/training/checkpoint.h"
#include "io/dataset/dataset.h"

namespace moleblend {

struct FinetuneTask {
  const Dataset& data;
  const Labels& labels;
  const Subset &train, &valid;  // usable molecules only
  Model& model;                 // as it is after `first_step` updates
  const FinetuneSettings& settings;
  std::uint64_t seed;         // of this run: initial values, order, dropout, conformers
  std::filesystem::path run;  // metrics.jsonl and checkpoints/ are written there
  std::string program_version;
  std::int64_t first_step = 0;
  std::optional<BestValidation> best;  // before first_step
  std::optional<std::int64_t> stop_at;
  bool quiet = false;
  Ranks& ranks = sole_rank();  // which the model joins
};

struct FinetuneOutcome {
  std::int64_t step = 0;
  int signal = 0;         // that ended it, or 0
  bool finished = false;  // all epochs done, or no better validation for `patience` of them
  std::optional<BestValidation> best;
};

/// Trains until the last epoch, until patience runs out, or until stop_at or a signal to any rank; the last step done has a checkpoint, and
/// so has the best validation. Everything but timing is a function of (settings, seed, data, model at the start, number of ranks): a run
/// that is stopped and goes on leaves the same bytes as one that is not, and other numbers of ranks agree with it to rounding. The first
/// rank writes. Throws Error for a number that is not finite, naming the molecules, and if the metric is not defined on the validation
/// part; what all ranks meet the first one throws as Error, the others as AnotherRankTells.
FinetuneOutcome finetune(const FinetuneTask& task);

/// Updates of a run: as many as its epochs take, an unfinished batch counted whole.
std::int64_t steps_of(double epochs, std::uint64_t molecules, std::int64_t batch_size);

}  // namespace moleblend
