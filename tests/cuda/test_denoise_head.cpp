// The denoising head on the GPU against the fp64 CPU version: every variant of head width and molecule size, and what is overwritten,
// added to, null and skipped.

#include <bit>
#include <limits>

#include "kernels/pair_head/cosine_loss.h"
#include "tests/cuda/device.h"
#include "tests/kernels/denoise_case.h"

namespace moleblend {
namespace {

using testing::as;
using testing::as_double;
using testing::DevicePacked;
using testing::DeviceVector;
using testing::expect_close;
using testing::expect_within_plain_bf16;
using testing::rounded;
using testing::stored;

constexpr double kStart = 0.125;  // of all that is added to: little enough that its rounding is far below a gradient's

struct Output {
  DenoiseResult result;
  std::vector<double> prediction, dqkv, dbias, dforce_weight, dforce_bias;

  /// All of it, to compare two runs.
  std::vector<double> everything() const {
    std::vector<double> all{result.loss, static_cast<double>(result.count)};
    for (const auto* v : {&prediction, &dqkv, &dbias, &dforce_weight, &dforce_bias})
      all.insert(all.end(), v->begin(), v->end());
    return all;
  }
};

/// Which arguments are null.
struct Options {
  bool gradient = true, dbias = true, prediction = true, known = true;
};

struct Case : testing::DenoiseCase {
  using DenoiseCase::DenoiseCase;

  /// The truth: fp64 on the CPU, of the values that are left after rounding to T.
  template <class T>
  Output exact(const Options& options = {}) const {
    const auto x = rounded<T>(qkv), pair = rounded<T>(bias), r = rounded<Wide<T>>(positions),
               w = rounded<Wide<T>>(force_weight), m = rounded<Wide<T>>(force_bias);
    Output o = empty();
    Cpu cpu(1);
    DenoiseHead<double> a{};
    a.packed = sizes.packed();
    a.qkv = x.data();
    a.bias = pair.data();
    a.scale = static_cast<double>(static_cast<float>(scale()));
    a.molecule_key = key.data();
    a.positions = r.data();
    a.noise = noise.data();
    a.has_positions = has_positions.data();
    a.position_known = options.known ? known.data() : nullptr;
    a.atom_visible = visible.data();
    a.force_weight = w.data();
    a.force_bias = m.data();
    a.prediction = o.prediction.data();
    if (options.gradient) {
      a.dqkv = o.dqkv.data();
      a.dbias = o.dbias.data();
      a.dforce_weight = o.dforce_weight.data();
      a.dforce_bias = o.dforce_bias.data();
    }
    a.result = &o.result;
    fill_in(a);
    denoise_head(cpu, a);
    return o;
  }

  template <class T>
  Output run(Gpu& gpu, const Options& options = {}) const {
    const DevicePacked packed(gpu, sizes.packed());
    Output o = empty();
    const DeviceVector<T> x(gpu, stored<T>(qkv)), pair(gpu, stored<T>(bias));
    const DeviceVector<float> r(gpu, as<float>(positions)), n(gpu, noise), w(gpu, as<float>(force_weight)),
        m(gpu, as<float>(force_bias));
    const DeviceVector<std::uint8_t> has(gpu, has_positions), is_known(gpu, known), shows(gpu, visible);
    const DeviceVector<std::uint64_t> keys(gpu, key), result(gpu, sizeof(DenoiseResult) / 8);
    // What is overwritten starts as NaN.
    DeviceVector<float> prediction(gpu, as<float>(o.prediction)), dbias(gpu, as<float>(o.dbias)),
        dforce_weight(gpu, as<float>(o.dforce_weight)), dforce_bias(gpu, as<float>(o.dforce_bias));
    DeviceVector<T> dqkv(gpu, stored<T>(o.dqkv));
    DenoiseHead<T> a{};
    a.packed = packed.packed();
    a.qkv = x.data();
    a.bias = pair.data();
    a.scale = static_cast<float>(scale());
    a.molecule_key = dropout.active() ? keys.data() : nullptr;
    a.positions = r.data();
    a.noise = n.data();
    a.has_positions = has.data();
    a.position_known = options.known ? is_known.data() : nullptr;
    a.atom_visible = shows.data();
    a.force_weight = w.data();
    a.force_bias = m.data();
    a.prediction = options.prediction ? prediction.data() : nullptr;
    if (options.gradient) {
      a.dqkv = dqkv.data();
      a.dbias = options.dbias ? dbias.data() : nullptr;
      a.dforce_weight = dforce_weight.data();
      a.dforce_bias = dforce_bias.data();
    }
    a.result = reinterpret_cast<DenoiseResult*>(result.data());
    fill_in(a);
    denoise_head(gpu, a);
    const auto words = result.host();
    o.result = {std::bit_cast<double>(words[0]), static_cast<std::int64_t>(words[1])};
    o.prediction = as_double(prediction.host());
    o.dqkv = as_double(dqkv.host());
    o.dbias = as_double(dbias.host());
    o.dforce_weight = as_double(dforce_weight.host());
    o.dforce_bias = as_double(dforce_bias.host());
    return o;
  }

