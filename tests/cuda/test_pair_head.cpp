// The pair heads on a GPU, against the fp64 CPU version.

#include <cstddef>
#include <limits>
#include <random>

#include "kernels/pair_head/cosine_loss.h"
#include "kernels/pair_head/smooth_l1.h"
#include "tests/cuda/device.h"
#include "tests/kernels/pair_case.h"

namespace moleblend {
namespace {

using testing::as_double;
using testing::DevicePacked;
using testing::DeviceVector;
using testing::expect_close;
using testing::expect_same_bytes_twice;
using testing::expect_within_plain_bf16;
using testing::Head;
using testing::kHeads;
using testing::PackedSizes;
using testing::PairCase;
using testing::random_values;
using testing::rounded;
using testing::stored;

class PairHead : public testing::CudaTest {};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kStride = PairCase::kStride, kRow = PairCase::kRow;

/// What a head found and its gradients, in double.
struct Output {
  PairLossResult result;
  std::vector<double> dfeatures, dweight, dbias, logits;

  /// dfeatures in the head's own columns.
  std::vector<double> own() const {
    std::vector<double> v;
    for (std::size_t k = 0; k < dfeatures.size(); ++k)
      if (k % kStride >= kRow && k % kStride < kRow + 64) v.push_back(dfeatures[k]);
    return v;
  }
};

struct Case : PairCase {
  bool gradient = true, logits = false, all_known = false;
  double gradient_start = 0;  // of dweight and dbias

  Case(Head h, const PackedSizes& molecules) : PairCase(h, molecules) {
    // From atom 20 on tiles in which no pair counts.
    const Packed p = sizes.packed();
    for (std::int64_t b = 0; b < p.molecules; ++b) {
      const std::int64_t n = p.atoms_of(b);
      for (std::int64_t i = 20; i < n; ++i)
        for (std::int64_t j = 16; j < n; ++j)
          if (i != j) clear_relations(p.pair_offset[b] + i * n + j, kUnreachable);
    }
  }

  /// fp64 on the CPU, of what remains of the inputs after rounding to T.
  template <class T>
  Output truth() const {
    const auto f = rounded<T>(features), w = rounded<T>(weight), m = rounded<Wide<T>>(bias);
    Output o;
    if (gradient) {
      o.dfeatures.assign(f.size(), kNan);
      o.dweight.assign(w.size(), gradient_start);
      o.dbias.assign(m.size(), gradient_start);
    }
    if (logits) o.logits.assign(static_cast<std::size_t>(sizes.packed().pairs() * outputs), kNan);
    Cpu cpu(1);
    const auto null_if = [](bool null, double* p) { return null ? nullptr : p; };
    call<double>(cpu, sizes.packed(),
                 {outputs, w.data(), m.data(), f.data(), kStride, kRow, kColumn, null_if(!gradient, o.dfeatures.data()),
                  null_if(!gradient, o.dweight.data()), null_if(!gradient, o.dbias.data())},
                 spd.data(), path.data(), positions.data(), has_positions.data(), all_known ? nullptr : known.data(),
                 null_if(!logits, o.logits.data()), &o.result);
    return o;
  }

