#include "engine/training/schedule.h"

#include <cmath>
#include <numbers>

#include "io/support/error.h"

namespace moleblend {

Decay decay_named(std::string_view name) {
  for (const Decay d : {Decay::cosine, Decay::linear, Decay::constant})
    if (name_of(d) == name) return d;
  throw UsageError("no schedule is called '{}'; choose cosine, linear or constant", name);
}

std::string_view name_of(Decay decay) {
  return decay == Decay::cosine ? "cosine" : decay == Decay::linear ? "linear" : "constant";
}

double Schedule::rate(std::int64_t t) const {
  if (t < warmup) return peak * static_cast<double>(t) / static_cast<double>(warmup);
  if (decay == Decay::constant) return peak;
  if (t >= steps) return floor;
  const double progress = static_cast<double>(t - warmup) / static_cast<double>(steps - warmup);
  const double left = decay == Decay::cosine ? 0.5 * (1 + std::cos(std::numbers::pi * progress)) : 1 - progress;
  return floor + (peak - floor) * left;
}

void Schedule::check() const {
  if (!(steps >= 1)) throw UsageError("a run needs at least one step, not {}; see --steps", steps);
  if (!(warmup >= 0 && warmup <= steps))
    throw UsageError("a warm-up of {} steps doesn't fit into a run of {}; see --warmup and --steps", warmup, steps);
  if (!(peak > 0 && std::isfinite(peak)))
    throw UsageError("the learning rate must be a positive number, not {}; see --lr", peak);
  if (!(floor >= 0 && floor <= peak))
    throw UsageError("the last learning rate must lie between 0 and the peak {}, not {}", peak, floor);
}

}  // namespace moleblend