  /// A plain bf16 program: scores, probabilities, probabilities times displacements, values of the three axes and all their gradients are
  /// arrays of bf16; predictions, loss, and the sums of parameters' gradients are not.
  Output plain() const {
    const auto x = rounded<bf16>(qkv), pair = rounded<bf16>(bias);
    const Packed p = sizes.packed();
    const std::int64_t d = width / heads, ld = 3 * width;
    const auto round = testing::in_bf16;
    Output o = empty();
    o.result = {};
    std::fill(o.prediction.begin(), o.prediction.end(), 0.0);
    std::fill(o.dqkv.begin(), o.dqkv.end(), 0.0);
    for (std::int64_t b = 0; b < p.molecules; ++b) {
      if (!has_positions[size_t(b)]) continue;
      const std::int64_t n = p.atoms_of(b), first = p.atom_offset[b], padded = (n + 7) / 8 * 8;
      const auto row = [&](std::int64_t i, int part, std::int64_t h) {
        return size_t((first + i) * ld + part * width + h * d);
      };
      const auto pair_at = [&](std::int64_t h, std::int64_t i, std::int64_t j) {
        return size_t(heads * p.token_pair_offset[b] + (h * (n + 1) + i + 1) * (n + 1) + j + 1);
      };
      const auto at = [&](std::int64_t h, std::int64_t i, std::int64_t j) { return size_t((h * n + i) * n + j); };
      std::vector<double> unit(size_t(3 * n * n)), probability(size_t(heads * n * n)),
          factor(size_t(heads * n * n), 1.0), values(size_t(3 * n * width));
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
          double delta[3], square = 0;
          for (int c = 0; c < 3; ++c) {
            delta[c] = double(float(positions[size_t(3 * (first + j) + c)])) -
                       double(float(positions[size_t(3 * (first + i) + c)]));
            square += delta[c] * delta[c];
          }
          for (int c = 0; c < 3; ++c) unit[size_t((c * n + i) * n + j)] = round(delta[c] / (std::sqrt(square) + 1e-5));
        }
      const auto weighed = [&](std::int64_t h, std::int64_t i, std::int64_t j, int c) {
        return round(round(probability[at(h, i, j)] * factor[at(h, i, j)]) * unit[size_t((c * n + i) * n + j)]);
      };
      for (std::int64_t h = 0; h < heads; ++h)
        for (std::int64_t i = 0; i < n; ++i) {
          double sum = 0;
          for (std::int64_t j = 0; j < n; ++j) {
            double s = 0;
            for (std::int64_t k = 0; k < d; ++k) s += x[row(i, 0, h) + size_t(k)] * x[row(j, 1, h) + size_t(k)];
            sum += probability[at(h, i, j)] = std::exp(round(round(s * scale()) + pair[pair_at(h, i, j)]));
          }
          for (std::int64_t j = 0; j < n; ++j) {
            double& e = probability[at(h, i, j)];
            e = round(e / sum);
            if (dropout.active()) {
              const auto element = static_cast<std::uint32_t>((h * n + i) * padded + j);
              factor[at(h, i, j)] =
                  dropout.keeps(philox(key[size_t(b)], element / 8, Draw::denoise_dropout, 0), element) ? dropout.scale
                                                                                                        : 0;
            }
          }
          for (int c = 0; c < 3; ++c)
            for (std::int64_t k = 0; k < d; ++k) {
              double value = 0;
              for (std::int64_t j = 0; j < n; ++j) value += weighed(h, i, j, c) * x[row(j, 2, h) + size_t(k)];
              values[size_t((c * n + i) * width + h * d + k)] = round(value);
            }
        }
      std::vector<double> df(size_t(3 * n));
      for (std::int64_t i = 0; i < n; ++i) {
        double f[3], target[3];
        for (int c = 0; c < 3; ++c) {
          f[c] = double(float(force_bias[size_t(c)]));
          for (std::int64_t k = 0; k < width; ++k)
            f[c] += double(float(force_weight[size_t(c * width + k)])) * values[size_t((c * n + i) * width + k)];
          o.prediction[size_t(3 * (first + i) + c)] = f[c];
          target[c] = double(noise[size_t(3 * (first + i) + c)]);
        }
        if (!asks_for_noise(n, visible[size_t(first + i)], known[size_t(first + i)])) continue;
        const CosineLoss loss = cosine_loss(f, target);
        o.result.loss += 1 - loss.cosine;
        ++o.result.count;
        for (int c = 0; c < 3; ++c) {
          df[size_t(3 * i + c)] = loss_scale * loss.gradient[c];
          o.dforce_bias[size_t(c)] += df[size_t(3 * i + c)];
          for (std::int64_t k = 0; k < width; ++k)
            o.dforce_weight[size_t(c * width + k)] += df[size_t(3 * i + c)] * values[size_t((c * n + i) * width + k)];
        }
      }
      const auto dvalue = [&](std::int64_t i, int c, std::int64_t k) {
        return round(df[size_t(3 * i + c)] * double(float(force_weight[size_t(c * width + k)])));
      };
      for (std::int64_t h = 0; h < heads; ++h)
        for (std::int64_t i = 0; i < n; ++i) {
          std::vector<double> ds(static_cast<std::size_t>(n));
          double mean = 0;
          for (std::int64_t j = 0; j < n; ++j) {
            double dp = 0;
            for (int c = 0; c < 3; ++c) {
              double dweighed = 0;
              for (std::int64_t k = 0; k < d; ++k) dweighed += dvalue(i, c, h * d + k) * x[row(j, 2, h) + size_t(k)];
              dp += round(dweighed) * unit[size_t((c * n + i) * n + j)];
            }
            ds[size_t(j)] = round(round(dp) * factor[at(h, i, j)]);
            mean += ds[size_t(j)] * probability[at(h, i, j)];
          }
          for (std::int64_t j = 0; j < n; ++j) {
            ds[size_t(j)] = round(probability[at(h, i, j)] * (ds[size_t(j)] - mean));
            o.dbias[pair_at(h, i, j)] += ds[size_t(j)];
            for (std::int64_t k = 0; k < d; ++k) {
              o.dqkv[row(i, 0, h) + size_t(k)] += scale() * ds[size_t(j)] * x[row(j, 1, h) + size_t(k)];
              o.dqkv[row(j, 1, h) + size_t(k)] += scale() * ds[size_t(j)] * x[row(i, 0, h) + size_t(k)];
              for (int c = 0; c < 3; ++c)
                o.dqkv[row(j, 2, h) + size_t(k)] += weighed(h, i, j, c) * dvalue(i, c, h * d + k);
            }
          }
        }
    }
    for (double& value : o.dqkv) value = round(value);
    return o;
  }

