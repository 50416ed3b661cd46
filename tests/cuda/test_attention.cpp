// Attention on a GPU against the fp64 CPU version, on the same inputs rounded to the tested type: every head width with its own
// variant, every class of molecule sizes, and what must not change a result.

#include <limits>

#include "kernels/attention/attention.h"
#include "tests/cuda/device.h"

namespace moleblend {
namespace {

using testing::as_double;
using testing::DevicePacked;
using testing::DeviceVector;
using testing::expect_close;
using testing::expect_same_bytes_twice;
using testing::expect_within_plain_bf16;
using testing::in_bf16;
using testing::PackedSizes;
using testing::random_values;
using testing::rounded;
using testing::stored;

constexpr std::uint32_t kLayer = 3;

struct Case {
  PackedSizes sizes;
  std::int64_t heads, width;
  Dropout dropout;
  std::vector<double> qkv, bias, dout, dbias;
  std::vector<std::uint64_t> key;

  Case(std::initializer_list<int> molecules, std::int64_t h, std::int64_t head_width, double drop)
      : sizes(molecules), heads(h), width(h * head_width), dropout(Dropout::of(drop)) {
    const Packed p = sizes.packed();
    qkv = random_values(static_cast<std::size_t>(p.tokens() * 3 * width), 1);
    bias = random_values(static_cast<std::size_t>(heads * p.token_pairs()), 2);
    dout = random_values(static_cast<std::size_t>(p.tokens() * width), 3);
    dbias = random_values(bias.size(), 4);
    for (std::int64_t b = 0; b < p.molecules; ++b) key.push_back(molecule_key(7, 1, static_cast<std::uint64_t>(b)));
  }
  std::int64_t head_width() const { return width / heads; }
  double scale() const { return static_cast<float>(1 / std::sqrt(static_cast<double>(head_width()))); }
  template <class T>
  Case as_stored() const {
    Case c(*this);
    c.qkv = rounded<T>(qkv);
    c.bias = rounded<T>(bias);
    c.dout = rounded<T>(dout);
    c.dbias = rounded<Wide<T>>(dbias);
    return c;
  }
  template <class T>
  AttentionInput<T> input(const Packed& packed, const T* qkv_at, const T* bias_at, const std::uint64_t* keys) const {
    return {packed,
            heads,
            width,
            qkv_at,
            bias.empty() ? nullptr : bias_at,
            static_cast<Wide<T>>(scale()),
            dropout,
            kLayer,
            dropout.active() ? keys : nullptr};
  }
};

struct Results {
  std::vector<double> out, dqkv, dbias;
};

/// The fp64 CPU version on what the case holds.
Results on_cpu(const Case& c, bool bias_gradient = true) {
  Cpu cpu(1);
  const auto in = c.input(c.sizes.packed(), c.qkv.data(), c.bias.data(), c.key.data());
  Results r{std::vector<double>(c.dout.size()), std::vector<double>(c.qkv.size()), c.dbias};
  attention_forward(cpu, AttentionForward<double>{in, r.out.data()});
  attention_backward(
      cpu, AttentionBackward<double>{in, c.dout.data(), r.dqkv.data(), bias_gradient ? r.dbias.data() : nullptr});
  return r;
}

template <class T>
struct GpuResults {
  std::vector<T> out, dqkv;
  std::vector<Wide<T>> dbias;
  Results wide() const { return {as_double(out), as_double(dqkv), as_double(dbias)}; }
};

template <class T>
GpuResults<T> on_gpu(Gpu& gpu, const Case& c, bool bias_gradient = true) {
  const DevicePacked packed(gpu, c.sizes.packed());
  const DeviceVector<T> qkv(gpu, stored<T>(c.qkv)), bias(gpu, stored<T>(c.bias)), dout(gpu, stored<T>(c.dout));
  const DeviceVector<Wide<T>> dbias(gpu, stored<Wide<T>>(c.dbias));
  const DeviceVector<std::uint64_t> key(gpu, c.key);
  const std::vector<T> nan(c.qkv.size(),
                           narrow<T>(std::numeric_limits<Wide<T>>::quiet_NaN()));  // both outputs are overwritten
  const DeviceVector<T> out(gpu, std::vector<T>(nan.begin(), nan.begin() + static_cast<std::ptrdiff_t>(c.dout.size()))),
      dqkv(gpu, nan);
  const auto in = c.input<T>(packed.packed(), qkv.data(), bias.data(), key.data());
  attention_forward(gpu, AttentionForward<T>{in, out.data()});
  attention_backward(gpu, AttentionBackward<T>{in, dout.data(), dqkv.data(), bias_gradient ? dbias.data() : nullptr});
  return {out.host(), dqkv.host(), dbias.host()};
}

/// As separate kernels have it: scores, biased scores, probabilities, dropped probabilities and their gradients are arrays in bf16.
Results plain_bf16(const Case& c) {
  const Packed p = c.sizes.packed();
  const std::int64_t d = c.head_width(), ld = 3 * c.width;
  Results r{std::vector<double>(c.dout.size()), std::vector<double>(c.qkv.size()), c.dbias};
  for (std::int64_t b = 0; b < p.molecules; ++b) {
    const std::int64_t n = p.atoms_of(b) + 1, token = p.token_offset(b), stride = (n + 7) / 8 * 8;
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const auto q = [&](std::int64_t i, std::int64_t f) {
        return static_cast<std::size_t>((token + i) * ld + h * d + f);
      };
      const auto o = [&](std::int64_t i, std::int64_t f) {
        return static_cast<std::size_t>((token + i) * c.width + h * d + f);
      };
      const auto w = static_cast<std::size_t>(c.width);
      std::vector<std::vector<double>> dropped(static_cast<std::size_t>(n)), ds(static_cast<std::size_t>(n));
      for (std::int64_t i = 0; i < n; ++i) {
        std::vector<double> s(static_cast<std::size_t>(n)), factor(s.size(), 1), dp(s.size());
        double largest = -INFINITY, sum = 0, delta = 0;
        for (std::int64_t j = 0; j < n; ++j) {
          double x = 0;
          for (std::int64_t f = 0; f < d; ++f) x += c.qkv[q(i, f)] * c.qkv[q(j, f) + w];
          x = in_bf16(in_bf16(x * c.scale()) +
                      (c.bias.empty()
                           ? 0
                           : c.bias[static_cast<std::size_t>(c.heads * p.token_pair_offset[b] + (h * n + i) * n + j)]));
          s[static_cast<std::size_t>(j)] = x;
          largest = std::max(largest, x);
        }
        for (double& x : s) sum += x = std::exp(x - largest);
        for (std::int64_t j = 0; j < n; ++j) {
          const auto at = static_cast<std::size_t>(j);
          s[at] = in_bf16(s[at] / sum);
          const auto element = static_cast<std::uint32_t>((h * n + i) * stride + j);
          if (c.dropout.active()) {
            const PhiloxWords words =
                philox(c.key[static_cast<std::size_t>(b)], element / 8, Draw::attention_dropout, kLayer);
            factor[at] = c.dropout.keeps(words, element) ? c.dropout.scale : 0;
          }
          dropped[static_cast<std::size_t>(i)].push_back(in_bf16(s[at] * factor[at]));
          double x = 0;
          for (std::int64_t f = 0; f < d; ++f) x += c.dout[o(i, f)] * c.qkv[q(j, f) + 2 * w];
          dp[at] = in_bf16(in_bf16(x) * factor[at]);
          delta += s[at] * dp[at];
        }
        for (std::int64_t j = 0; j < n; ++j) {
          const auto at = static_cast<std::size_t>(j);
          const double x = in_bf16(s[at] * (dp[at] - delta));
          ds[static_cast<std::size_t>(i)].push_back(x);
          r.dbias[static_cast<std::size_t>(c.heads * p.token_pair_offset[b] + (h * n + i) * n + j)] += x;
        }
      }
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t f = 0; f < d; ++f) {
          double out = 0, dq = 0, dk = 0, dv = 0;
          for (std::int64_t j = 0; j < n; ++j) {
            const auto row = static_cast<std::size_t>(i), column = static_cast<std::size_t>(j);
            out += dropped[row][column] * c.qkv[q(j, f) + 2 * w];
            dq += ds[row][column] * c.qkv[q(j, f) + w];
            dk += ds[column][row] * c.qkv[q(j, f)];
            dv += dropped[column][row] * c.dout[o(j, f)];
          }
          r.out[o(i, f)] = in_bf16(out);
          r.dqkv[q(i, f)] = in_bf16(dq * c.scale());
          r.dqkv[q(i, f) + w] = in_bf16(dk * c.scale());
          r.dqkv[q(i, f) + 2 * w] = in_bf16(dv);
        }
    }
  }
  return r;
}