  template <class T>
  Output run(Gpu& gpu) const {
    const DevicePacked packed(gpu, sizes.packed());
    const DeviceVector<T> f(gpu, stored<T>(features)), w(gpu, stored<T>(weight));
    const DeviceVector<float> m(gpu, stored<float>(bias)), x(gpu, positions);
    const DeviceVector<std::uint16_t> s(gpu, spd);
    const DeviceVector<std::uint8_t> codes(gpu, path), has(gpu, has_positions), is_known(gpu, known);
    const DeviceVector<T> df(gpu, std::vector<T>(features.size(), narrow<T>(std::numeric_limits<float>::quiet_NaN())));
    const DeviceVector<float> dw(gpu, std::vector<float>(weight.size(), static_cast<float>(gradient_start)));
    const DeviceVector<float> dm(gpu, std::vector<float>(bias.size(), static_cast<float>(gradient_start)));
    const DeviceVector<float> to(gpu, static_cast<std::size_t>(sizes.packed().pairs() * outputs));
    const DeviceVector<std::uint8_t> result(gpu, sizeof(PairLossResult));
    call<T>(gpu, packed.packed(),
            {outputs, w.data(), m.data(), f.data(), kStride, kRow, kColumn, gradient ? df.data() : nullptr,
             gradient ? dw.data() : nullptr, gradient ? dm.data() : nullptr},
            s.data(), codes.data(), x.data(), has.data(), all_known ? nullptr : is_known.data(),
            logits ? to.data() : nullptr, reinterpret_cast<PairLossResult*>(result.data()));
    Output o;
    std::memcpy(&o.result, result.host().data(), sizeof o.result);
    if (gradient) {
      o.dfeatures = as_double(df.host());
      o.dweight = as_double(dw.host());
      o.dbias = as_double(dm.host());
    }
    if (logits) o.logits = as_double(to.host());
    return o;
  }

  /// A straightforward bf16 program: U, the outputs, their gradients, dU, dR and dc are arrays in bf16.
  Output plain() const {
    const auto round = testing::in_bf16;
    const auto f = rounded<bf16>(features), w = rounded<bf16>(weight), m = rounded<float>(bias);
    const Packed p = sizes.packed();
    const auto C = static_cast<std::size_t>(outputs);
    Output o;
    o.dfeatures.assign(f.size(), 0);
    o.dweight.assign(w.size(), 0);
    o.dbias.assign(m.size(), 0);
    for (std::int64_t b = 0; b < p.molecules; ++b) {
      const auto n = static_cast<std::size_t>(p.atoms_of(b)), atom = static_cast<std::size_t>(p.atom_offset[b]);
      const auto r = [&](std::size_t i, std::size_t k) { return f[(atom + i) * kStride + kRow + k]; };
      const auto c = [&](std::size_t j, std::size_t k) { return f[(atom + j) * kStride + kColumn + k]; };
      const auto valid = [&](std::size_t i, std::size_t j) {
        return has_positions[static_cast<std::size_t>(b)] && known[atom + i] && known[atom + j] &&
               std::memcmp(&positions[3 * (atom + i)], &positions[3 * (atom + j)], 12) != 0;
      };
      std::size_t pairs = 0;
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) pairs += valid(i, j);
      std::vector<double> u(n * C * 32), dl(n * n * C), du(u.size());
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t k = 0; k < C; ++k)
          for (std::size_t y = 0; y < 32; ++y) {
            double sum = 0;
            for (std::size_t x = 0; x < 32; ++x) sum += r(i, x) * w[(k * 32 + x) * 32 + y];
            u[(i * C + k) * 32 + y] = round(sum);
          }
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) {
          double* l = &dl[(i * n + j) * C];
          for (std::size_t k = 0; k < C; ++k) {
            double sum = m[k];
            for (std::size_t y = 0; y < 32; ++y) sum += u[(i * C + k) * 32 + y] * c(j, y);
            l[k] = round(sum);
          }
          o.logits.insert(o.logits.end(), l, l + C);
          const std::size_t pair = static_cast<std::size_t>(p.pair_offset[b]) + i * n + j;
          const auto cross_entropy = [&](double* x, int classes, int target) {
            double sum = 0;
            for (int k = 0; k < classes; ++k) sum += std::exp(x[k]);
            for (int k = 0; k < classes; ++k) x[k] = target < 0 ? 0 : scale * (std::exp(x[k]) / sum - (k == target));
          };
          if (head == Head::spd) {
            cross_entropy(l, kSpdClasses, spd_class(spd[pair]));
          } else if (head == Head::edge) {
            for (std::size_t hop = 0; hop < kPathHops; ++hop)
              cross_entropy(l + 24 * hop, kEdgeClasses, edge_class(path[pair * kPathHops + hop]));
          } else {
            double t[3], d[3] = {};
            for (std::size_t x = 0; x < 3; ++x)
              t[x] = double(positions[3 * (atom + j) + x]) - double(positions[3 * (atom + i) + x]);
            if (valid(i, j) && head == Head::displacement) {
              std::copy_n(cosine_loss(l, t).gradient, 3, d);
            } else if (valid(i, j)) {
              d[0] = smooth_l1(l[0], std::hypot(t[0], t[1], t[2])).gradient;
            }
            for (std::size_t k = 0; k < C; ++k) l[k] = pairs > 0 ? scale / double(pairs) * d[k] : 0;
          }
          for (std::size_t k = 0; k < C; ++k) o.dbias[k] += l[k] = round(l[k]);
        }
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t k = 0; k < C; ++k)
          for (std::size_t y = 0; y < 32; ++y) {
            double sum = 0;
            for (std::size_t j = 0; j < n; ++j) {
              sum += dl[(i * n + j) * C + k] * c(j, y);
              o.dfeatures[(atom + j) * kStride + kColumn + y] += dl[(i * n + j) * C + k] * u[(i * C + k) * 32 + y];
            }
            sum = round(sum);
            for (std::size_t x = 0; x < 32; ++x) {
              o.dfeatures[(atom + i) * kStride + kRow + x] += sum * w[(k * 32 + x) * 32 + y];
              o.dweight[(k * 32 + x) * 32 + y] += sum * r(i, x);
            }
          }
    }
    for (double& d : o.dfeatures) d = round(d);
    return o;
  }
};

