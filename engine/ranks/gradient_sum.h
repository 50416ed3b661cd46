#pragma once
// Σ of a gradient over the ranks, bucket by bucket, while the backward pass goes on.

#include <cstdint>
#include <memory>
#include <span>

#include "engine/ranks/ranks.h"

namespace moleblend {

/// Backward fills the flat buffer from its end to its beginning; a bucket is summed as soon as all of it is final.
class GradientSum {
 public:
  virtual ~GradientSum() = default;
  /// Values from `begin` to the end are final, or will be when what is queued on the device is done. Never waits.
  virtual void ready(std::int64_t begin) = 0;
  /// All values are final: sums what is left, and returns when all is summed, or when all of it is queued on the device. The next call
  /// belongs to the next gradient. Throws what a sum threw.
  virtual void finish() = 0;
};

/// Values a bucket: large enough for the network, small enough that the last one, which nothing is left to hide behind, is short.
constexpr std::int64_t kGradientBucket = std::int64_t{1} << 22;

/// In the memory of the host, by a thread of its own that is the only one to use `ranks` between the first ready() and finish(). T is
/// float or double.
template <class T>
std::unique_ptr<GradientSum> make_gradient_sum(Ranks& ranks, std::span<T> gradient,
                                               std::int64_t bucket = kGradientBucket);

}  // namespace moleblend
