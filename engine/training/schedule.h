#pragma once
// Learning rates over the updates of a run (METHOD sections 8 and 10).

#include <cstdint>
#include <string_view>

namespace moleblend {

enum class Decay { cosine, linear, constant };
/// cosine, linear or constant; throws UsageError naming the choices.
Decay decay_named(std::string_view name);
std::string_view name_of(Decay decay);

/// Linear warm-up from 0 over `warmup` updates, then decay to `floor` at update `steps`.
struct Schedule {
  Decay decay = Decay::cosine;
  double peak = 1e-5;
  std::int64_t steps = 200'000;
  std::int64_t warmup = 20'000;
  double floor = 0;

  /// Learning rate of update t, counted from 0: with a warm-up the first update has rate 0 (and still moves Adam's
  /// moments), as in the reference. From `steps` on: floor (constant: peak).
  double rate(std::int64_t t) const;
  /// Throws UsageError for what can't be a schedule.
  void check() const;
};

}  // namespace moleblend