/// Whole tiles and part of them, one to three tiles a side, molecules without pairs.
const PackedSizes kMolecules({2, 1, 16, 17, 33, 9});

void expect_same_counts(const Output& o, const Output& truth, double of_classes) {
  EXPECT_EQ(o.result.count, truth.result.count);
  EXPECT_EQ(o.result.pairs, truth.result.pairs);
  // A class may change hands where two logits nearly agree.
  EXPECT_NEAR(double(o.result.correct), double(truth.result.correct), of_classes * double(truth.result.count) + 1e-9);
}
/// `tolerance`: of a term of the sums.
void expect_same_loss(const Output& o, const Output& truth, double tolerance) {
  EXPECT_TRUE(std::abs(o.result.loss - truth.result.loss) <= tolerance * double(truth.result.count))
      << o.result.loss << " against " << truth.result.loss;
  EXPECT_TRUE(std::abs(o.result.pair_error - truth.result.pair_error) <= tolerance * double(truth.result.pairs))
      << o.result.pair_error << " against " << truth.result.pair_error;
}
void expect_only_own_columns(const Output& o) {
  for (std::size_t k = 0; k < o.dfeatures.size(); ++k)
    if (k % kStride < kRow || k % kStride >= kRow + 64) {
      ASSERT_TRUE(std::isnan(o.dfeatures[k])) << "a column of another head was written";
    }
}

TEST_F(PairHead, FloatFollowsDouble) {
  for (const Head head : kHeads) {
    SCOPED_TRACE(name(head));
    Case c(head, kMolecules);
    c.logits = true;
    c.gradient_start = 5;
    const Output truth = c.truth<float>(), o = c.run<float>(gpu());
    ASSERT_GT(truth.result.count, 0);
    expect_same_counts(o, truth, 0.002);
    // Sums of 1024 products of order 0.1 in fp32; a pair's gradient carries that error, and cosine divides it by a predicted length that may
    // be small.
    expect_same_loss(o, truth, 1e-5);
    expect_close<double, double>(o.logits, truth.logits, 1e-5, 1, "logits");
    expect_close<double, double>(o.own(), truth.own(), 2e-4, 1, "dfeatures");
    expect_close<double, double>(o.dweight, truth.dweight, 2e-4, 1, "dweight");
    expect_close<double, double>(o.dbias, truth.dbias, 2e-4, 1, "dbias");
    expect_only_own_columns(o);
  }
}

