#include "engine/training/spikes.h"

#include <algorithm>
#include <cmath>

namespace moleblend {
namespace {

constexpr std::int64_t kWindow = 100, kFew = 50;

double deviation(const Recent& r) {
  // A series that hardly moves must not make a spike of its rounding.
  return std::max({std::sqrt(r.variance), 1e-3 * std::abs(r.mean), 1e-30});
}

}  // namespace

double Recent::z(double value) const {
  return count < kFew ? 0 : (value - mean) / deviation(*this);
}

void Recent::add(double value, double limit) {
  if (limit > 0 && z(value) > limit) value = mean + limit * deviation(*this);
  count = std::min(count + 1, kWindow);
  // The plain mean and variance until the window is full, then an exponential one of its length.
  const double weight = 1.0 / static_cast<double>(count), difference = value - mean;
  mean += weight * difference;
  variance = (1 - weight) * (variance + weight * difference * difference);
}

}  // namespace moleblend