void expect_float(Gpu& gpu, const Case& given) {
  const Case c = given.as_stored<float>();
  const Results truth = on_cpu(c), ours = on_gpu<float>(gpu, c).wide();
  // Scores of size up to ~10 carry an error of ~10 · 6e-8 · √d into the exponential, and from there into everything.
  expect_close<double, double>(ours.out, truth.out, 1e-5, 1, "out");
  expect_close<double, double>(ours.dqkv, truth.dqkv, 2e-5, 1, "dqkv");
  expect_close<double, double>(ours.dbias, truth.dbias, 2e-5, 1, "dbias");
}

void expect_bf16(Gpu& gpu, const Case& given) {
  const Case c = given.as_stored<bf16>();
  const Results truth = on_cpu(c), plain = plain_bf16(c), ours = on_gpu<bf16>(gpu, c).wide();
  expect_within_plain_bf16(ours.out, plain.out, truth.out, 2, "out");
  expect_within_plain_bf16(ours.dqkv, plain.dqkv, truth.dqkv, 3, "dqkv");
  expect_within_plain_bf16(ours.dbias, plain.dbias, truth.dbias, 3, "dbias");
}

class Attention : public testing::CudaTest {
 protected:
  void check(const Case& c) {
    SCOPED_TRACE(::testing::Message() << "head width " << c.head_width() << ", dropout " << c.dropout.threshold);
    expect_float(gpu(), c);
    expect_bf16(gpu(), c);
  }
};

