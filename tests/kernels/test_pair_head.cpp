// The pair heads: maps, the bilinear pass and its three losses, against plain evaluations and finite differences.

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "tests/kernels/pair_case.h"

namespace moleblend {
namespace {

using testing::as;
using testing::expect_close;
using testing::expect_gradient;
using testing::Head;
using testing::PackedSizes;
using testing::random_values;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kStride = testing::PairCase::kStride;

struct Case : testing::PairCase {
  Case(Head h, std::initializer_list<int> molecules) : PairCase(h, PackedSizes(molecules)) {}

  template <class T>
  struct Output {
    PairLossResult result;
    std::vector<T> dfeatures, dweight, dbias, logits;
  };
  /// `gradient_start` fills the gradient buffers before the call.
  template <class T>
  Output<T> run(int threads = 1, bool gradient = true, bool logits = false, T gradient_start = 0) const {
    const auto f = as<T>(features), w = as<T>(weight), m = as<T>(bias);
    Output<T> o;
    if (gradient) {
      o.dfeatures.assign(f.size(), std::numeric_limits<T>::quiet_NaN());
      o.dweight.assign(w.size(), gradient_start);
      o.dbias.assign(m.size(), gradient_start);
    }
    if (logits) o.logits.assign(size_t(sizes.packed().pairs() * outputs), std::numeric_limits<T>::quiet_NaN());
    Cpu cpu(threads);
    const Bilinear<T> bilinear{outputs,
                               w.data(),
                               m.data(),
                               f.data(),
                               kStride,
                               kRow,
                               kColumn,
                               gradient ? o.dfeatures.data() : nullptr,
                               gradient ? o.dweight.data() : nullptr,
                               gradient ? o.dbias.data() : nullptr};
    call<T>(cpu, sizes.packed(), bilinear, spd.data(), path.data(), positions.data(), has_positions.data(),
            known.data(), logits ? o.logits.data() : nullptr, &o.result);
    return o;
  }

  std::vector<double> plain_logits() const {
    const Packed p = sizes.packed();
    std::vector<double> logits(size_t(p.pairs() * outputs));
    for (std::int64_t b = 0; b < p.molecules; ++b) {
      const std::int64_t n = p.atoms_of(b);
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
          const double* r = &features[size_t((p.atom_offset[b] + i) * kStride + 64)];
          const double* c = &features[size_t((p.atom_offset[b] + j) * kStride + 96)];
          for (std::int64_t k = 0; k < outputs; ++k) {
            double sum = bias[size_t(k)];
            for (std::int64_t x = 0; x < 32; ++x)
              for (std::int64_t y = 0; y < 32; ++y) sum += r[x] * c[y] * weight[size_t((k * 32 + x) * 32 + y)];
            logits[size_t((p.pair_offset[b] + i * n + j) * outputs + k)] = sum;
          }
        }
    }
    return logits;
  }

  /// METHOD section 7, pair by pair.
  PairLossResult plain_result() const {
    const Packed p = sizes.packed();
    const auto logits = plain_logits();
    PairLossResult result;
    const auto cross_entropy = [&](const double* l, int classes, int target) {
      if (target < 0) return;
      double sum = 0;
      for (int k = 0; k < classes; ++k) sum += std::exp(l[k]);
      result.loss += std::log(sum) - l[target];
      ++result.count;
      result.correct += std::max_element(l, l + classes) - l == target;
    };
    for (std::int64_t b = 0; b < p.molecules; ++b) {
      const std::int64_t n = p.atoms_of(b);
      double molecule = 0;
      std::int64_t valid = 0;
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
          const auto pair = size_t(p.pair_offset[b] + i * n + j);
          const double* l = &logits[pair * size_t(outputs)];
          if (head == Head::spd) {
            const int s = spd[pair];
            cross_entropy(l, 11, s == 0 || s == 510 ? -1 : std::min(s - 1, 10));
          } else if (head == Head::edge) {
            for (int hop = 0; hop < 5; ++hop) {
              const int code = path[pair * 5 + size_t(hop)] - 1;
              const int type = code / 12, stereo = code / 2 % 6;
              // Stereo past E runs into the next type's classes, as in the reference; misc bonds do not count.
              const int target = 6 * type + 2 * stereo + code % 2;
              cross_entropy(l + 24 * hop, 24, code >= 0 && type < 4 && target < 24 ? target : -1);
            }
          } else {
            const auto first = size_t(p.atom_offset[b]), x = first + size_t(i), y = first + size_t(j);
            double t[3], length = 0;
            for (std::size_t c = 0; c < 3; ++c) {
              t[c] = double(positions[3 * y + c]) - double(positions[3 * x + c]);
              length += t[c] * t[c];
            }
            length = std::sqrt(length);
            if (!has_positions[size_t(b)] || !known[x] || !known[y] || length == 0) continue;
            ++valid;
            if (head == Head::distance) {
              const double error = std::abs(l[0] - length);
              molecule += error < 1 ? error * error / 2 : error - 0.5;
              result.pair_error += error;
            } else {
              const double norm = std::sqrt(l[0] * l[0] + l[1] * l[1] + l[2] * l[2]);
              const double cosine = (l[0] * t[0] + l[1] * t[1] + l[2] * t[2]) / (norm * length);
              molecule += 1 - cosine;
              result.pair_error += cosine;
            }
          }
        }
      result.pairs += valid;
      if (valid > 0) {
        result.loss += molecule / double(valid);
        ++result.count;
      }
    }
    return result;
  }
};