 private:
  Output empty() const {
    Output o;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    o.result = {nan, -1};
    o.prediction.assign(positions.size(), nan);
    o.dqkv.assign(qkv.size(), nan);
    o.dbias.assign(bias.size(), kStart);
    o.dforce_weight.assign(force_weight.size(), kStart);
    o.dforce_bias.assign(3, kStart);
    return o;
  }
  template <class T>
  void fill_in(DenoiseHead<T>& a) const {
    a.heads = heads;
    a.width = width;
    a.dropout = dropout;
    a.loss_scale = loss_scale;
  }
};

class DenoiseHeadCuda : public testing::CudaTest {
 protected:
  void check_float(const Case& c) {
    const Output exact = c.exact<float>(), o = c.run<float>(gpu());
    EXPECT_EQ(o.result.count, exact.result.count);
    // Scores good to 1e-6 under an exponential, in sums of order one.
    EXPECT_NEAR(o.result.loss, exact.result.loss, 2e-5 * double(exact.result.count));
    expect_close<double, double>(o.prediction, exact.prediction, 2e-5, 1, "prediction");
    // As of the prediction, over predicted lengths of at least ~0.1.
    expect_gradients(o.dqkv, exact.dqkv, 2e-4, 0, "dqkv");
    expect_gradients(o.dbias, exact.dbias, 2e-4, kStart, "dbias");
    expect_gradients(o.dforce_weight, exact.dforce_weight, 2e-4, kStart, "dforce_weight");
    expect_gradients(o.dforce_bias, exact.dforce_bias, 2e-4, kStart, "dforce_bias");
  }
  /// Differences relative to each value and to the rms of all, both without what was there before.
  static void expect_gradients(std::vector<double> a, std::vector<double> b, double tolerance, double start,
                               const char* what) {
    double square = 0;
    for (std::size_t k = 0; k < b.size(); ++k) {
      a[k] -= start;
      b[k] -= start;
      square += b[k] * b[k];
    }
    const double rms = std::sqrt(square / static_cast<double>(b.size()));
    ASSERT_GT(rms, 1e-4) << what;
    expect_close<double, double>(a, b, tolerance, rms, what);
  }
  void check_bf16(const Case& c) {
    const Output exact = c.exact<bf16>(), plain = c.plain(), o = c.run<bf16>(gpu());
    EXPECT_EQ(o.result.count, exact.result.count);
    // One number has no rms: the errors of its atoms' cosines are of the size of a prediction's, 2⁻⁸ for scores of order one, and of
    // either sign.
    EXPECT_NEAR(o.result.loss, exact.result.loss, 0.004 * double(exact.result.count));
    expect_within_plain_bf16(o.prediction, plain.prediction, exact.prediction, 2, "prediction");
    expect_within_plain_bf16(o.dqkv, plain.dqkv, exact.dqkv, 3, "dqkv");
    expect_within_plain_bf16(o.dbias, plain.dbias, exact.dbias, 3, "dbias");
    expect_within_plain_bf16(o.dforce_weight, plain.dforce_weight, exact.dforce_weight, 3, "dforce_weight");
    expect_within_plain_bf16(o.dforce_bias, plain.dforce_bias, exact.dforce_bias, 3, "dforce_bias");
  }
};

struct Shape {
  std::int64_t heads, head_width;
};
// Each head width of its own, some between and beyond them, some that are no whole 16 bytes; heads that fill a block's four and that don't.
constexpr Shape kShapes[] = {{5, 24}, {4, 16}, {2, 32}, {1, 64}, {3, 5}, {2, 40}, {1, 88}};
// One tile and its neighbours, two by two, and longer.
const std::initializer_list<int> kMolecules = {16, 5, 1, 31, 17, 32, 2, 33, 20, 48};

template <class F>
void for_each_case(const F& check) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.head_width);
    check(Case(kMolecules, shape.heads, shape.head_width, 0.1));
  }
  check(Case({7, 3, 20, 130}, 2, 8, 0.1));
  check(Case({14, 6, 40, 25}, 4, 24, 0));
}