TEST_F(PairHead, Bf16IsAsGoodAsPlain) {
  for (const Head head : kHeads) {
    SCOPED_TRACE(name(head));
    Case c(head, kMolecules);
    c.logits = true;
    const Output truth = c.truth<bf16>(), plain = c.plain(), o = c.run<bf16>(gpu());
    // Logits of order 3 with an error of a few thousandths each: a hundredth of the pairs may see another class, and the mean loss is off by
    // less than a hundredth of that.
    expect_same_counts(o, truth, 0.02);
    expect_same_loss(o, truth, 2e-3);
    expect_within_plain_bf16(o.logits, plain.logits, truth.logits, 2, "logits");
    expect_within_plain_bf16(o.own(), plain.own(), truth.own(), 3, "dfeatures");
    expect_within_plain_bf16(o.dweight, plain.dweight, truth.dweight, 3, "dweight");
    expect_within_plain_bf16(o.dbias, plain.dbias, truth.dbias, 3, "dbias");
    expect_only_own_columns(o);
  }
}

TEST_F(PairHead, ValueOnlyAndScaleZero) {
  for (const Head head : kHeads) {
    SCOPED_TRACE(name(head));
    Case c(head, PackedSizes({3, 17, 1}));
    c.all_known = true;
    const Output truth = c.truth<float>(), with_gradient = c.run<float>(gpu());
    expect_same_counts(with_gradient, truth, 0.002);
    c.gradient = false;
    const Output value = c.run<float>(gpu());
    EXPECT_EQ(value.result.loss, with_gradient.result.loss);
    EXPECT_EQ(value.result.correct, with_gradient.result.correct);
    c.gradient = true;
    c.scale = 0;
    c.gradient_start = 3;
    const Output zero = c.run<bf16>(gpu());
    expect_same_counts(zero, truth, 0.05);
    for (const double x : zero.own()) ASSERT_EQ(x, 0);
    for (const double x : zero.dweight) ASSERT_EQ(x, 3);
    for (const double x : zero.dbias) ASSERT_EQ(x, 3);
    expect_only_own_columns(zero);
  }
}

TEST_F(PairHead, SameBytesTwice) {
  for (const Head head : kHeads) {
    const Case c(head, PackedSizes({17, 4}));
    expect_same_bytes_twice(
        [&] {
          Output o = c.run<bf16>(gpu());
          std::vector<double> all = o.own();
          all.insert(all.end(), o.dweight.begin(), o.dweight.end());
          all.insert(all.end(), o.dbias.begin(), o.dbias.end());
          all.insert(all.end(), {o.result.loss, o.result.pair_error});
          return all;
        },
        name(head));
  }
}

/// More molecules than blocks, for the edge head more than 32 of them for a block; most of them count for nothing.
TEST_F(PairHead, ManyMolecules) {
  for (const Head head : kHeads) {
    SCOPED_TRACE(name(head));
    PackedSizes sizes({});
    const int count = head == Head::edge ? 860 : head == Head::spd ? 280 : 540;
    for (int b = 0; b < count; ++b) {
      const std::int64_t n = b % 100 == 0 ? 6 : 2;
      sizes.add(n);
    }
    Case c(head, sizes);
    for (int b = 0; b < count - 8; ++b) {
      if (b % 100 == 0) continue;
      const std::int64_t first = sizes.pair[static_cast<std::size_t>(b)];
      c.has_positions[static_cast<std::size_t>(b)] = 0;
      for (std::int64_t pair = first; pair < first + 4; ++pair) c.clear_relations(pair, 0);
    }
    const Output truth = c.truth<float>(), o = c.run<float>(gpu());
    ASSERT_GE(truth.result.count, 8);
    expect_same_counts(o, truth, 0.02);
    expect_same_loss(o, truth, 1e-5);  // as in FloatFollowsDouble, and the gradients' too
    expect_close<double, double>(o.own(), truth.own(), 2e-4, 1, "dfeatures");
    expect_close<double, double>(o.dweight, truth.dweight, 2e-4, 1, "dweight");
    expect_close<double, double>(o.dbias, truth.dbias, 2e-4, 1, "dbias");
  }
}

