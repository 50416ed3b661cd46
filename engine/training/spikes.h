#pragma once
// Updates whose loss or gradient lies far above those before them.

#include <cstdint>

namespace moleblend {

/// Mean and variance of the last hundred values or so of a series.
struct Recent {
  double mean = 0, variance = 0;
  std::int64_t count = 0;

  /// How many standard deviations a value lies above the mean; 0 while fewer than fifty values are known.
  double z(double value) const;
  /// What lies more than `limit` standard deviations above the mean counts as if it lay there: one spike does not hide the next, and a
  /// series that has moved for good is followed. 0: no limit.
  void add(double value, double limit);

  bool operator==(const Recent&) const = default;
};

struct SpikeWatch {
  Recent loss, gradient_norm;
  bool operator==(const SpikeWatch&) const = default;
};

}  // namespace moleblend
