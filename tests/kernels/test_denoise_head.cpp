// The denoising head: prediction and loss against a plain evaluation, gradients against finite differences.

#include <limits>

#include "tests/kernels/denoise_case.h"

namespace moleblend {
namespace {

using testing::as;
using testing::expect_close;
using testing::expect_gradient;

struct Case : testing::DenoiseCase {
  using DenoiseCase::DenoiseCase;

  template <class T>
  struct Output {
    DenoiseResult result;
    std::vector<T> prediction, dqkv, dbias, dforce_weight, dforce_bias;
  };
  template <class T>
  Output<T> run(int threads = 1, bool gradient = true, T gradient_start = 0) const {
    const auto x = as<T>(qkv), pair = as<T>(bias), r = as<T>(positions), w = as<T>(force_weight), m = as<T>(force_bias);
    Output<T> o;
    o.prediction.assign(r.size(), std::numeric_limits<T>::quiet_NaN());
    if (gradient) {
      o.dqkv.assign(x.size(), std::numeric_limits<T>::quiet_NaN());
      o.dbias.assign(pair.size(), gradient_start);
      o.dforce_weight.assign(w.size(), gradient_start);
      o.dforce_bias.assign(3, gradient_start);
    }
    Cpu cpu(threads);
    denoise_head(cpu, DenoiseHead<T>{sizes.packed(),
                                     heads,
                                     width,
                                     x.data(),
                                     pair.data(),
                                     T(scale()),
                                     dropout,
                                     key.data(),
                                     r.data(),
                                     noise.data(),
                                     has_positions.data(),
                                     known.data(),
                                     visible.data(),
                                     w.data(),
                                     m.data(),
                                     loss_scale,
                                     o.prediction.data(),
                                     gradient ? o.dqkv.data() : nullptr,
                                     gradient ? o.dbias.data() : nullptr,
                                     gradient ? o.dforce_weight.data() : nullptr,
                                     gradient ? o.dforce_bias.data() : nullptr,
                                     &o.result});
    return o;
  }