TEST_F(DenoiseHeadCuda, FloatIsTheCpuVersion) {
  for_each_case([&](const Case& c) { check_float(c); });
}

TEST_F(DenoiseHeadCuda, Bf16IsWithinThePlainError) {
  for_each_case([&](const Case& c) { check_bf16(c); });
}

TEST_F(DenoiseHeadCuda, TwoRunsAreTheSame) {
  const Case c(kMolecules, 5, 24, 0.1);
  testing::expect_same_bytes_twice([&] { return c.run<float>(gpu()).everything(); }, "float");
  testing::expect_same_bytes_twice([&] { return c.run<bf16>(gpu()).everything(); }, "bf16");
}

TEST_F(DenoiseHeadCuda, WhatMayBeNull) {
  const Case c(kMolecules, 2, 16, 0);
  const Output all = c.run<bf16>(gpu());
  const Output value = c.run<bf16>(gpu(), {.gradient = false});
  EXPECT_EQ(value.result.loss, all.result.loss);
  EXPECT_EQ(value.result.count, all.result.count);
  EXPECT_EQ(value.prediction, all.prediction);
  const Output unseen = c.run<bf16>(gpu(), {.prediction = false});
  EXPECT_EQ(unseen.result.loss, all.result.loss);
  EXPECT_EQ(unseen.dqkv, all.dqkv);
  const Output unbiased = c.run<bf16>(gpu(), {.dbias = false});
  EXPECT_EQ(unbiased.dqkv, all.dqkv);
  EXPECT_EQ(unbiased.dforce_weight, all.dforce_weight);
  for (const double x : unbiased.dbias) ASSERT_EQ(x, kStart);
  const Output known = c.run<float>(gpu(), {.known = false}), expected = c.exact<float>({.known = false});
  EXPECT_GT(known.result.count, all.result.count);
  EXPECT_EQ(known.result.count, expected.result.count);
  EXPECT_NEAR(known.result.loss, expected.result.loss, 2e-5 * double(expected.result.count));  // as in check_float
}