// Tokens: 15, 2, 32, 33, 17, 8, 24, 25, 16: both sides of what separates the classes.
const std::initializer_list<int> kMolecules = {14, 1, 31, 32, 16, 7, 23, 24, 15};

TEST_F(Attention, HeadWidthsWithVariants) {
  for (const std::int64_t d : {16, 24, 32, 64}) check(Case(kMolecules, 3, d, 0.1));
}

TEST_F(Attention, OtherHeadWidths) {
  for (const std::int64_t d : {1, 5, 12, 48}) check(Case({14, 1, 33, 18}, 3, d, 0.1));
  check(Case({9, 1}, 2, 100, 0.1));  // four lanes a row
  check(Case({9, 1}, 1, 136, 0.1));  // eight
}

TEST_F(Attention, ManyHeads) {
  check(Case({9, 14}, 11, 8, 0.1));  // more than a block has
}

TEST_F(Attention, LargerMolecules) {
  check(Case({63, 2, 64, 40}, 2, 24, 0.1));
  check(Case({70}, 1, 64, 0.1));
  check(Case({70, 30}, 2, 16, 0.1));
}

TEST_F(Attention, LargestMolecules) {
  check(Case({127, 128, 3}, 1, 24, 0.1));
  check(Case({150}, 1, 64, 0.1));
}

TEST_F(Attention, WithoutDropout) {
  check(Case({14, 30, 35}, 2, 24, 0));
}

TEST_F(Attention, WithoutBias) {
  Case c({14, 35, 3}, 2, 24, 0.1);
  c.bias.clear();
  check(c);  // its gradient may be wanted all the same
}

TEST_F(Attention, BiasGradientMayBeLeftOut) {
  for (const std::int64_t d : {24, 64}) {
    const Case c({14, 35, 3}, 2, d, 0.1);
    const auto with = on_gpu<float>(gpu(), c), without = on_gpu<float>(gpu(), c, false);
    EXPECT_EQ(with.dqkv, without.dqkv);
    EXPECT_EQ(without.dbias, stored<float>(c.dbias));
    const auto with_bf16 = on_gpu<bf16>(gpu(), c), without_bf16 = on_gpu<bf16>(gpu(), c, false);
    EXPECT_EQ(as_double(with_bf16.dqkv), as_double(without_bf16.dqkv));
    EXPECT_EQ(without_bf16.dbias, stored<float>(c.dbias));
  }
}

