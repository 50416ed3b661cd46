#pragma once
// Which molecules a training step holds, and how it is cut into ranks and micro-batches: functions of (options, subset, step) alone.

#include <cstdint>
#include <span>
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
  std::vector<std::size_t> borders;  // of parts that are even by cost
  std::vector<std::uint32_t> atoms;  // of the samples of one micro-batch
};

/// What a training step takes for a molecule, in some unit: a share by its tokens and one by its pairs.
double step_cost(std::uint32_t atoms);

/// Cuts samples in order into parts of even cost, each with at least one sample while there are enough: part p is [borders[p],
/// borders[p + 1]).
void even_borders(std::span<const Sample> samples, std::size_t parts, std::vector<std::size_t>& borders);

/// The order in which an epoch draws the positions of a subset, if it shuffles.
EpochOrder epoch_order(const Subset& subset, const LoaderOptions& options, std::uint64_t epoch);

/// The samples of step `step`: p = step · batch_size + k is molecule subset[order(p mod n)] of epoch p / n.
void plan_samples(const Dataset& dataset, const Subset& subset, const LoaderOptions& options, std::int64_t step,
                  StepPlan& plan);

/// Leaves of a whole step the samples of this rank.
void plan_rank(const LoaderOptions& options, StepPlan& plan);

/// Cuts the samples in order, first into `micro_batches` parts of even cost, then each part where it exceeds `micro_batch_atoms`.
void plan_cuts(const LoaderOptions& options, StepPlan& plan);

}  // namespace moleblend