  /// As the reference computes it: probabilities times unit displacement, times v, then a map a component.
  std::vector<double> plain_prediction() const {
    const Packed p = sizes.packed();
    const std::int64_t d = width / heads, ld = 3 * width;
    std::vector<double> f(size_t(p.atoms() * 3));
    for (std::int64_t b = 0; b < p.molecules; ++b) {
      if (!has_positions[size_t(b)]) continue;
      const std::int64_t n = p.atoms_of(b), first = p.atom_offset[b];
      for (std::int64_t i = 0; i < n; ++i) {
        std::vector<double> values(size_t(3 * width));  // [3, D]
        for (std::int64_t h = 0; h < heads; ++h) {
          std::vector<double> e(static_cast<std::size_t>(n));
          double sum = 0;
          for (std::int64_t j = 0; j < n; ++j) {
            double s = 0;
            for (std::int64_t k = h * d; k < (h + 1) * d; ++k)
              s += qkv[size_t((first + i) * ld + k)] * qkv[size_t((first + j) * ld + width + k)];
            s = s / std::sqrt(double(d)) +
                bias[size_t(heads * p.token_pair_offset[b] + (h * (n + 1) + i + 1) * (n + 1) + j + 1)];
            sum += e[size_t(j)] = std::exp(s);
          }
          for (std::int64_t j = 0; j < n; ++j) {
            double probability = e[size_t(j)] / sum;
            if (dropout.active()) {
              const auto element = static_cast<std::uint32_t>((h * n + i) * ((n + 7) / 8 * 8) + j);
              probability *= dropout.keeps(philox(key[size_t(b)], element / 8, Draw::denoise_dropout, 0), element)
                                 ? dropout.scale
                                 : 0;
            }
            const double* x = &positions[size_t(3 * (first + i))];
            const double* y = &positions[size_t(3 * (first + j))];
            const double r = std::sqrt((y[0] - x[0]) * (y[0] - x[0]) + (y[1] - x[1]) * (y[1] - x[1]) +
                                       (y[2] - x[2]) * (y[2] - x[2]));
            for (std::int64_t c = 0; c < 3; ++c)
              for (std::int64_t k = h * d; k < (h + 1) * d; ++k)
                values[size_t(c * width + k)] +=
                    probability * (y[c] - x[c]) / (r + 1e-5) * qkv[size_t((first + j) * ld + 2 * width + k)];
          }
        }
        for (std::int64_t c = 0; c < 3; ++c) {
          double& to = f[size_t(3 * (first + i) + c)];
          to = force_bias[size_t(c)];
          for (std::int64_t k = 0; k < width; ++k)
            to += force_weight[size_t(c * width + k)] * values[size_t(c * width + k)];
        }
      }
    }
    return f;
  }
  DenoiseResult plain_result() const {
    const Packed p = sizes.packed();
    const auto f = plain_prediction();
    DenoiseResult result;
    for (std::int64_t b = 0; b < p.molecules; ++b)
      for (auto i = size_t(p.atom_offset[b]); i < size_t(p.atom_offset[b + 1]); ++i) {
        if (!has_positions[size_t(b)] || visible[i] != kShowGaussians || !known[i] || p.atoms_of(b) == 1) continue;
        double product = 0, size = 0, noise_size = 0;
        for (std::size_t c = 3 * i; c < 3 * i + 3; ++c) {
          product += f[c] * double(noise[c]);
          size += f[c] * f[c];
          noise_size += double(noise[c]) * double(noise[c]);
        }
        result.loss += 1 - product / std::sqrt(size * noise_size);
        ++result.count;
      }
    return result;
  }
};

const std::initializer_list<int> kMolecules = {14, 6, 1, 3, 1, 70, 8};

TEST(DenoiseHead, IsItsDefinition) {
  for (const double drop : {0.0, 0.1})
    for (const std::int64_t head_width : {24, 5}) {
      const Case c(kMolecules, 4, head_width, drop);
      const auto expected = c.plain_result();
      ASSERT_GT(expected.count, 40);
      for (const bool gradient : {true, false}) {
        const auto exact = c.run<double>(1, gradient);
        expect_close<double, double>(exact.prediction, c.plain_prediction(), 1e-13, 1, "prediction");
        EXPECT_NEAR(exact.result.loss, expected.loss, 1e-11);
        EXPECT_EQ(exact.result.count, expected.count);
        const auto single = c.run<float>(1, gradient);
        // Four heads' sums of order one, with scores good to 1e-6.
        expect_close<float, double>(single.prediction, c.plain_prediction(), 2e-5, 1, "prediction");
        EXPECT_NEAR(single.result.loss, expected.loss, 2e-5 * double(expected.count));
      }
    }
}

void check_gradients(Case& c, std::size_t samples) {
  const auto o = c.run<double>();
  const auto objective = [&] { return c.loss_scale * c.run<double>(1, false).result.loss; };
  expect_gradient(c.qkv, o.dqkv, objective, "dqkv", samples);
  expect_gradient(c.bias, o.dbias, objective, "dbias", samples);
  expect_gradient(c.force_weight, o.dforce_weight, objective, "dforce_weight", 40);
  expect_gradient(c.force_bias, o.dforce_bias, objective, "dforce_bias");
}

TEST(DenoiseHead, GradientsAreDerivatives) {
  for (const double drop : {0.0, 0.3})
    for (const std::int64_t head_width : {24, 5}) {
      Case c({9, 4, 1, 13}, 3, head_width, drop);
      check_gradients(c, 150);
    }
}

TEST(DenoiseHead, LargeMoleculeIsTiled) {
  Case c({150}, 2, 8, 0.1);
  expect_close<double, double>(c.run<double>().prediction, c.plain_prediction(), 1e-13);
  check_gradients(c, 200);
}

TEST(DenoiseHead, GradientsInFloatFollowDouble) {
  const Case c(kMolecules, 4, 24, 0.1);
  const auto exact = c.run<double>();
  const auto o = c.run<float>();
  // As of the prediction, over predicted lengths of at least ~0.1.
  expect_close<float, double>(o.dqkv, exact.dqkv, 2e-4, 1, "dqkv");
  expect_close<float, double>(o.dbias, exact.dbias, 2e-4, 1, "dbias");
  expect_close<float, double>(o.dforce_weight, exact.dforce_weight, 2e-4, 1, "dforce_weight");
  expect_close<float, double>(o.dforce_bias, exact.dforce_bias, 2e-4, 1, "dforce_bias");
}

TEST(DenoiseHead, WhatIsOverwrittenAndWhatIsAddedTo) {
  const Case c(kMolecules, 2, 16, 0.1);
  const auto zero = c.run<double>(), two = c.run<double>(1, true, 2.0);
  EXPECT_EQ(zero.dqkv, two.dqkv);
  const auto check = [](const std::vector<double>& added, std::vector<double> expected) {
    for (double& x : expected) x += 2;
    expect_close<double, double>(added, expected, 1e-13);
  };
  check(two.dbias, zero.dbias);
  check(two.dforce_weight, zero.dforce_weight);
  check(two.dforce_bias, zero.dforce_bias);
  const Packed p = c.sizes.packed();
  for (std::int64_t b = 0; b < p.molecules; ++b) {
    const std::int64_t n = p.atoms_of(b) + 1;
    for (std::int64_t k = c.heads * p.token_pair_offset[b]; k < c.heads * p.token_pair_offset[b + 1]; ++k) {
      const std::int64_t at = (k - c.heads * p.token_pair_offset[b]) % (n * n);
      if (at < n || at % n == 0 || !c.has_positions[size_t(b)]) {
        ASSERT_EQ(zero.dbias[size_t(k)], 0) << "graph token or molecule without positions";
      }
    }
    for (std::int64_t k = p.atom_offset[b] * 3 * c.width; k < p.atom_offset[b + 1] * 3 * c.width; ++k) {
      ASSERT_TRUE(c.has_positions[size_t(b)] ? std::isfinite(zero.dqkv[size_t(k)]) : zero.dqkv[size_t(k)] == 0);
    }
  }
}

TEST(DenoiseHead, ThreadsAndReruns) {
  const Case c(kMolecules, 4, 24, 0.1);
  const auto one = c.run<float>();
  for (const int threads : {1, 2, 3, 9}) {
    const auto a = c.run<float>(threads), again = c.run<float>(threads);
    EXPECT_EQ(a.result.loss, one.result.loss);
    EXPECT_EQ(a.prediction, one.prediction);
    EXPECT_EQ(a.dqkv, one.dqkv);
    EXPECT_EQ(a.dbias, one.dbias);
    EXPECT_EQ(a.dforce_weight, again.dforce_weight);
    EXPECT_EQ(a.dforce_bias, again.dforce_bias);
    expect_close<float, float>(a.dforce_weight, one.dforce_weight, 1e-5);
  }
}

TEST(DenoiseHead, NobodyToDenoise) {
  Case c({5, 3}, 2, 8, 0);
  std::fill(c.visible.begin(), c.visible.end(), std::uint8_t{kShowDegree});
  const auto o = c.run<double>(2);
  EXPECT_EQ(o.result.count, 0);
  EXPECT_EQ(o.result.loss, 0);
  for (const double x : o.dqkv) ASSERT_EQ(x, 0);
  for (const double x : o.dforce_bias) ASSERT_EQ(x, 0);
}

TEST(DenoiseHead, PredictionTurnsWithTheMoleculeWhenTheMapsAreEqual) {
  // With one map for all three axes the head is equivariant: a quarter turn about z turns the prediction.
  Case c({12}, 3, 8, 0);
  for (std::size_t k = 0; k < size_t(c.width); ++k)
    c.force_weight[size_t(c.width) + k] = c.force_weight[2 * size_t(c.width) + k] = c.force_weight[k];
  std::fill(c.force_bias.begin(), c.force_bias.end(), 0.0);
  auto expected = c.run<double>().prediction;
  const auto turn = [](std::vector<double>& x) {
    for (std::size_t k = 0; k < x.size(); k += 3) {
      const double y = x[k + 1];
      x[k + 1] = x[k];
      x[k] = -y;
    }
  };
  turn(expected);
  turn(c.positions);
  expect_close<double, double>(c.run<double>().prediction, expected, 1e-12);
}

TEST(DenoiseHead, NanReachesTheLoss) {
  for (const int what : {0, 1, 2, 3}) {
    Case c({6, 4}, 2, 8, 0.1);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    (what == 0   ? c.qkv[0]
     : what == 1 ? c.bias[size_t(c.sizes.packed().atoms_of(0)) + 2]
     : what == 2 ? c.positions[0]
                 : c.force_weight[0]) = nan;
    EXPECT_TRUE(std::isnan(c.run<double>().result.loss)) << what;
    EXPECT_TRUE(std::isnan(c.run<float>(2, false).result.loss)) << what;
  }
}

}  // namespace
}  // namespace moleblend
