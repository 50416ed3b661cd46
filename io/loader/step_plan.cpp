#include "io/loader/step_plan.h"

#include <algorithm>

#include "kernels/random/philox.h"

namespace moleblend {
namespace {
// Takes the place of a molecule index in the key of an epoch's order; no data set reaches it.
constexpr std::uint64_t kOrder = ~std::uint64_t{0};
}  // namespace

EpochOrder epoch_order(const Subset& subset, const LoaderOptions& options, std::uint64_t epoch) {
  return EpochOrder(subset.size(), molecule_key(options.seed, epoch, kOrder));
}

void plan_samples(const Dataset& dataset, const Subset& subset, const LoaderOptions& options, std::int64_t step,
                  StepPlan& plan) {
  const std::uint64_t n = subset.size(), count = static_cast<std::uint64_t>(options.batch_size);
  const std::uint64_t first = static_cast<std::uint64_t>(step) * count;
  plan.samples.resize(count);
  std::uint64_t epoch = first / n, place = first % n;
  EpochOrder order = epoch_order(subset, options, epoch);
  for (std::uint64_t k = 0; k < count; ++k, ++place) {
    if (place == n) {
      place = 0;
      order = epoch_order(subset, options, ++epoch);
    }
    const std::uint64_t index = subset[options.shuffle ? order(place) : place];
    plan.samples[k] = {index, molecule_key(options.seed, epoch, index), dataset.atoms(index)};
  }
}

void plan_cuts(const LoaderOptions& options, StepPlan& plan) {
  const std::vector<Sample>& samples = plan.samples;
  const auto cost = [](const Sample& s) { return static_cast<double>(s.atoms) * s.atoms; };
  double total = 0;
  for (const Sample& s : samples) total += cost(s);

  plan.cuts.assign(1, 0);
  const auto parts = static_cast<std::size_t>(options.micro_batches);
  std::size_t next = 0;
  double done = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t left_for_others = std::min(samples.size() - next, parts - part - 1);
    const std::size_t last = samples.size() - left_for_others;
    const double goal = total * static_cast<double>(part + 1) / static_cast<double>(parts);
    const std::size_t part_begin = next;
    std::int64_t atoms = 0;
    // The sample on the border goes where the greater part of it lies.
    while (next < last && (part + 1 == parts || next == part_begin || done + cost(samples[next]) / 2 <= goal)) {
      const bool full = options.micro_batch_atoms > 0 && atoms + samples[next].atoms > options.micro_batch_atoms;
      if (full && next > plan.cuts.back()) {
        plan.cuts.push_back(next);
        atoms = 0;
      }
      atoms += samples[next].atoms;
      done += cost(samples[next++]);
    }
    plan.cuts.push_back(next);
  }
}

}  // namespace moleblend
