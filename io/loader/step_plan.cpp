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

double step_cost(std::uint32_t atoms) {
  // Of a base model on a CPU, whose molecules of 14 and of 25 atoms take 34 and 66 ms: what a token takes whatever the length of the molecule
  // is that of 96 pairs.
  const double tokens = atoms + 1.0;
  return tokens * (96 + tokens);
}

void even_borders(std::span<const Sample> samples, std::size_t parts, std::vector<std::size_t>& borders) {
  double total = 0;
  for (const Sample& s : samples) total += step_cost(s.atoms);
  borders.assign(1, 0);
  double done = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t begin = borders.back();
    const std::size_t last = samples.size() - std::min(samples.size() - begin, parts - part - 1);
    const double goal = total * static_cast<double>(part + 1) / static_cast<double>(parts);
    std::size_t end = begin;
    // The sample on the border goes where the greater part of it lies.
    for (; end < last; ++end) {
      const double cost = step_cost(samples[end].atoms);
      if (part + 1 < parts && end > begin && done + cost / 2 > goal) break;
      done += cost;
    }
    borders.push_back(end);
  }
}

void plan_rank(const LoaderOptions& options, StepPlan& plan) {
  if (options.ranks == 1) return;
  even_borders(plan.samples, static_cast<std::size_t>(options.ranks), plan.borders);
  const auto border = [&](int rank) {
    return plan.samples.begin() + static_cast<std::ptrdiff_t>(plan.borders[static_cast<std::size_t>(rank)]);
  };
  plan.samples.erase(border(options.rank + 1), plan.samples.end());
  plan.samples.erase(plan.samples.begin(), border(options.rank));
}

void plan_cuts(const LoaderOptions& options, StepPlan& plan) {
  even_borders(plan.samples, static_cast<std::size_t>(options.micro_batches), plan.borders);
  plan.cuts.assign(1, 0);
  for (std::size_t part = 0; part + 1 < plan.borders.size(); ++part) {
    std::int64_t atoms = 0;
    for (std::size_t k = plan.borders[part]; k < plan.borders[part + 1]; ++k) {
      if (options.micro_batch_atoms > 0 && atoms + plan.samples[k].atoms > options.micro_batch_atoms &&
          k > plan.cuts.back()) {
        plan.cuts.push_back(k);
        atoms = 0;
      }
      atoms += plan.samples[k].atoms;
    }
    plan.cuts.push_back(plan.borders[part + 1]);
  }
}

}  // namespace moleblend
