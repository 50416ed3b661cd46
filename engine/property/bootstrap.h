#pragma once
// How far a score could have come out otherwise with other molecules of the same kind.

#include <cstdint>
#include <span>

#include "engine/property/metrics.h"

namespace moleblend {

struct Interval {
  double low = 0, high = 0;    // NaN if no resample has a score
  std::int64_t undefined = 0;  // resamples without a score (no task has both classes), which are left out
};

struct BootstrapOptions {
  std::int64_t resamples = 1000;
  double level = 0.95;  // share of the resamples' scores inside the interval
  std::uint64_t seed = 0;
};

/// The percentile interval of the mean score (score_tasks()) under resampling of the B molecules with replacement (B. Efron,
/// R. Tibshirani, "An introduction to the bootstrap", 1993, chapter 13). All tasks of a molecule are drawn together; each resample's mean
/// runs over the tasks that have both classes in it. A function of the arguments alone. Errors as in score_tasks(); UsageError unless
/// resamples >= 1 and 0 < level < 1.
Interval bootstrap(Metric metric, std::int64_t tasks, std::span<const double> labels,
                   std::span<const double> predictions, const BootstrapOptions& options = {});

}  // namespace moleblend
