// The primitives of kernels/common/cuda/cuda.cuh. On a GPU the instructions are tested against what their twins in the executor are
// written from: the fragment layouts of the PTX manual.

#include <limits>

#include "kernels/random/philox.h"
#include "tests/cuda/device.h"
#include "tests/cuda/primitives.h"

namespace moleblend::testing {
namespace {

class Primitives : public CudaTest {};

/// Small whole numbers, exact in bf16 and in every sum.
std::vector<bf16> small_integers(std::size_t count, unsigned seed) {
  std::mt19937 g(seed);
  std::vector<bf16> v(count);
  for (bf16& x : v) x = to_bf16(static_cast<float>(static_cast<int>(g() % 17) - 8));
  return v;
}

TEST_F(Primitives, MatrixProductOfATile) {
  const auto a = small_integers(16 * 16, 1), b = small_integers(16 * 8, 2), start = small_integers(16 * 8, 3);
  std::vector<float> c(start.size());
  std::transform(start.begin(), start.end(), c.begin(), [](bf16 x) { return to_float(x); });
  const DeviceVector<bf16> da(gpu(), a), db(gpu(), b);
  const DeviceVector<float> dc(gpu(), c);
  DeviceVector<float> d(gpu(), c.size());
  multiply_tile(gpu(), da.data(), db.data(), dc.data(), d.data());
  const auto product = d.host();
  for (std::size_t i = 0; i < 16; ++i)
    for (std::size_t j = 0; j < 8; ++j) {
      float sum = c[i * 8 + j];
      for (std::size_t k = 0; k < 16; ++k) sum += to_float(a[i * 16 + k]) * to_float(b[k * 8 + j]);
      EXPECT_EQ(product[i * 8 + j], sum) << i << ", " << j;
    }
}

TEST_F(Primitives, MatricesFromSharedMemory) {
  std::vector<std::uint16_t> rows(32 * 8);
  for (std::size_t k = 0; k < rows.size(); ++k) rows[k] = static_cast<std::uint16_t>(1000 + 7 * k);
  const DeviceVector<std::uint16_t> from(gpu(), rows);
  for (const bool transposed : {false, true}) {
    DeviceVector<std::uint32_t> words(gpu(), 32 * 4);
    load_matrices(gpu(), transposed, from.data(), words.data());
    const auto found = words.host();
    for (std::size_t lane = 0; lane < 32; ++lane)
      for (std::size_t m = 0; m < 4; ++m) {
        const auto element = [&](std::size_t half) -> std::uint32_t {
          const std::size_t i = lane / 4, j = 2 * (lane % 4) + half;
          return transposed ? rows[(m * 8 + j) * 8 + i] : rows[(m * 8 + i) * 8 + j];
        };
        EXPECT_EQ(found[lane * 4 + m], element(0) | element(1) << 16) << "lane " << lane << ", matrix " << m;
      }
  }
}

TEST_F(Primitives, TransposeOfAMatrix) {
  std::vector<std::uint16_t> values(64);
  for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<std::uint16_t>(300 + 11 * k);
  const DeviceVector<std::uint16_t> from(gpu(), values);
  DeviceVector<std::uint32_t> words(gpu(), 32);
  transpose_matrix(gpu(), from.data(), words.data());
  const auto found = words.host();
  for (std::size_t lane = 0; lane < 32; ++lane) {
    const std::size_t i = lane / 4, j = 2 * (lane % 4);
    EXPECT_EQ(found[lane], values[j * 8 + i] | std::uint32_t{values[(j + 1) * 8 + i]} << 16) << "lane " << lane;
  }
}

TEST_F(Primitives, AsynchronousCopiesFillWithZeros) {
  std::vector<std::uint32_t> values(12);
  std::iota(values.begin(), values.end(), 100u);
  const DeviceVector<std::uint32_t> from(gpu(), values);
  DeviceVector<std::uint32_t> to(gpu(), 12);
  copy_asynchronously(gpu(), from.data(), to.data());
  // Each thread writes what the next one copied: 8 bytes and zeros, all zeros, 16 bytes.
  EXPECT_EQ(to.host(), (std::vector<std::uint32_t>{104, 105, 0, 0, 0, 0, 0, 0, 100, 101, 102, 103}));
}

TEST_F(Primitives, NamedBarriersHandOver) {
  DeviceVector<std::int32_t> to(gpu(), 5 * 32);
  hand_over(gpu(), 5, to.data());
  const auto found = to.host();
  for (int round = 0; round < 5; ++round)
    for (int lane = 0; lane < 32; ++lane)
      EXPECT_EQ(found[static_cast<std::size_t>(round * 32 + lane)], 100 * round + 31 - lane);
}

TEST_F(Primitives, RoundingIsTheHosts) {
  // Ties to even both ways, numbers that round up to a power of two and to infinity, denormals, zeros, and what is not finite.
  std::vector<float> x = {1.0f,
                          1.00390625f,
                          1.01171875f,
                          1.998f,
                          -3.14159f,
                          1e-40f,
                          -1e-45f,
                          3.4e38f,
                          -0.0f,
                          0.0f,
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()};
  for (const double v : random_values(52, 7)) x.push_back(static_cast<float>(v));
  x.push_back(std::numeric_limits<float>::quiet_NaN());
  x.push_back(0);
  const DeviceVector<float> from(gpu(), x);
  DeviceVector<bf16> rounded(gpu(), x.size());
  DeviceVector<std::uint32_t> packed(gpu(), x.size() / 2);
  round_values(gpu(), static_cast<int>(x.size()), from.data(), rounded.data(), packed.data());
  const auto one = rounded.host();
  const auto two = packed.host();
  for (std::size_t k = 0; k < x.size(); ++k) {
    const auto half = static_cast<std::uint16_t>(two[k / 2] >> (16 * (k % 2)));
    if (std::isnan(x[k])) {
      EXPECT_TRUE(std::isnan(to_float(one[k])) && std::isnan(to_float(bf16{half})));
    } else {
      EXPECT_EQ(one[k].bits, to_bf16(x[k]).bits) << x[k];
      EXPECT_EQ(half, to_bf16(x[k]).bits) << x[k];
    }
  }
}

TEST_F(Primitives, ReductionsAreTheSameOnEveryLane) {
  const auto values = as<float>(random_values(32, 9));
  const DeviceVector<float> from(gpu(), values);
  DeviceVector<float> sums(gpu(), 32), largest(gpu(), 32);
  reduce_warp(gpu(), from.data(), sums.data(), largest.data());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  for (const float s : sums.host()) {
    EXPECT_NEAR(s, sum, 1e-5);  // 31 additions of numbers of order one in fp32
    EXPECT_EQ(s, sums.host()[0]);
  }
  for (const float m : largest.host()) EXPECT_EQ(m, *std::max_element(values.begin(), values.end()));
}

TEST_F(Primitives, PiecesOfMemory) {
  const auto values = small_integers(64, 5);
  const DeviceVector<bf16> from(gpu(), values);
  DeviceVector<bf16> to(gpu(), values.size());
  double_in_pieces(gpu(), 64, from.data(), to.data());
  const auto found = to.host();
  for (std::size_t k = 0; k < values.size(); ++k) EXPECT_EQ(to_float(found[k]), 2 * to_float(values[k]));
}

TEST_F(Primitives, PhiloxIsTheHosts) {
  const std::uint64_t key = molecule_key(3, 1, 4);
  DeviceVector<std::uint32_t> words(gpu(), 32 * 12);
  draw_words(gpu(), key, words.data());
  const auto found = words.host();
  for (std::uint32_t lane = 0; lane < 32; ++lane)
    for (std::uint32_t k = 0; k < 4; ++k) {
      EXPECT_EQ(found[12 * lane + k], philox(key, lane, Draw::attention_dropout, 3).word[k]);
      EXPECT_EQ(found[12 * lane + 4 + k], philox(key, lane + 100, Draw::hidden_dropout, 5).word[k]);
      EXPECT_EQ(found[12 * lane + 8 + k], philox(key, 7 * lane, Draw::drop_path, 5).word[k]);
    }
}

TEST_F(Primitives, DropoutIsTheHosts) {
  for (const double p : {0.0, 0.1, 0.5, 0.99}) {
    const Dropout dropout = Dropout::of(p);
    // Halves at the threshold and beside it, with all and no bits in the other half.
    std::vector<std::uint32_t> words;
    for (const std::uint32_t half : {dropout.threshold - 1, dropout.threshold, dropout.threshold + 1, 0u, 65535u}) {
      for (const std::uint32_t other : {0u, 0xFFFFu, 0x1234u})
        for (const int shift : {0, 16}) words.push_back((half & 0xFFFF) << shift | other << (16 - shift));
    }
    words.resize(32, 0x00010000);
    const DeviceVector<std::uint32_t> from(gpu(), words);
    DeviceVector<std::uint32_t> kept(gpu(), 64);
    keep_halves(gpu(), dropout, from.data(), kept.data());
    const auto found = kept.host();
    for (std::size_t k = 0; k < words.size(); ++k)
      for (unsigned half = 0; half < 2; ++half)
        EXPECT_EQ(found[2 * k + half], dropout.keeps({{words[k]}}, half)) << std::hex << words[k] << ", p " << p;
  }
}

TEST_F(Primitives, PowersOfTwo) {
  std::vector<float> x = {0, 1, -1, 0.5f, -125.5f, -126, 127.5f, 10.3f, -60.7f, 1e-20f};
  const std::size_t finite = x.size();
  for (const float v : {-127.0f, -200.0f, -std::numeric_limits<float>::infinity()}) x.push_back(v);  // zero
  x.push_back(std::numeric_limits<float>::infinity());
  x.push_back(std::numeric_limits<float>::quiet_NaN());
  const DeviceVector<float> from(gpu(), x);
  DeviceVector<float> power(gpu(), x.size());
  powers_of_two(gpu(), static_cast<int>(x.size()), from.data(), power.data());
  const auto found = power.host();
  // 2 units in the last place, as the PTX manual says of ex2.approx.
  for (std::size_t k = 0; k < finite; ++k) EXPECT_NEAR(found[k] / std::exp2(double{x[k]}), 1, 2.4e-7) << x[k];
  for (std::size_t k = finite; k < finite + 3; ++k) EXPECT_EQ(found[k], 0) << x[k];
  EXPECT_TRUE(std::isinf(found[finite + 3]));
  EXPECT_TRUE(std::isnan(found[finite + 4]));
}

}  // namespace
}  // namespace moleblend::testing