template <class T>
void expect_same_twice(Gpu& gpu, const Case& c) {
  expect_same_bytes_twice([&] { return on_gpu<T>(gpu, c).out; }, "out");
  expect_same_bytes_twice([&] { return on_gpu<T>(gpu, c).dqkv; }, "dqkv");
  expect_same_bytes_twice([&] { return on_gpu<T>(gpu, c).dbias; }, "dbias");
}

TEST_F(Attention, SameBytesTwice) {
  const Case c({14, 40, 3}, 2, 24, 0.1);
  expect_same_twice<float>(gpu(), c);
  expect_same_twice<bf16>(gpu(), c);
}

template <class T>
void expect_alone_as_in_batch(Gpu& gpu) {
  const Case both({9, 20}, 2, 24, 0.1);
  Case first({9}, 2, 24, 0.1);
  first.qkv.assign(both.qkv.begin(), both.qkv.begin() + static_cast<std::ptrdiff_t>(first.qkv.size()));
  first.bias.assign(both.bias.begin(), both.bias.begin() + static_cast<std::ptrdiff_t>(first.bias.size()));
  auto all = as_double(on_gpu<T>(gpu, both).out);
  const auto alone = as_double(on_gpu<T>(gpu, first).out);
  all.resize(alone.size());
  EXPECT_EQ(all, alone);
}

TEST_F(Attention, OneBatchOrManyIsTheSame) {
  expect_alone_as_in_batch<float>(gpu());
  expect_alone_as_in_batch<bf16>(gpu());
}

template <class T>
void expect_nan_stays_in_its_row(Gpu& gpu, int atoms) {
  Case given({6, atoms}, 2, 8, 0);
  const Packed p = given.sizes.packed();
  // −∞ hides a token, also one that a row's first tiles consist of; only that.
  given.bias[1] = -INFINITY;
  const auto second = static_cast<std::size_t>(given.heads * p.token_pair_offset[1]);
  const auto tokens = static_cast<std::size_t>(atoms) + 1;
  for (std::size_t j = 0; j + 5 < tokens; ++j) given.bias[second + tokens + j] = -INFINITY;
  Case c = given.as_stored<T>();
  const Results truth = on_cpu(c);
  expect_close<double, double>(on_gpu<T>(gpu, c).wide().out, truth.out, 2e-2, 1,
                               "hidden tokens");  // bf16's two units; a missed mask is of order one
  expect_close<double, double>(on_gpu<T>(gpu, c).wide().dqkv, truth.dqkv, 2e-2, 1, "hidden tokens, dqkv");
  c.bias[second] = std::numeric_limits<double>::quiet_NaN();
  const auto out = on_gpu<T>(gpu, c).wide().out;
  for (std::int64_t t = 0; t < p.tokens(); ++t)
    for (std::int64_t f = 0; f < c.width; ++f)
      EXPECT_EQ(std::isnan(out[static_cast<std::size_t>(t * c.width + f)]), t == p.token_offset(1) && f < 8)
          << t << " " << f;
}

TEST_F(Attention, NanAndInfinity) {
  for (const int atoms : {20, 40}) {
    expect_nan_stays_in_its_row<float>(gpu(), atoms);
    expect_nan_stays_in_its_row<bf16>(gpu(), atoms);
  }
}

TEST_F(Attention, NoMolecules) {
  const Case c({}, 2, 24, 0.1);
  EXPECT_TRUE(on_gpu<float>(gpu(), c).out.empty());
  EXPECT_TRUE(on_gpu<bf16>(gpu(), c).out.empty());
}

TEST_F(Attention, HeadsThatAreTooWideAreRefused) {
  const Case c({2}, 1, 1032, 0);
  EXPECT_THROW(on_gpu<float>(gpu(), c), GpuError);
}

}  // namespace
}  // namespace moleblend