TEST_F(PairHead, NoMoleculesAndNoPairs) {
  for (const Head head : kHeads) {
    for (const PackedSizes& sizes : {PackedSizes({}), PackedSizes({1, 1, 1})}) {
      SCOPED_TRACE(name(head));
      Case c(head, sizes);
      c.gradient_start = 2;
      const Output o = c.run<bf16>(gpu());
      EXPECT_EQ(o.result.count, 0);
      EXPECT_EQ(o.result.loss, 0);
      for (const double x : o.own()) ASSERT_EQ(x, 0);
      for (const double x : o.dweight) ASSERT_EQ(x, 2);
      for (const double x : o.dbias) ASSERT_EQ(x, 2);
    }
  }
}

TEST_F(PairHead, NanReachesTheLoss) {
  for (const Head head : kHeads) {
    for (const int what : {0, 1, 2}) {
      Case c(head, PackedSizes({3, 7}));
      c.gradient = what != 1;
      (what == 0 ? c.features[kRow] : what == 1 ? c.weight[0] : c.bias[0]) = kNan;
      EXPECT_TRUE(std::isnan(c.run<bf16>(gpu()).result.loss)) << name(head) << what;
    }
  }
}

TEST_F(PairHead, EqualLogitsPredictTheFirstClass) {
  Case c(Head::spd, PackedSizes({2}));
  std::fill(c.weight.begin(), c.weight.end(), 0.0);
  std::fill(c.bias.begin(), c.bias.end(), 1.0);
  c.spd = {0, 1, 2, 0};
  const PairLossResult r = c.run<bf16>(gpu()).result;
  EXPECT_EQ(r.count, 2);
  EXPECT_EQ(r.correct, 1);
  EXPECT_NEAR(r.loss, 2 * std::log(11.0), 1e-6);  // a logarithm in fp32
}

struct MapCase {
  std::int64_t rows, maps;
  std::vector<double> x, weight, bias, dy;

