#pragma once
// How long something takes, in the face of what else a machine does.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

namespace moleblend {

/// The middle one; of an even number, the lower of the two in the middle. NaN of none.
inline double median(std::vector<double> values) {
  if (values.empty()) return std::nan("");
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Median seconds of a call of f, after one to warm up, over at least `seconds` and three samples. Calls that take less than a millisecond
/// are timed many at a time. `wait` is called after each sample: what f queues on a device is waited for there.
template <class F, class Wait>
double seconds_of(double seconds, const F& f, const Wait& wait) {
  using Clock = std::chrono::steady_clock;
  const auto time = [&](std::int64_t calls) {
    const Clock::time_point begin = Clock::now();
    for (std::int64_t k = 0; k < calls; ++k) f();
    wait();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  time(1);
  const double once = std::max(time(1), 1e-7);
  const auto calls = static_cast<std::int64_t>(std::clamp(1e-3 / once, 1.0, 1e4));
  std::vector<double> samples;
  for (double spent = 0; spent < seconds || samples.size() < 3; spent += samples.back() * static_cast<double>(calls))
    samples.push_back(time(calls) / static_cast<double>(calls));
  return median(std::move(samples));
}

}  // namespace moleblend
