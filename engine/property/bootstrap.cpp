#include "engine/property/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "io/support/error.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {

// Keeps these draws apart from those of training with the same seed.
constexpr std::uint64_t kBootstrapEpoch = 0x626f6f747374ull;  // "bootst"

/// counts[b]: how often molecule b is among as many draws as there are molecules.
void resample(std::uint64_t key, std::vector<std::uint32_t>& counts) {
  std::fill(counts.begin(), counts.end(), 0);
  for (std::size_t k = 0; k < counts.size(); k += 4) {
    const PhiloxWords words = philox(key, static_cast<std::uint32_t>(k / 4), Draw::bootstrap, 0);
    // Uniform to within a share of B / 2³².
    for (std::size_t w = 0; w < 4 && k + w < counts.size(); ++w)
      ++counts[static_cast<std::size_t>(std::uint64_t{words.word[w]} * counts.size() >> 32)];
  }
}

/// By linear interpolation between the sorted values.
double quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
}

}  // namespace

Interval bootstrap(Metric metric, std::int64_t tasks, std::span<const double> labels,
                   std::span<const double> predictions, const BootstrapOptions& options) {
  if (options.resamples < 1 || !(options.level > 0 && options.level < 1))
    throw UsageError("{} resamples at a level of {} make no interval; choose at least one, and a level between 0 and 1",
                     options.resamples, options.level);
  std::vector<TaskSample> samples;
  for (std::int64_t task = 0; task < tasks; ++task) samples.emplace_back(metric, tasks, task, labels, predictions);
  if (samples.empty()) throw UsageError("{} tasks have no score; give at least one", tasks);

  std::vector<std::uint32_t> counts(labels.size() / samples.size());
  std::vector<double> means;
  for (std::int64_t k = 0; k < options.resamples; ++k) {
    resample(molecule_key(options.seed, kBootstrapEpoch, static_cast<std::uint64_t>(k)), counts);
    double sum = 0;
    int defined = 0;
    for (const TaskSample& sample : samples) {
      const double score = sample.score(counts);
      if (std::isnan(score)) continue;
      sum += score;
      ++defined;
    }
    if (defined > 0) means.push_back(sum / defined);
  }
  Interval interval;
  interval.undefined = options.resamples - static_cast<std::int64_t>(means.size());
  if (means.empty()) {
    interval.low = interval.high = std::numeric_limits<double>::quiet_NaN();
    return interval;
  }
  std::sort(means.begin(), means.end());
  interval.low = quantile(means, (1 - options.level) / 2);
  interval.high = quantile(means, (1 + options.level) / 2);
  return interval;
}

}  // namespace moleblend