const std::initializer_list<int> kMolecules = {14, 1, 3, 7, 40, 2, 1, 9, 1};

class PairHead : public ::testing::TestWithParam<Head> {};
INSTANTIATE_TEST_SUITE_P(Heads, PairHead, ::testing::ValuesIn(testing::kHeads),
                         [](const auto& instance) { return std::string(testing::name(instance.param)); });

TEST_P(PairHead, IsItsDefinition) {
  const Case c(GetParam(), kMolecules);
  const PairLossResult expected = c.plain_result();
  ASSERT_GT(expected.count, 0);
  const auto check = [&](const PairLossResult& r, double tolerance) {
    EXPECT_EQ(r.count, expected.count);
    EXPECT_EQ(r.pairs, expected.pairs);
    expect_close<double, double>(std::vector{r.loss, r.pair_error}, std::vector{expected.loss, expected.pair_error},
                                 tolerance);
  };
  for (const bool gradient : {true, false}) {
    const auto exact = c.run<double>(1, gradient, true);
    check(exact.result, 1e-12);
    EXPECT_EQ(exact.result.correct, expected.correct);
    expect_close<double, double>(exact.logits, c.plain_logits(), 1e-13);
    const auto single = c.run<float>(1, gradient, true);
    // Sums of 1024 products of order 0.1 in fp32; a class may change hands where two logits agree to that.
    check(single.result, 1e-5);
    EXPECT_NEAR(double(single.result.correct), double(expected.correct), 0.002 * double(expected.count));
    expect_close<float, double>(single.logits, c.plain_logits(), 1e-5);
  }
}

TEST_P(PairHead, GradientsAreDerivatives) {
  for (const std::initializer_list<int> molecules : {std::initializer_list<int>{6, 1, 4, 9}, {70}}) {
    Case c(GetParam(), molecules);
    const auto o = c.run<double>();
    const auto objective = [&] { return c.scale * c.run<double>(1, false).result.loss; };
    // The loss sums over up to 25,000 terms, and so does its rounding: 1e-16 · 1e5 / 1e-5 in a difference.
    const double tolerance = 3e-6;
    expect_gradient(c.weight, o.dweight, objective, "dweight", 60, tolerance);
    expect_gradient(c.bias, o.dbias, objective, "dbias", 24, tolerance);
    // Only the head's own columns: 64 to 128 of each atom.
    std::vector<double> own, down;
    for (std::size_t k = 0; k < c.features.size(); ++k) {
      if (k % kStride < 64 || k % kStride >= 128) {
        EXPECT_TRUE(std::isnan(o.dfeatures[k])) << "a column of another head was written";
        continue;
      }
      own.push_back(c.features[k]);
      down.push_back(o.dfeatures[k]);
    }
    const auto own_objective = [&] {
      for (std::size_t k = 0, from = 0; k < c.features.size(); ++k)
        if (k % kStride >= 64 && k % kStride < 128) c.features[k] = own[from++];
      return objective();
    };
    expect_gradient(own, down, own_objective, "dfeatures", 80, tolerance);
  }
}

