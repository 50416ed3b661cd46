#include "engine/ranks/gradient_sum.h"

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
      : ranks_(ranks), gradient_(gradient), buckets_(static_cast<std::int64_t>(gradient.size()), bucket) {
    thread_ = std::jthread([this](std::stop_token stop) { work(stop); });
  }

  ~HostGradientSum() override {
    const std::lock_guard lock(mutex_);
    // Left in the middle of a gradient, over an error: the others are not coming to this sum.
    if (buckets_.begun()) ranks_.cancel();
  }

  void ready(std::int64_t begin) override {
    const std::lock_guard lock(mutex_);
    buckets_.ready(begin);
    changed_.notify_all();
  }

  void finish() override {
    ready(0);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return buckets_.done(); });
    buckets_.restart();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  void work(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [&] { return buckets_.has_next(); })) {
      const auto [begin, end] = buckets_.front();
      lock.unlock();
      std::exception_ptr error;
      try {
        ranks_.sum(gradient_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error) {
        error_ = error;
        buckets_.drop_all();
      } else {
        buckets_.pop();
      }
      changed_.notify_all();
    }
  }

  Ranks& ranks_;
  const std::span<T> gradient_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  Buckets buckets_;
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