  MapCase(std::int64_t r, std::int64_t m) : rows(r), maps(m) {
    const auto count = static_cast<std::size_t>(rows * maps * 32), parameters = static_cast<std::size_t>(maps * 32);
    x = random_values(count, 1);
    weight = random_values(parameters, 2);
    bias = random_values(parameters, 3);
    dy = random_values(count, 4);
  }
  struct Gradients {
    std::vector<double> y, dx, dweight, dbias;
  };
  template <class T>
  Gradients truth() const {
    const auto xs = rounded<T>(x), w = rounded<float>(weight), m = rounded<float>(bias);
    Gradients g{std::vector<double>(xs.size(), kNan), rounded<T>(dy), std::vector<double>(w.size(), 2),
                std::vector<double>(w.size(), 3)};
    Cpu cpu(1);
    pair_map_forward(cpu, PairMapForward<double>{rows, maps, xs.data(), w.data(), m.data(), g.y.data()});
    pair_map_backward(cpu, PairMapBackward<double>{rows, maps, xs.data(), w.data(), g.dx.data(), g.dx.data(),
                                                   g.dweight.data(), g.dbias.data()});
    return g;
  }
  template <class T>
  Gradients run(Gpu& gpu, bool in_place) const {
    const DeviceVector<T> xs(gpu, stored<T>(x)), y(gpu, x.size()), d(gpu, stored<T>(dy)), other(gpu, x.size());
    const DeviceVector<float> w(gpu, stored<float>(weight)), m(gpu, stored<float>(bias));
    const DeviceVector<float> dw(gpu, std::vector<float>(w.size(), 2)), dm(gpu, std::vector<float>(w.size(), 3));
    T* dx = in_place ? d.data() : other.data();
    pair_map_forward(gpu, PairMapForward<T>{rows, maps, xs.data(), w.data(), m.data(), y.data()});
    pair_map_backward(gpu, PairMapBackward<T>{rows, maps, xs.data(), w.data(), d.data(), dx, dw.data(), dm.data()});
    return {as_double(y.host()), as_double(in_place ? d.host() : other.host()), as_double(dw.host()),
            as_double(dm.host())};
  }
  /// With gelu(x), its normalised form and the gradient of it as arrays in bf16.
  Gradients plain() const {
    const auto round = testing::in_bf16;
    const auto xs = rounded<bf16>(x), w = rounded<float>(weight), m = rounded<float>(bias), d = rounded<bf16>(dy);
    Gradients g{std::vector<double>(xs.size()), std::vector<double>(xs.size()), std::vector<double>(w.size(), 2),
                std::vector<double>(w.size(), 3)};
    for (std::size_t block = 0; block < xs.size(); block += 32) {
      const std::size_t map = block % w.size();
      double h[32], z[32], mean = 0, variance = 0, sum = 0, along = 0;
      for (std::size_t k = 0; k < 32; ++k)
        mean += h[k] = round(xs[block + k] * 0.5 * std::erfc(-xs[block + k] / std::sqrt(2.0)));
      mean /= 32;
      for (const double v : h) variance += (v - mean) * (v - mean) / 32;
      for (std::size_t k = 0; k < 32; ++k) {
        z[k] = (h[k] - mean) / std::sqrt(variance + 1e-12);
        g.y[block + k] = round(z[k] * w[map + k] + m[map + k]);
        g.dweight[map + k] += d[block + k] * z[k];
        g.dbias[map + k] += d[block + k];
        sum += d[block + k] * w[map + k] / 32;
        along += d[block + k] * w[map + k] * z[k] / 32;
      }
      for (std::size_t k = 0; k < 32; ++k) {
        const double v = xs[block + k];
        const double slope = 0.5 * std::erfc(-v / std::sqrt(2.0)) + v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI);
        const double dh = round((d[block + k] * w[map + k] - sum - z[k] * along) / std::sqrt(variance + 1e-12));
        g.dx[block + k] = round(slope * dh);
      }
    }
    return g;
  }
};

TEST_F(PairHead, MapInFloat) {
  for (const auto& [rows, maps] : {std::pair{1, 1}, {33, 6}, {150, 2}}) {
    const MapCase c(rows, maps);
    for (const bool in_place : {false, true}) {
      const auto truth = c.truth<float>(), o = c.run<float>(gpu(), in_place);
      // fp32 over a standard deviation of about 0.6; sums over 150 rows.
      expect_close<double, double>(o.y, truth.y, 1e-5, 1, "y");
      expect_close<double, double>(o.dx, truth.dx, 2e-5, 1, "dx");
      expect_close<double, double>(o.dweight, truth.dweight, 2e-5, 1, "dweight");
      expect_close<double, double>(o.dbias, truth.dbias, 2e-5, 1, "dbias");
    }
  }
}

TEST_F(PairHead, MapInBf16) {
  const MapCase c(70, 6);
  const auto truth = c.truth<bf16>(), plain = c.plain(), o = c.run<bf16>(gpu(), true);
  expect_within_plain_bf16(o.y, plain.y, truth.y, 2, "y");
  expect_within_plain_bf16(o.dx, plain.dx, truth.dx, 3, "dx");
  expect_within_plain_bf16(o.dweight, plain.dweight, truth.dweight, 3, "dweight");
  expect_close<double, double>(o.dbias, truth.dbias, 1e-6, 1, "dbias");  // sums of 70 bf16 values in fp32
  expect_same_bytes_twice([&] { return c.run<bf16>(gpu(), false).dweight; }, "dweight");
}

