// gelu with dropout: accuracy of the vectorised float form, the definition, and gradients.

#include "check.h"
#include "kernels/activation/activation.h"

namespace moleblend::testing {
namespace {

using Vec = std::vector<double>;

double exact_gelu(double x) {
  return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
}
double exact_derivative(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * 3.14159265358979323846);
}

TEST(VectorMath, ExponentialOfFloat) {
  for (float x = 0; x > -87.3f; x -= 3.1e-5f) {
    const double expected = std::exp(double(x));
    ASSERT_TRUE(std::abs(double(exp_nonpositive(x)) - expected) <= 1.2e-7 * expected) << x;
  }
  EXPECT_EQ(exp_nonpositive(0.0f), 1.0f);
  EXPECT_EQ(exp_nonpositive(-100.0f), 0.0f);
  EXPECT_EQ(exp_nonpositive(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_TRUE(std::isnan(exp_nonpositive(std::numeric_limits<float>::quiet_NaN())));
}

TEST(VectorMath, SumTakesEveryTermOnce) {
  for (std::int64_t n = 0; n < 70; ++n) {
    EXPECT_EQ(vector_sum<float>(n, [](std::int64_t k) { return float(k); }), float(n * (n - 1) / 2));
  }
}

TEST(Gelu, FloatIsAccurateEverywhere) {
  for (float x = -20; x < 20; x += 1.7e-5f) {
    const double g = exact_gelu(double(x)), ulp = std::abs(g) * 0x1p-23;
    ASSERT_TRUE(std::abs(double(gelu(x)) - g) <= std::max(2e-7, 2 * ulp)) << x;
    ASSERT_TRUE(std::abs(double(gelu_derivative(x)) - exact_derivative(double(x))) <= 2e-7) << x;
  }
  for (const float tiny : {1e-30f, -1e-20f, 3e-8f}) EXPECT_NEAR(double(gelu(tiny)) / double(tiny), 0.5, 1.2e-7);
  EXPECT_EQ(gelu(1e30f), 1e30f);
  EXPECT_EQ(gelu(-1e30f), 0.0f);
  EXPECT_EQ(gelu(std::numeric_limits<float>::infinity()), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(gelu(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(gelu_derivative(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Gelu, DoubleIsExact) {
  for (double x = -12; x < 12; x += 0.0137) {
    EXPECT_NEAR(gelu(x), exact_gelu(x), 1e-15 * (1 + std::abs(x)));
    EXPECT_NEAR(gelu_derivative(x), exact_derivative(x), 2e-15);
  }
}

struct Case {
  PackedSizes sizes{1, 14, 3, 60};
  std::vector<std::uint64_t> key{9, 8, 7, 6};
  std::int64_t features;
  Vec x, dy;
  explicit Case(std::int64_t f) : features(f), x(random_values(count(), 1, 2)), dy(random_values(count(), 2)) {}
  std::size_t count() const { return std::size_t(sizes.packed().tokens() * features); }
};

template <class T>
void check_definition(double p) {
  for (const std::int64_t features : {13, 64}) {  // 13: a molecule's rows start anywhere within a block of draws
    const Case c(features);
    const auto x = as<T>(c.x), dy = as<T>(c.dy);
    const Packed packed = c.sizes.packed();
    const Dropout dropout = Dropout::of(p);
    Vec y_expected, dx_expected;
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      for (std::int64_t e = 0; e < (packed.atoms_of(b) + 1) * features; ++e) {
        const PhiloxWords w = philox(c.key[std::size_t(b)], std::uint32_t(e / 8), Draw::activation_dropout, 3);
        const double factor = dropout.active() ? (dropout.keeps(w, unsigned(e % 8)) ? dropout.scale : 0) : 1;
        const std::size_t k = std::size_t(packed.token_offset(b) * features + e);
        y_expected.push_back(factor * exact_gelu(double(x[k])));
        dx_expected.push_back(factor * double(dy[k]) * exact_derivative(double(x[k])));
      }
    }
    // Float: 2e-7 of the function itself, times factors and cotangents up to 5.
    const double tolerance = sizeof(T) == 4 ? 1e-6 : 1e-14;
    for (const int threads : {1, 2, 3}) {
      Cpu cpu(threads);
      std::vector<T> y(x.size()), dx(x.size());
      gelu_forward<T>(cpu, {packed, packed.tokens(), features, x.data(), dropout, 3, c.key.data(), y.data()});
      gelu_backward<T>(cpu,
                       {packed, packed.tokens(), features, x.data(), dropout, 3, c.key.data(), dy.data(), dx.data()});
      expect_close<T, double>(y, y_expected, tolerance, 1, "y");
      expect_close<T, double>(dx, dx_expected, tolerance, 1, "dx");
      // In place, and the same bits for every number of threads.
      std::vector<T> in_place = x, dx_in_place = dy;
      Cpu one(1);
      gelu_forward<T>(one,
                      {packed, packed.tokens(), features, in_place.data(), dropout, 3, c.key.data(), in_place.data()});
      gelu_backward<T>(one, {packed, packed.tokens(), features, x.data(), dropout, 3, c.key.data(), dx_in_place.data(),
                             dx_in_place.data()});
      EXPECT_TRUE(in_place == y && dx_in_place == dx);
    }
  }
}
TEST(Gelu, EqualsTheDefinitionFloat) {
  check_definition<float>(0);
}
TEST(Gelu, EqualsTheDefinitionDouble) {
  check_definition<double>(0);
}
TEST(Gelu, WithDropoutEqualsTheDefinitionFloat) {
  check_definition<float>(0.3);
}
TEST(Gelu, WithDropoutEqualsTheDefinitionDouble) {
  check_definition<double>(0.3);
}

TEST(Gelu, GradientsAgainstFiniteDifferences) {
  for (const double p : {0.0, 0.25}) {
    Case c(24);
    Cpu cpu(2);
    const Packed packed = c.sizes.packed();
    const Dropout dropout = Dropout::of(p);
    Vec y(c.x.size()), dx(c.x.size());
    gelu_backward<double>(cpu,
                          {packed, packed.tokens(), 24, c.x.data(), dropout, 1, c.key.data(), c.dy.data(), dx.data()});
    expect_gradient(
        c.x, dx,
        [&] {
          gelu_forward<double>(cpu, {packed, packed.tokens(), 24, c.x.data(), dropout, 1, c.key.data(), y.data()});
          double sum = 0;
          for (std::size_t k = 0; k < y.size(); ++k) sum += y[k] * c.dy[k];
          return sum;
        },
        "x");
  }
}

TEST(Gelu, SumsOfGradientsAreForGpus) {
  Cpu cpu(1);
  double x = 1, dx = 0, sum = 0;
  EXPECT_THROW(gelu_backward<double>(cpu, {Packed{}, 1, 1, &x, Dropout{}, 0, nullptr, &x, &dx, &sum}),
               std::invalid_argument);
}

TEST(Gelu, RowsNeedNoMoleculesWithoutDropout) {
  Cpu cpu(3);
  const Vec x = random_values(10, 4);
  Vec y(10);
  gelu_forward<double>(cpu, {Packed{}, 2, 5, x.data(), Dropout{}, 0, nullptr, y.data()});
  for (std::size_t k = 0; k < 10; ++k) EXPECT_NEAR(y[k], exact_gelu(x[k]), 1e-15);
  gelu_forward<double>(cpu, {Packed{}, 0, 5, nullptr, Dropout{}, 0, nullptr, nullptr});
}

}  // namespace
}  // namespace moleblend::testing
