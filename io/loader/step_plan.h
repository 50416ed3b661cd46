#pragma once
// Which molecules a training step holds, and how it is cut into micro-batches: functions of (options, subset, step)
// alone.

#include <cstdint>
#include <vector>

#include "io/loader/loader.h"

namespace moleblend {

struct Sample {
  std::uint64_t index = 0, key = 0;
  std::uint32_t atoms = 0;
};

/// Reused from step to step.
struct StepPlan {
  std::vector<Sample> samples;
  std::vector<std::size_t> cuts;     // micro-batch m holds samples [cuts[m], cuts[m + 1])
  std::vector<std::uint32_t> atoms;  // of the samples of one micro-batch
};

/// The order in which an epoch draws the positions of a subset, if it shuffles.
EpochOrder epoch_order(const Subset& subset, const LoaderOptions& options, std::uint64_t epoch);

/// The samples of step `step`: p = step · batch_size + k is molecule subset[order(p mod n)] of epoch p / n.
void plan_samples(const Dataset& dataset, const Subset& subset, const LoaderOptions& options, std::int64_t step,
                  StepPlan& plan);

/// Cuts a step in order, first evenly by cost (Σ n², what attention and pair heads pay) into `micro_batches` parts,
/// each with at least one molecule while there are enough; then each part where it exceeds `micro_batch_atoms`.
void plan_cuts(const LoaderOptions& options, StepPlan& plan);

}  // namespace moleblend