TEST_F(PairHead, MapOfManyRowsAndOfNone) {
  // More rows than 128 blocks take at a time, 64 rows each in bf16.
  const MapCase c(128 * 64 + 100, 1);
  const auto truth = c.truth<bf16>(), o = c.run<bf16>(gpu(), true);
  expect_close<double, double>(o.dbias, truth.dbias, 1e-5, 1, "dbias");  // sums of 8,292 values of order 1 in fp32
  expect_close<double, double>(o.dweight, truth.dweight, 1e-4, 1,
                               "dweight");  // products of fp32 values with errors of 1e-6
  const MapCase none(0, 6);
  EXPECT_EQ(none.run<float>(gpu(), false).dweight, std::vector<double>(6 * 32, 2));
}

template <class T>
void check_factorised(Gpu& gpu, std::int64_t inputs, std::int64_t hidden, std::int64_t outputs, double tolerance) {
  const auto size = [](std::int64_t count) { return static_cast<std::size_t>(count); };
  const auto values = [&](std::int64_t count, std::uint64_t seed) {
    return rounded<float>(random_values(size(count), seed));
  };
  const auto inner = values(hidden * inputs, 1), inner_bias = values(hidden, 2), outer = values(outputs * hidden, 3),
             outer_bias = values(outputs, 4), dweight = values(outputs * inputs, 5), dbias = values(outputs, 6);
  const FactorisedMap<double> map{inputs,       hidden,           outputs, inner.data(), inner_bias.data(),
                                  outer.data(), outer_bias.data()};
  Cpu cpu(1);
  std::vector<double> weight(dweight.size()), bias(dbias.size());
  multiply_out(cpu, map, weight.data(), bias.data());
  std::vector<double> truth[] = {std::vector<double>(inner.size(), 2), std::vector<double>(inner_bias.size(), 2),
                                 std::vector<double>(outer.size(), 2), std::vector<double>(outer_bias.size(), 2)};
  multiply_out_backward(
      cpu, map, dweight.data(), dbias.data(),
      FactorisedGradients<double>{truth[0].data(), truth[1].data(), truth[2].data(), truth[3].data()});

  const auto device = [&](const std::vector<double>& v) { return DeviceVector<float>(gpu, stored<float>(v)); };
  const auto g_inner = device(inner), g_inner_bias = device(inner_bias), g_outer = device(outer),
             g_outer_bias = device(outer_bias);
  const auto g_dweight = device(dweight), g_dbias = device(dbias);
  const FactorisedMap<T> g_map{
      inputs, hidden, outputs, g_inner.data(), g_inner_bias.data(), g_outer.data(), g_outer_bias.data()};
  const DeviceVector<T> g_weight(gpu, weight.size());
  const DeviceVector<float> g_bias(gpu, bias.size());
  multiply_out(gpu, g_map, g_weight.data(), g_bias.data());
  expect_close<double, double>(as_double(g_weight.host()), weight, tolerance, 1, "weight");
  expect_close<double, double>(as_double(g_bias.host()), bias, 1e-5, 1, "bias");
  const DeviceVector<float> g[] = {
      device(std::vector<double>(inner.size(), 2)), device(std::vector<double>(inner_bias.size(), 2)),
      device(std::vector<double>(outer.size(), 2)), device(std::vector<double>(outer_bias.size(), 2))};
  multiply_out_backward(gpu, g_map, g_dweight.data(), g_dbias.data(),
                        FactorisedGradients<T>{g[0].data(), g[1].data(), g[2].data(), g[3].data()});
  for (int k = 0; k < 4; ++k)
    expect_close<double, double>(as_double(g[k].host()), truth[k], 1e-5, 1, "gradient of a factor");
}

TEST_F(PairHead, FactorisedMap) {
  // Sums of up to 100 products of order 1 in fp32; the product itself is then rounded to bf16.
  check_factorised<float>(gpu(), 65, 20, 3, 1e-5);
  check_factorised<float>(gpu(), 100, 9, 1, 1e-5);
  check_factorised<bf16>(gpu(), 64, 20, 3, 4e-3);
}

}  // namespace
}  // namespace moleblend
