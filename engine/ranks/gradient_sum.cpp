#include "engine/ranks/gradient_sum.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace moleblend {
namespace {

template <class T>
class HostGradientSum final : public GradientSum {
 public:
  HostGradientSum(Ranks& ranks, std::span<T> gradient, std::int64_t bucket)
      : ranks_(ranks), gradient_(gradient), bucket_(bucket), summed_(size()), final_(size()) {
    thread_ = std::jthread([this](std::stop_token stop) { work(stop); });
  }

  ~HostGradientSum() override {
    const std::lock_guard lock(mutex_);
    // Left in the middle of a gradient, over an error: the others are not coming to this sum.
    if (final_ < size()) ranks_.cancel();
  }

  void ready(std::int64_t begin) override {
    const std::lock_guard lock(mutex_);
    final_ = std::min(final_, begin);
    changed_.notify_all();
  }

  void finish() override {
    ready(0);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return summed_ == 0; });
    summed_ = final_ = size();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  std::int64_t size() const { return static_cast<std::int64_t>(gradient_.size()); }
  /// Where the bucket that ends at `end` begins. Buckets are the same whatever is final when, and on every rank.
  std::int64_t bucket_before(std::int64_t end) const { return std::max<std::int64_t>(0, end - bucket_); }

  void work(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [&] { return summed_ > 0 && final_ <= bucket_before(summed_); })) {
      const std::int64_t end = summed_, begin = bucket_before(end);
      lock.unlock();
      std::exception_ptr error;
      try {
        ranks_.sum(gradient_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      summed_ = error ? 0 : begin;
      if (error) error_ = error;
      changed_.notify_all();
    }
  }

  Ranks& ranks_;
  const std::span<T> gradient_;
  const std::int64_t bucket_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::int64_t summed_, final_;  // values from here on
  std::exception_ptr error_;
  std::jthread thread_;  // last: it ends before what it uses
};

}  // namespace

template <class T>
std::unique_ptr<GradientSum> make_gradient_sum(Ranks& ranks, std::span<T> gradient, std::int64_t bucket) {
  return std::make_unique<HostGradientSum<T>>(ranks, gradient, bucket);
}
template std::unique_ptr<GradientSum> make_gradient_sum(Ranks&, std::span<float>, std::int64_t);
template std::unique_ptr<GradientSum> make_gradient_sum(Ranks&, std::span<double>, std::int64_t);

}  // namespace moleblend
