// Attention on packed molecules: forward against a plain evaluation, gradients against finite differences, and what
// must not change a result (threads, reruns, the order of atoms).

#include <limits>
#include <numeric>

#include "kernels/attention/attention.h"
#include "kernels/common/small_product.h"
#include "tests/kernels/check.h"

namespace moleblend {
namespace {

using testing::as;
using testing::expect_close;
using testing::expect_gradient;
using testing::PackedSizes;
using testing::random_values;

struct Case {
  PackedSizes sizes;
  std::int64_t heads, width;
  Dropout dropout;
  std::vector<double> qkv, bias, cotangent;
  std::vector<std::uint64_t> key;

  Case(std::initializer_list<int> molecules, std::int64_t h, std::int64_t head_width, double drop)
      : sizes(molecules), heads(h), width(h * head_width), dropout(Dropout::of(drop)) {
    const Packed p = sizes.packed();
    qkv = random_values(static_cast<std::size_t>(p.tokens() * 3 * width), 1);
    bias = random_values(static_cast<std::size_t>(heads * p.token_pairs()), 2);
    cotangent = random_values(static_cast<std::size_t>(p.tokens() * width), 3);
    for (std::int64_t b = 0; b < p.molecules; ++b) key.push_back(molecule_key(7, 1, static_cast<std::uint64_t>(b)));
  }
  template <class T>
  AttentionInput<T> input(const std::vector<T>& x, const std::vector<T>& pair_bias) const {
    return {sizes.packed(),
            heads,
            width,
            x.data(),
            pair_bias.empty() ? nullptr : pair_bias.data(),
            T(1 / std::sqrt(double(width) / double(heads))),
            dropout,
            3,
            key.data()};
  }
};

template <class T>
std::vector<T> forward(const Case& c, const std::vector<T>& qkv, const std::vector<T>& bias, int threads = 1) {
  Cpu cpu(threads);
  std::vector<T> out(static_cast<std::size_t>(c.sizes.packed().tokens() * c.width),
                     std::numeric_limits<T>::quiet_NaN());
  attention_forward(cpu, AttentionForward<T>{c.input(qkv, bias), out.data()});
  return out;
}

template <class T>
struct Gradients {
  std::vector<T> dqkv, dbias;
};
/// dbias starts at `start`, since the operation adds to it.
template <class T>
Gradients<T> backward(const Case& c, int threads = 1, T start = 0) {
  Cpu cpu(threads);
  const auto qkv = as<T>(c.qkv), bias = as<T>(c.bias), cotangent = as<T>(c.cotangent);
  Gradients<T> g{std::vector<T>(qkv.size(), std::numeric_limits<T>::quiet_NaN()), std::vector<T>(bias.size(), start)};
  attention_backward(cpu, AttentionBackward<T>{c.input(qkv, bias), cotangent.data(), g.dqkv.data(), g.dbias.data()});
  return g;
}

/// The definition, one element at a time.
std::vector<double> plain_attention(const Case& c) {
  const Packed p = c.sizes.packed();
  const std::int64_t d = c.width / c.heads, ld = 3 * c.width;
  std::vector<double> out(static_cast<std::size_t>(p.tokens() * c.width));
  for (std::int64_t b = 0; b < p.molecules; ++b) {
    const std::int64_t n = p.atoms_of(b) + 1, token = p.token_offset(b), row_elements = (n + 7) / 8 * 8;
    for (std::int64_t h = 0; h < c.heads; ++h)
      for (std::int64_t i = 0; i < n; ++i) {
        std::vector<double> e(static_cast<std::size_t>(n));
        double sum = 0;
        for (std::int64_t j = 0; j < n; ++j) {
          double s = 0;
          for (std::int64_t f = h * d; f < (h + 1) * d; ++f)
            s += c.qkv[size_t((token + i) * ld + f)] * c.qkv[size_t((token + j) * ld + c.width + f)];
          s = s / std::sqrt(double(d)) + c.bias[size_t(c.heads * p.token_pair_offset[b] + (h * n + i) * n + j)];
          sum += e[size_t(j)] = std::exp(s);
        }
        for (std::int64_t j = 0; j < n; ++j) {
          double probability = e[size_t(j)] / sum;
          if (c.dropout.active()) {
            const auto element = static_cast<std::uint32_t>((h * n + i) * row_elements + j);
            const PhiloxWords w = philox(c.key[size_t(b)], element / 8, Draw::attention_dropout, 3);
            probability *= c.dropout.keeps(w, element) ? c.dropout.scale : 0;
          }
          for (std::int64_t f = h * d; f < (h + 1) * d; ++f)
            out[size_t((token + i) * c.width + f)] += probability * c.qkv[size_t((token + j) * ld + 2 * c.width + f)];
        }
      }
  }
  return out;
}

const std::initializer_list<int> kMolecules = {14, 1, 3, 7, 70, 8, 31};

TEST(Attention, IsItsDefinition) {
  for (const double drop : {0.0, 0.1}) {
    for (const std::int64_t head_width : {24, 16, 5}) {
      const Case c(kMolecules, 4, head_width, drop);
      const auto expected = plain_attention(c);
      // Rounding of fp64 over sums of at most 71 terms of order one.
      expect_close<double, double>(forward(c, c.qkv, c.bias), expected, 1e-13, 1, "fp64");
      // fp32: scores of size up to ~10 carry an error of ~10 · 6e-8 · √d into the exponential.
      expect_close<float, double>(forward(c, as<float>(c.qkv), as<float>(c.bias)), expected, 1e-5, 1, "fp32");
    }
  }
}

TEST(Attention, LargeMoleculeIsTiled) {
  const Case c({300, 2}, 2, 16, 0.1);
  expect_close<double, double>(forward(c, c.qkv, c.bias), plain_attention(c), 1e-13);
  expect_close<float, double>(forward(c, as<float>(c.qkv), as<float>(c.bias)), plain_attention(c), 1e-5);
}

TEST(Attention, WithoutBiasIsZeroBias) {
  Case c({14, 5}, 2, 24, 0);
  const auto none = forward(c, c.qkv, {});
  std::fill(c.bias.begin(), c.bias.end(), 0.0);
  expect_close<double, double>(none, plain_attention(c), 1e-13);
}

TEST(Attention, GradientsAreDerivatives) {
  for (const double drop : {0.0, 0.3}) {
    for (const std::int64_t head_width : {24, 5}) {
      Case c({14, 1, 70, 7}, 3, head_width, drop);
      const auto g = backward<double>(c);
      const auto objective = [&] {
        const auto out = forward(c, c.qkv, c.bias);
        return std::inner_product(out.begin(), out.end(), c.cotangent.begin(), 0.0);
      };
      expect_gradient(c.qkv, g.dqkv, objective, "dqkv", 60);
      expect_gradient(c.bias, g.dbias, objective, "dbias", 60);
    }
  }
}

TEST(Attention, GradientsOfALargeMolecule) {
  Case c({300}, 2, 16, 0.1);
  const auto g = backward<double>(c);
  const auto objective = [&] {
    const auto out = forward(c, c.qkv, c.bias);
    return std::inner_product(out.begin(), out.end(), c.cotangent.begin(), 0.0);
  };
  expect_gradient(c.qkv, g.dqkv, objective, "dqkv", 40);
  // A single one of 90,000 bias entries moves the objective by ~1e-2 at most, and by less than the check asks for at
  // most entries.
  expect_gradient(c.bias, g.dbias, objective, "dbias", 200);
}

TEST(Attention, GradientsInFloatFollowDouble) {
  const Case c(kMolecules, 4, 24, 0.1);
  const auto exact = backward<double>(c);
  const auto g = backward<float>(c);
  // As for the forward pass: the error of a score, ~1e-6, relative to gradients of order one.
  expect_close<float, double>(g.dqkv, exact.dqkv, 2e-5, 1, "dqkv");
  expect_close<float, double>(g.dbias, exact.dbias, 2e-5, 1, "dbias");
}

TEST(Attention, BiasGradientIsAddedAndMayBeLeftOut) {
  const Case c(kMolecules, 2, 16, 0.1);
  const auto zero = backward<double>(c), one = backward<double>(c, 1, 1.0);
  std::vector<double> difference(one.dbias);
  for (std::size_t k = 0; k < difference.size(); ++k) difference[k] -= 1;
  expect_close<double, double>(difference, zero.dbias, 1e-14);
  Cpu cpu(1);
  std::vector<double> dqkv(c.qkv.size());
  attention_backward(cpu, AttentionBackward<double>{c.input(c.qkv, c.bias), c.cotangent.data(), dqkv.data(), nullptr});
  EXPECT_EQ(dqkv, one.dqkv);
}

TEST(Attention, SameBitsForAnyNumberOfThreads) {
  const Case c(kMolecules, 4, 24, 0.1);
  const auto qkv = as<float>(c.qkv), bias = as<float>(c.bias);
  const auto out = forward(c, qkv, bias);
  const auto g = backward<float>(c, 1, 1.0f);
  for (const int threads : {1, 2, 3, 5}) {
    EXPECT_EQ(forward(c, qkv, bias, threads), out) << threads;
    const auto again = backward<float>(c, threads, 1.0f);
    EXPECT_EQ(again.dqkv, g.dqkv) << threads;
    EXPECT_EQ(again.dbias, g.dbias) << threads;
  }
}

TEST(Attention, OneBatchOrManyIsTheSame) {
  const Case both({9, 20}, 2, 24, 0.1), first({9}, 2, 24, 0.1);
  const auto all = forward(both, both.qkv, both.bias);
  std::vector<double> qkv(both.qkv.begin(), both.qkv.begin() + static_cast<std::ptrdiff_t>(first.qkv.size()));
  std::vector<double> bias(both.bias.begin(), both.bias.begin() + static_cast<std::ptrdiff_t>(first.bias.size()));
  const auto alone = forward(first, qkv, bias);
  EXPECT_EQ(std::vector<double>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(alone.size())), alone);
}

TEST(Attention, PermutedAtomsPermuteTheOutput) {
  const std::int64_t n = 15, heads = 3, width = 72;
  const Case c({int(n) - 1}, heads, width / heads, 0);
  std::vector<std::size_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin() + 1, order.end(), std::mt19937_64(5));
  std::vector<double> qkv(c.qkv.size()), bias(c.bias.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (std::size_t f = 0; f < 3 * size_t(width); ++f)
      qkv[i * 3 * size_t(width) + f] = c.qkv[order[i] * 3 * size_t(width) + f];
    for (std::size_t h = 0; h < size_t(heads); ++h)
      for (std::size_t j = 0; j < order.size(); ++j)
        bias[(h * order.size() + i) * order.size() + j] =
            c.bias[(h * order.size() + order[i]) * order.size() + order[j]];
  }
  const auto plain = forward(c, c.qkv, c.bias), permuted = forward(c, qkv, bias);
  std::vector<double> back(plain.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    for (std::size_t f = 0; f < size_t(width); ++f)
      back[order[i] * size_t(width) + f] = permuted[i * size_t(width) + f];
  expect_close<double, double>(back, plain, 1e-13);
}

TEST(Attention, NanAndInfinity) {
  Case c({6, 6}, 2, 8, 0);
  const Packed p = c.sizes.packed();
  // −∞ in the bias hides a token; only that.
  c.bias[1] = -std::numeric_limits<double>::infinity();
  expect_close<double, double>(forward(c, c.qkv, c.bias), plain_attention(c), 1e-13);
  // NaN in the second molecule's bias: that row of that head only.
  c.bias[size_t(c.heads * p.token_pair_offset[1])] = std::numeric_limits<double>::quiet_NaN();
  const auto out = forward(c, c.qkv, c.bias);
  for (std::int64_t t = 0; t < p.tokens(); ++t)
    for (std::int64_t f = 0; f < c.width; ++f)
      EXPECT_EQ(std::isnan(out[size_t(t * c.width + f)]), t == p.token_offset(1) && f < 8) << t << " " << f;
}

template <class T>
void expect_exp_accurate(double from, double units) {
  double largest = 0;
  for (double x = 0; x > from; x -= 1e-3 * (1 - from / 100)) {
    const T rounded = static_cast<T>(x);
    const T y = simd::exp_nonpositive<T>(simd::all(rounded))[simd::kLanes<T> - 1];
    const long double exact = std::exp(static_cast<long double>(rounded));
    const long double unit = exact * static_cast<long double>(std::numeric_limits<T>::epsilon());
    largest = std::max(
        largest, std::isnan(y) ? INFINITY : static_cast<double>(std::abs(static_cast<long double>(y) - exact) / unit));
  }
  EXPECT_LE(largest, units);
}

TEST(Attention, VectorExponential) {
  // Its header promises two units in the last place.
  expect_exp_accurate<float>(-87.3, 2);
  expect_exp_accurate<double>(-708.3, 2);
  const auto f = [](float x) { return simd::exp_nonpositive<float>(simd::all(x))[0]; };
  EXPECT_EQ(f(0), 1);
  EXPECT_EQ(f(-0.0f), 1);
  EXPECT_EQ(f(-88), 0);
  EXPECT_EQ(f(-1e30f), 0);
  EXPECT_EQ(f(-std::numeric_limits<float>::infinity()), 0);
  EXPECT_TRUE(std::isnan(f(std::numeric_limits<float>::quiet_NaN())));
}

template <class T>
void expect_small_product_of_any_shape(double tolerance) {
  for (const std::int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 24, 25, 31})
    for (const std::int64_t n : {1, 4, 5, 8, 16, 19, 24, 32, 40, 48, 56, 64})
      for (const bool transposed : {false, true})
        for (const bool add : {false, true}) {
          const std::int64_t k = 11;
          const auto values = [](std::int64_t count, std::uint64_t seed) {
            const std::vector<double> x = random_values(static_cast<std::size_t>(count), seed);
            return std::vector<T>(x.begin(), x.end());
          };
          const auto a = values(m * k, 1), b = values(k * (n + 3), 2);
          auto c = values(m * n, 3);
          std::vector<double> expected(c.size());
          for (std::int64_t i = 0; i < m; ++i)
            for (std::int64_t j = 0; j < n; ++j) {
              const auto element = [&](std::int64_t p) { return a[size_t(transposed ? p * m + i : i * k + p)]; };
              double sum = add ? c[size_t(i * n + j)] : 0;
              for (std::int64_t p = 0; p < k; ++p) sum += double(element(p)) * b[size_t(p * (n + 3) + j)];
              expected[size_t(i * n + j)] = sum;
            }
          const simd::LeftOperand<T> left{a.data(), transposed ? 1 : k, transposed ? m : 1};
          // The narrow tiles too, which a processor with wider vectors takes for none of its floats.
          auto narrow = c;
          const std::int64_t vectors = n % simd::kLanes<T> == 0 ? n / simd::kLanes<T> : 0;
          if (vectors == 1) simd::product_panel<1>(m, k, left, b.data(), n + 3, narrow.data(), n, add);
          if (vectors == 2) simd::product_panel<2>(m, k, left, b.data(), n + 3, narrow.data(), n, add);
          if (vectors == 3) simd::product_panel<3>(m, k, left, b.data(), n + 3, narrow.data(), n, add);
          if (vectors >= 1 && vectors <= 3) expect_close<T, double>(narrow, expected, tolerance);
          simd::small_product(m, n, k, left, b.data(), n + 3, c.data(), n, add);
          expect_close<T, double>(c, expected, tolerance);
        }
}
// Twelve roundings of sums of a few units.
TEST(Attention, SmallProductOfAnyShapeFloat) {
  expect_small_product_of_any_shape<float>(5e-6);
}
TEST(Attention, SmallProductOfAnyShapeDouble) {
  expect_small_product_of_any_shape<double>(1e-14);
}

}  // namespace
}  // namespace moleblend