TEST_P(PairHead, GradientsInFloatFollowDouble) {
  const Case c(GetParam(), kMolecules);
  const auto exact = c.run<double>();
  const auto o = c.run<float>();
  const auto own = [](const auto& all) {
    std::vector<double> v;
    for (std::size_t k = 0; k < all.size(); ++k)
      if (k % kStride >= 64 && k % kStride < 128) v.push_back(double(all[k]));
    return v;
  };
  // A pair's gradient carries the error of its logits, 1e-6 · 10, and cosine divides it by a predicted length that may be small.
  expect_close<double, double>(own(o.dfeatures), own(exact.dfeatures), 2e-4, 1, "dfeatures");
  expect_close<float, double>(o.dweight, exact.dweight, 2e-4, 1, "dweight");
  expect_close<float, double>(o.dbias, exact.dbias, 2e-4, 1, "dbias");
}

TEST_P(PairHead, ParametersAreAddedTo) {
  const Case c(GetParam(), kMolecules);
  const auto zero = c.run<double>(2), five = c.run<double>(2, true, false, 5.0);
  auto expected = zero.dweight;
  for (double& x : expected) x += 5;
  expect_close<double, double>(five.dweight, expected, 1e-13);
  expected = zero.dbias;
  for (double& x : expected) x += 5;
  expect_close<double, double>(five.dbias, expected, 1e-13);
}

TEST_P(PairHead, ThreadsAndReruns) {
  const Case c(GetParam(), kMolecules);
  const auto one = c.run<float>();
  const auto bits = [](const std::vector<float>& v) {
    std::vector<std::uint32_t> b(v.size());
    std::memcpy(b.data(), v.data(), v.size() * sizeof(float));
    return b;
  };
  for (const int threads : {1, 2, 3, 20}) {
    const auto a = c.run<float>(threads), again = c.run<float>(threads);
    EXPECT_EQ(bits(a.dfeatures), bits(again.dfeatures));
    EXPECT_EQ(bits(a.dweight), bits(again.dweight));
    EXPECT_EQ(bits(a.dbias), bits(again.dbias));
    EXPECT_EQ(a.result.loss, one.result.loss) << "sums go molecule by molecule";
    EXPECT_EQ(a.result.pair_error, one.result.pair_error);
    EXPECT_EQ(a.result.correct, one.result.correct);
    expect_close<float, float>(a.dweight, one.dweight, 1e-4, 1, "dweight");
    expect_close<float, float>(a.dbias, one.dbias, 1e-4, 1, "dbias");
  }
}

TEST_P(PairHead, ScaleZeroLeavesNoGradient) {
  Case c(GetParam(), kMolecules);
  c.scale = 0;
  const auto o = c.run<double>(2);
  EXPECT_EQ(o.result.count, c.plain_result().count);
  for (std::size_t k = 0; k < o.dfeatures.size(); ++k)
    if (k % kStride >= 64 && k % kStride < 128) {
      ASSERT_EQ(o.dfeatures[k], 0) << k;
    }
  for (const double x : o.dweight) ASSERT_EQ(x, 0);
}

TEST_P(PairHead, AtomsWithoutPairsHaveZeroGradient) {
  const Case c(GetParam(), {1, 1, 1});
  const auto o = c.run<double>(2);
  EXPECT_EQ(o.result.count, 0);
  EXPECT_EQ(o.result.loss, 0);
  for (std::size_t k = 0; k < o.dfeatures.size(); ++k)
    if (k % kStride >= 64 && k % kStride < 128) {
      ASSERT_EQ(o.dfeatures[k], 0) << k;
    }
}

TEST_P(PairHead, NanReachesTheLoss) {
  for (const int what : {0, 1, 2}) {
    Case c(GetParam(), kMolecules);
    (what == 0 ? c.features[64] : what == 1 ? c.weight[0] : c.bias[0]) = kNan;
    EXPECT_TRUE(std::isnan(c.run<double>().result.loss)) << what;
    EXPECT_TRUE(std::isnan(c.run<float>(2, false).result.loss)) << what;
  }
}

