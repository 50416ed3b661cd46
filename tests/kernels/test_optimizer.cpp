// Global norm, clipping and Adam.

#include <limits>

#include "kernels/optimizer/optimizer.h"
#include "tests/kernels/check.h"

namespace moleblend {
namespace {

using testing::as;
using testing::expect_close;
using testing::random_values;

template <class T>
double norm_of(Cpu& cpu, const std::vector<T>& g) {
  double norm = std::numeric_limits<double>::quiet_NaN();
  global_norm(cpu, std::int64_t(g.size()), g.data(), &norm);
  return norm;
}

TEST(GlobalNorm, IsTheRootOfTheSumOfSquares) {
  for (const std::size_t count : {0u, 1u, 15u, 4096u, 4097u, 50000u}) {
    const auto g = random_values(count, 1, 1e-3);
    long double sum = 0;
    for (const double x : g) sum += static_cast<long double>(x) * x;
    const double expected = std::sqrt(static_cast<double>(sum));
    double first = 0;
    for (const int threads : {1, 2, 3, 7}) {
      Cpu cpu(threads);
      const double norm = norm_of(cpu, g);
      EXPECT_NEAR(norm, expected, 1e-14 * expected);
      if (threads == 1) first = norm;
      EXPECT_EQ(norm, first) << "the same bits for every number of threads";
      const auto single = as<float>(g);
      // Rounding of the inputs to fp32; the sum itself is in double.
      EXPECT_NEAR(norm_of(cpu, single), expected, 1e-7 * expected);
    }
  }
}

TEST(GlobalNorm, SquaresBeyondFloatAreFinite) {
  Cpu cpu(1);
  const std::vector<float> g(10, 1e30f);
  EXPECT_NEAR(norm_of(cpu, g), std::sqrt(10.0) * 1e30, 1e24);
}

TEST(GlobalNorm, NonFiniteComesThrough) {
  Cpu cpu(2);
  auto g = random_values(10000, 1);
  g[9999] = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(std::isinf(norm_of(cpu, g)));
  g[5000] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(norm_of(cpu, g)));
}

TEST(ClipFactor, NeverEnlarges) {
  EXPECT_EQ(clip_factor(1, 5), 1);
  EXPECT_EQ(clip_factor(0, 5), 1);
  EXPECT_DOUBLE_EQ(clip_factor(10, 5), 5 / (10 + 1e-6));
  EXPECT_EQ(clip_factor(1e9, 0), 1);
  EXPECT_EQ(clip_factor(1e9, -1), 1);
  EXPECT_EQ(clip_factor(std::numeric_limits<double>::infinity(), 5), 0);
  EXPECT_TRUE(std::isnan(clip_factor(std::numeric_limits<double>::quiet_NaN(), 5)));
}

/// A norm that clips to a factor of about 1 / step when the largest allowed is 1: factor = 1 / (norm + 1e-6).
double norm_for(std::int64_t step) {
  return double(step) - 1e-6;
}

/// Parameters and moments; one step with gradient g.
template <class T>
struct State {
  std::vector<T> p, m, v;
  Adam<T> step(const std::vector<T>& g, const double& norm) {
    return {.count = std::int64_t(p.size()),
            .parameter = p.data(),
            .gradient = g.data(),
            .m = m.data(),
            .v = v.data(),
            .shadow = nullptr,
            .norm = &norm,
            .clip_norm = 0,
            .learning_rate = 0,
            .step = 1};
  }
};

/// Five updates with changing gradients, learning rate and clipping.
template <class T>
State<T> five_updates(std::size_t count, int threads, double weight_decay) {
  State<T> r{as<T>(random_values(count, 1)), std::vector<T>(count), std::vector<T>(count)};
  Cpu cpu(threads);
  for (std::int64_t step = 1; step <= 5; ++step) {
    const auto g = as<T>(random_values(count, std::uint64_t(10 + step), 0.01));
    const double norm = norm_for(step);
    Adam<T> a = r.step(g, norm);
    a.clip_norm = 1;
    a.learning_rate = 1e-2 * double(step - 1);
    a.weight_decay = weight_decay;
    a.step = step;
    adam(cpu, a);
  }
  return r;
}

TEST(Adam, FollowsTheFormula) {
  for (const double weight_decay : {0.0, 0.1}) {
    const std::size_t count = 1003;
    const auto start = random_values(count, 1);
    auto p = start;
    std::vector<double> m(count), v(count);
    for (int t = 1; t <= 5; ++t) {
      const auto gradient = random_values(count, std::uint64_t(10 + t), 0.01);
      const double rate = 1e-2 * (t - 1);
      for (std::size_t k = 0; k < count; ++k) {
        const double g = gradient[k] / t;
        m[k] = 0.9 * m[k] + 0.1 * g;
        v[k] = 0.999 * v[k] + 0.001 * g * g;
        p[k] -= rate * weight_decay * p[k];
        p[k] -= rate * (m[k] / (1 - std::pow(0.9, t))) /
                (std::sqrt(v[k] / (1 - std::pow(0.999, t))) + 1e-8 / std::sqrt(1 - std::pow(0.999, t)));
      }
    }
    const auto r = five_updates<double>(count, 1, weight_decay);
    expect_close<double, double>(r.p, p, 1e-13, 1, "parameters");
    expect_close<double, double>(r.m, m, 1e-13, 1e-3, "m");
    expect_close<double, double>(r.v, v, 1e-13, 1e-6, "v");
    // fp32 rounding of five updates of at most 0.05 to parameters of order one.
    expect_close<float, double>(five_updates<float>(count, 1, weight_decay).p, p, 1e-6, 1, "parameters in fp32");
    double moved = 0;
    for (std::size_t k = 0; k < count; ++k) moved = std::max(moved, std::abs(p[k] - start[k]));
    EXPECT_GT(moved, 0.01);
  }
}

// Stretches of zeros with a single gradient, m or v in them, at the places where blocks and vectors begin and end: every element is
// what it is alone.
TEST(Adam, AmongZerosAsAlone) {
  constexpr std::size_t kCount = 1000;
  for (const double weight_decay : {0.0, 0.1}) {
    State<float> all{as<float>(random_values(kCount, 1)), std::vector<float>(kCount), std::vector<float>(kCount)};
    std::vector<float> g(kCount);
    g[0] = g[63] = g[999] = 0.5f;
    all.m[128] = all.m[255] = -0.25f;
    all.v[320] = all.v[447] = all.v[998] = 0.125f;
    const State<float> before = all;
    const double norm = 1;
    Cpu cpu(2);
    const auto update = [&](State<float>& state, const std::vector<float>& gradient) {
      Adam<float> a = state.step(gradient, norm);
      a.learning_rate = 1e-2;
      a.weight_decay = weight_decay;
      adam(cpu, a);
    };
    update(all, g);
    std::size_t moved = 0;
    for (std::size_t k = 0; k < kCount; ++k) {
      State<float> one{{before.p[k]}, {before.m[k]}, {before.v[k]}};
      update(one, {g[k]});
      EXPECT_EQ(all.p[k], one.p[0]) << k;
      EXPECT_EQ(all.m[k], one.m[0]) << k;
      EXPECT_EQ(all.v[k], one.v[0]) << k;
      moved += all.p[k] != before.p[k] || all.m[k] != before.m[k] || all.v[k] != before.v[k];
    }
    EXPECT_EQ(moved, weight_decay == 0 ? 8u : kCount);
  }
}

TEST(Adam, SameBitsForAnyNumberOfThreads) {
  const auto one = five_updates<float>(10007, 1, 0.01);
  for (const int threads : {2, 3, 5}) {
    const auto r = five_updates<float>(10007, threads, 0.01);
    EXPECT_EQ(r.p, one.p);
    EXPECT_EQ(r.m, one.m);
    EXPECT_EQ(r.v, one.v);
  }
}

TEST(Adam, RateZeroMovesTheMomentsOnly) {
  Cpu cpu(1);
  State<float> s{{1}, {0}, {0}};
  adam(cpu, s.step({2}, 2));
  EXPECT_EQ(s.p[0], 1);
  EXPECT_FLOAT_EQ(s.m[0], 0.2f);
  EXPECT_FLOAT_EQ(s.v[0], 0.004f);
}

TEST(Adam, NormThatIsNotFiniteChangesNothing) {
  Cpu cpu(2);
  for (const double norm : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    State<float> s{{1, -1}, {3, 4}, {5, 6}};
    const std::vector<float> g = {2, 2};
    std::vector<bf16> shadow = {{7}, {8}};
    Adam<float> a = s.step(g, norm);
    a.shadow = shadow.data();
    a.clip_norm = 5;
    a.learning_rate = 1;
    adam(cpu, a);
    EXPECT_EQ(s.p, (std::vector<float>{1, -1}));
    EXPECT_EQ(s.m, (std::vector<float>{3, 4}));
    EXPECT_EQ(s.v, (std::vector<float>{5, 6}));
    EXPECT_EQ(shadow[0].bits, 7);
  }
}

TEST(Adam, ShadowIsTheNewParametersRounded) {
  Cpu cpu(3);
  const std::size_t count = 1001;
  State<float> s{as<float>(random_values(count, 1)), std::vector<float>(count), std::vector<float>(count)};
  const auto g = as<float>(random_values(count, 2));
  std::vector<bf16> shadow(count);
  const double norm = 1;
  Adam<float> a = s.step(g, norm);
  a.shadow = shadow.data();
  a.learning_rate = 0.01;
  adam(cpu, a);
  // Rounding to 8 bits of significand: a relative error of at most 2⁻⁸.
  for (std::size_t k = 0; k < count; ++k)
    ASSERT_TRUE(std::abs(to_float(shadow[k]) - s.p[k]) <= std::abs(s.p[k]) * 0x1p-8f) << k;
}

}  // namespace
}  // namespace moleblend
