#pragma once
// The pretraining loop: batches in, updates, lines of metrics, validations and checkpoints out.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "engine/ranks/ranks.h"
#include "engine/training/checkpoint.h"
#include "engine/training/settings.h"
#include "io/dataset/dataset.h"
#include "io/loader/loader.h"

namespace moleblend {

struct PretrainTask {
  const Dataset& data;
  const Split& split;
  Model& model;  // as it is after `first_step` updates, on every rank
  const PretrainSettings& settings;
  std::filesystem::path run;  // the run folder: metrics.jsonl and checkpoints/ are written there
  std::string program_version;
  std::int64_t first_step = 0;               // updates done before
  std::optional<BestValidation> best = {};   // before first_step
  SpikeWatch spikes = {};                    // likewise
  std::optional<std::int64_t> stop_at = {};  // end after this step, with a checkpoint, as a pre-emption would
  bool quiet = false;
  Ranks& ranks = sole_rank();  // which the model joins
};

struct PretrainOutcome {
  std::int64_t step = 0;  // updates done
  int signal = 0;         // that ended the run before its last step, or 0
  std::optional<BestValidation> best;
  double last_loss = 0;  // of the last training step
};

/// Trains until the last step, stop_at, or a signal (SIGTERM, SIGINT, SIGUSR1) to any rank, whichever comes first; the last step
/// done has a checkpoint. The caller holds the run's lock. Everything but timing is a function of (settings, data,
/// split, model at the start, number of ranks): a run that is stopped and goes on leaves the same bytes as one that is not, and other
/// numbers of ranks agree with it to rounding. The first rank writes; the others only train. Throws
/// Error; for a loss or a gradient that is not finite it names the step and the molecules, the model stays as the step
/// before left it, and no checkpoint is written after the last good one. What all ranks meet the first one throws as Error, the others as AnotherRankTells.
PretrainOutcome pretrain(const PretrainTask& task);

}  // namespace moleblend
