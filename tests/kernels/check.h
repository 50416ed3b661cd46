#pragma once
// What every kernel test uses: random data, comparison that NaN fails, and gradients against finite differences.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "kernels/common/packed.h"

namespace moleblend::testing {

inline std::vector<double> random_values(std::size_t count, std::uint64_t seed, double scale = 1) {
  std::mt19937_64 g(seed);
  std::normal_distribution<double> d(0, scale);
  std::vector<double> v(count);
  for (double& x : v) x = d(g);
  return v;
}

template <class T>
std::vector<T> as(const std::vector<double>& v) {
  return {v.begin(), v.end()};
}

/// Largest |a − b| / (floor + |b|) is at most `tolerance`; NaN in either fails.
template <class A, class B>
void expect_close(std::span<const A> a, std::span<const B> b, double tolerance, double floor = 1,
                  const char* what = "") {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t k = 0; k < a.size(); ++k) {
    const double difference = std::abs(double(a[k]) - double(b[k])) / (floor + std::abs(double(b[k])));
    if (!(difference <= tolerance)) {
      ADD_FAILURE() << what << "[" << k << "]: " << double(a[k]) << " against " << double(b[k])
                    << ", relative difference " << difference << " > " << tolerance;
      return;
    }
  }
}

/// Checks d(objective)/d(values) against central differences on up to `samples` entries spread over `values` (always the first and
/// the last), in fp64. `objective` recomputes the forward pass from `values` and contracts it with a random cotangent. A gradient of
/// zeros fails: at least one checked entry must be clearly non-zero.
/// Step 1e-5 leaves a truncation error near 1e-10 and a rounding error near 1e-11 for values of order one, so 1e-6 is generous to both.
inline void expect_gradient(std::vector<double>& values, std::span<const double> gradient,
                            const std::function<double()>& objective, const char* what, std::size_t samples = 24,
                            double tolerance = 1e-6, double step = 1e-5) {
  ASSERT_EQ(values.size(), gradient.size()) << what;
  double largest = 0;
  const std::size_t n = values.size();
  samples = std::min(samples, n);
  std::mt19937_64 g(n);
  for (std::size_t s = 0; s < samples; ++s) {
    const std::size_t k = s == 0 ? 0 : s == 1 ? n - 1 : n <= samples ? s - 1 : g() % n;
    const double kept = values[k];
    values[k] = kept + step;
    const double up = objective();
    values[k] = kept - step;
    const double down = objective();
    values[k] = kept;
    const double expected = (up - down) / (2 * step);
    largest = std::max(largest, std::abs(expected));
    const double difference = std::abs(gradient[k] - expected) / (1 + std::abs(expected));
    if (!(difference <= tolerance)) {
      ADD_FAILURE() << what << "[" << k << "]: gradient " << gradient[k] << ", finite difference " << expected;
      return;
    }
  }
  EXPECT_GT(largest, 1e-4) << what << ": no checked entry has a gradient worth the name; the test would pass on zeros";
}

/// Offsets of molecules with the given atom counts.
struct PackedSizes {
  std::vector<std::int64_t> atom{0}, pair{0}, token_pair{0};
  explicit PackedSizes(std::initializer_list<int> sizes) {
    for (const std::int64_t n : sizes) add(n);
  }
  void add(std::int64_t n) {
    atom.push_back(atom.back() + n);
    pair.push_back(pair.back() + n * n);
    token_pair.push_back(token_pair.back() + (n + 1) * (n + 1));
  }
  Packed packed() const {
    return Packed::of(static_cast<std::int64_t>(atom.size()) - 1, atom.data(), pair.data(), token_pair.data());
  }
};

}  // namespace moleblend::testing