TEST(PairHeads, EqualLogitsPredictTheFirstClass) {
  Case c(Head::spd, {2});
  std::fill(c.weight.begin(), c.weight.end(), 0.0);
  std::fill(c.bias.begin(), c.bias.end(), 1.0);
  c.spd = {0, 1, 2, 0};
  const auto r = c.run<double>().result;
  EXPECT_EQ(r.count, 2);
  EXPECT_EQ(r.correct, 1);
  EXPECT_NEAR(r.loss, 2 * std::log(11.0), 1e-14);
}

TEST(PairHeads, DistanceIsInvariantUnderRotation) {
  Case c(Head::distance, {20, 9});
  std::fill(c.known.begin(), c.known.end(), 1);
  const double before = c.run<double>().result.loss;
  for (std::size_t atom = 0; atom < c.positions.size() / 3; ++atom) {
    float* x = &c.positions[3 * atom];
    const float turned[] = {0.6f * x[0] - 0.8f * x[1] + 3, 0.8f * x[0] + 0.6f * x[1] - 1, x[2] + 2};
    std::copy_n(turned, 3, x);
  }
  EXPECT_NEAR(c.run<double>().result.loss, before, 1e-5);  // positions are fp32
}

TEST(PairHeads, ClampedNormsHaveFiniteGradients) {
  Case c(Head::displacement, {5});
  std::fill(c.weight.begin(), c.weight.end(), 0.0);
  std::fill(c.bias.begin(), c.bias.end(), 0.0);
  const auto o = c.run<double>();
  EXPECT_NEAR(o.result.loss, 1, 1e-12);  // cosine of nothing is 0
  for (const double x : o.dbias) EXPECT_TRUE(std::isfinite(x));
}

TEST(PairHeads, ClassesOfDistancesAndBonds) {
  EXPECT_EQ(spd_class(0), -1);
  EXPECT_EQ(spd_class(1), 0);
  EXPECT_EQ(spd_class(10), 9);
  EXPECT_EQ(spd_class(11), 10);
  EXPECT_EQ(spd_class(300), 10);
  EXPECT_EQ(spd_class(kUnreachable), -1);
  EXPECT_EQ(edge_class(0), -1);
  EXPECT_EQ(edge_class(bond_code(3, 2, 1)), 23);
  EXPECT_EQ(edge_class(bond_code(1, 5, 0)), 16) << "stereo any is numbered on, as in the reference";
  EXPECT_EQ(edge_class(bond_code(3, 5, 0)), -1) << "past the last class";
}

struct MapCase {
  std::int64_t rows = 37, maps = 6;
  std::vector<double> x = random_values(size_t(rows * maps * 32), 1), weight = random_values(size_t(maps * 32), 2),
                      bias = random_values(size_t(maps * 32), 3), cotangent = random_values(x.size(), 4);
  template <class T>
  std::vector<T> forward(int threads = 1) const {
    const auto xs = as<T>(x), w = as<T>(weight), m = as<T>(bias);
    std::vector<T> y(xs.size(), std::numeric_limits<T>::quiet_NaN());
    Cpu cpu(threads);
    pair_map_forward(cpu, PairMapForward<T>{rows, maps, xs.data(), w.data(), m.data(), y.data()});
    return y;
  }
  template <class T>
  struct Gradients {
    std::vector<T> dx, dweight, dbias;
  };
  /// In place: dx over dy.
  template <class T>
  Gradients<T> backward(int threads = 1) const {
    const auto xs = as<T>(x), w = as<T>(weight);
    Gradients<T> g{as<T>(cotangent), std::vector<T>(w.size()), std::vector<T>(w.size())};
    Cpu cpu(threads);
    pair_map_backward(cpu, PairMapBackward<T>{rows, maps, xs.data(), w.data(), g.dx.data(), g.dx.data(),
                                              g.dweight.data(), g.dbias.data()});
    return g;
  }
};