TEST_F(DenoiseHeadCuda, WhatIsZeroAndWhatStays) {
  const Case c(kMolecules, 5, 24, 0.1);
  const Packed p = c.sizes.packed();
  const Output o = c.run<bf16>(gpu());
  for (std::int64_t b = 0; b < p.molecules; ++b) {
    const std::int64_t tokens = p.atoms_of(b) + 1, block = tokens * tokens, first = c.heads * p.token_pair_offset[b];
    const bool asked = c.has_positions[size_t(b)] && tokens > 2;
    std::int64_t changed = 0;
    for (std::int64_t k = 0; k < c.heads * block; ++k) {
      const bool graph_token = k % block < tokens || k % tokens == 0;
      if (graph_token || !asked) {
        ASSERT_EQ(o.dbias[size_t(first + k)], kStart) << "graph token, or nothing asked";
      }
      changed += o.dbias[size_t(first + k)] != kStart;
    }
    EXPECT_EQ(changed > 0, asked) << b;
    for (std::int64_t k = p.atom_offset[b] * 3 * c.width; k < p.atom_offset[b + 1] * 3 * c.width; ++k)
      ASSERT_TRUE(asked ? std::isfinite(o.dqkv[size_t(k)]) : o.dqkv[size_t(k)] == 0);
    for (std::int64_t k = 3 * p.atom_offset[b]; k < 3 * p.atom_offset[b + 1]; ++k)
      ASSERT_TRUE(c.has_positions[size_t(b)] ? std::isfinite(o.prediction[size_t(k)]) : o.prediction[size_t(k)] == 0);
  }
}

TEST_F(DenoiseHeadCuda, NothingToDo) {
  Case none(std::initializer_list<int>{}, 3, 24, 0.1);
  Output o = none.run<bf16>(gpu());
  EXPECT_EQ(o.result.loss, 0);
  EXPECT_EQ(o.result.count, 0);
  for (const double x : o.dforce_weight) ASSERT_EQ(x, kStart);

  for (const bool unscaled : {false, true}) {
    Case c({5, 3, 20, 40}, 2, 8, 0);
    if (unscaled)
      c.loss_scale = 0;
    else
      std::fill(c.visible.begin(), c.visible.end(), std::uint8_t{kShowDegree});
    o = c.run<float>(gpu());
    EXPECT_EQ(o.result.count > 0, unscaled);
    for (const double x : o.dqkv) ASSERT_EQ(x, 0);
    for (const auto* v : {&o.dbias, &o.dforce_weight, &o.dforce_bias})
      for (const double x : *v) ASSERT_EQ(x, kStart);
  }
}

TEST_F(DenoiseHeadCuda, NanReachesTheLoss) {
  for (const int what : {0, 1, 2, 3, 4}) {
    Case c({6, 4, 40}, 2, 8, 0.1);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    (what == 0   ? c.qkv[0]
     : what == 1 ? c.bias[size_t(c.sizes.packed().atoms_of(0)) + 2]
     : what == 2 ? c.positions[0]
     : what == 3 ? c.force_weight[0]
                 : c.qkv[c.qkv.size() - size_t(c.width)]) = nan;  // v of the last atom
    EXPECT_TRUE(std::isnan(c.run<float>(gpu()).result.loss)) << what;
    EXPECT_TRUE(std::isnan(c.run<bf16>(gpu(), {.gradient = false}).result.loss)) << what;
  }
}

}  // namespace
}  // namespace moleblend
