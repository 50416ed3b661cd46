#pragma once
// Σ of a gradient over the ranks, bucket by bucket, while the backward pass goes on.

#include <algorithm>
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

/// Which part of a gradient is summed next: buckets are the same whatever is final when, and on every rank.
class Buckets {
 public:
  struct Bucket {
    std::int64_t begin, end;
  };
  Buckets(std::int64_t values, std::int64_t bucket) : values_(values), bucket_(bucket) { restart(); }

  /// Values from `begin` to the end are final.
  void ready(std::int64_t begin) { final_ = std::min(final_, begin); }
  /// Whether all of the next bucket is.
  bool has_next() const { return summed_ > 0 && final_ <= front().begin; }
  Bucket front() const { return {std::max<std::int64_t>(0, summed_ - bucket_), summed_}; }
  void pop() { summed_ = front().begin; }
  void drop_all() { summed_ = 0; }

  bool begun() const { return final_ < values_; }
  bool done() const { return summed_ == 0; }
  /// The next gradient.
  void restart() { summed_ = final_ = values_; }

 private:
  std::int64_t values_, bucket_;
  std::int64_t summed_ = 0, final_ = 0;  // values from here on
};

/// In the memory of the host, by a thread of its own that is the only one to use `ranks` between the first ready() and finish(). T is
/// float or double.
template <class T>
std::unique_ptr<GradientSum> make_gradient_sum(Ranks& ranks, std::span<T> gradient,
                                               std::int64_t bucket = kGradientBucket);

}  // namespace moleblend