TEST(PairMap, IsItsDefinition) {
  const MapCase c;
  std::vector<double> expected(c.x.size());
  for (std::size_t block = 0; block < expected.size(); block += 32) {
    double h[32], mean = 0, variance = 0;
    for (std::size_t k = 0; k < 32; ++k)
      mean += h[k] = c.x[block + k] * 0.5 * (1 + std::erf(c.x[block + k] / std::sqrt(2.0)));
    mean /= 32;
    for (const double v : h) variance += (v - mean) * (v - mean) / 32;
    for (std::size_t k = 0; k < 32; ++k) {
      const std::size_t map = block % c.weight.size() + k;
      expected[block + k] = (h[k] - mean) / std::sqrt(variance + 1e-12) * c.weight[map] + c.bias[map];
    }
  }
  expect_close<double, double>(c.forward<double>(), expected, 1e-13);
  // fp32, over a standard deviation of about 0.6.
  expect_close<float, double>(c.forward<float>(), expected, 5e-6);
  EXPECT_EQ(c.forward<float>(1), c.forward<float>(3));
}

TEST(PairMap, GradientsAreDerivatives) {
  MapCase c;
  const auto g = c.backward<double>();
  const auto objective = [&] {
    const auto y = c.forward<double>();
    return std::inner_product(y.begin(), y.end(), c.cotangent.begin(), 0.0);
  };
  expect_gradient(c.x, g.dx, objective, "dx", 80);
  expect_gradient(c.weight, g.dweight, objective, "dweight", 40);
  expect_gradient(c.bias, g.dbias, objective, "dbias", 40);
  for (const int threads : {1, 2, 3}) {
    const auto single = c.backward<float>(threads), again = c.backward<float>(threads);
    expect_close<float, double>(single.dx, g.dx, 2e-5);
    expect_close<float, double>(single.dweight, g.dweight, 2e-5);
    expect_close<float, double>(single.dbias, g.dbias, 2e-5);
    EXPECT_EQ(single.dweight, again.dweight);
  }
}

TEST(FactorisedMap, ProductAndGradients) {
  for (const std::int64_t outputs : {1, 3}) {
    const std::int64_t inputs = 64, hidden = 20;
    auto inner = random_values(size_t(hidden * inputs), 1), inner_bias = random_values(size_t(hidden), 2);
    auto outer = random_values(size_t(outputs * hidden), 3), outer_bias = random_values(size_t(outputs), 4);
    const auto dweight = random_values(size_t(outputs * inputs), 5), dbias = random_values(size_t(outputs), 6);
    const FactorisedMap<double> map{inputs,       hidden,           outputs, inner.data(), inner_bias.data(),
                                    outer.data(), outer_bias.data()};
    for (const int threads : {1, 3}) {
      Cpu cpu(threads);
      std::vector<double> weight(dweight.size(), kNan), bias(dbias.size(), kNan);
      const auto multiply = [&] { multiply_out(cpu, map, weight.data(), bias.data()); };
      multiply();
      // The same function of any input as one map after the other.
      const auto x = random_values(size_t(inputs), 7);
      for (std::int64_t o = 0; o < outputs; ++o) {
        double direct = bias[size_t(o)], stepwise = outer_bias[size_t(o)];
        for (std::int64_t k = 0; k < inputs; ++k) direct += weight[size_t(o * inputs + k)] * x[size_t(k)];
        for (std::int64_t h = 0; h < hidden; ++h) {
          double value = inner_bias[size_t(h)];
          for (std::int64_t k = 0; k < inputs; ++k) value += inner[size_t(h * inputs + k)] * x[size_t(k)];
          stepwise += outer[size_t(o * hidden + h)] * value;
        }
        EXPECT_NEAR(direct, stepwise, 1e-11);
      }
      std::vector<double> dinner(inner.size()), dinner_bias(inner_bias.size()), douter(outer.size()),
          douter_bias(outer_bias.size());
      multiply_out_backward(
          cpu, map, dweight.data(), dbias.data(),
          FactorisedGradients<double>{dinner.data(), dinner_bias.data(), douter.data(), douter_bias.data()});
      const auto objective = [&] {
        multiply();
        return std::inner_product(weight.begin(), weight.end(), dweight.begin(), 0.0) +
               std::inner_product(bias.begin(), bias.end(), dbias.begin(), 0.0);
      };
      expect_gradient(inner, dinner, objective, "inner");
      expect_gradient(inner_bias, dinner_bias, objective, "inner_bias");
      expect_gradient(outer, douter, objective, "outer");
      expect_gradient(outer_bias, douter_bias, objective, "outer_bias");
    }
  }
}

}  // namespace
}  // namespace moleblend
