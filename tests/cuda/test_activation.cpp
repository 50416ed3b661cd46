// gelu and its dropout on the GPU: the function alone, and the operation against the fp64 CPU version.

#include "kernels/activation/activation.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

using Vec = std::vector<double>;

constexpr std::uint32_t kLayer = 3;

template <class T>
struct Case {
  PackedSizes sizes;
  Packed packed = sizes.packed();
  std::int64_t features;
  Dropout dropout;
  std::vector<std::uint64_t> key;
  Vec x, dy;

  Case(PackedSizes s, std::int64_t f, double p) : sizes(std::move(s)), features(f), dropout(Dropout::of(p)) {
    const auto count = static_cast<std::size_t>(packed.tokens() * f);
    for (std::int64_t b = 0; b < packed.molecules; ++b) key.push_back(static_cast<std::uint64_t>(9 - b));
    x = rounded<T>(random_values(count, 1, 2));
    dy = rounded<T>(random_values(count, 2));
  }

  struct Result {
    Vec y, dx, dx_sum;
    bool operator==(const Result&) const = default;
  };
  Result truth() const {
    Cpu cpu(1);
    Result r{Vec(x.size()), Vec(x.size()), Vec(static_cast<std::size_t>(features), 1)};
    gelu_forward<double>(cpu, {packed, packed.tokens(), features, x.data(), dropout, kLayer, key.data(), r.y.data()});
    gelu_backward<double>(
        cpu, {packed, packed.tokens(), features, x.data(), dropout, kLayer, key.data(), dy.data(), r.dx.data()});
    for (std::size_t k = 0; k < x.size(); ++k) r.dx_sum[k % r.dx_sum.size()] += r.dx[k];
    return r;
  }
  Result run(Gpu& gpu, bool in_place = false, bool sum = true) const {
    const DevicePacked p(gpu, packed);
    const DeviceVector<T> xd(gpu, stored<T>(x)), dyd(gpu, stored<T>(dy));
    const DeviceVector<std::uint64_t> kd(gpu, key);
    const DeviceVector<T> y = unset<T>(gpu, x.size()), dx = unset<T>(gpu, x.size());
    const DeviceVector<float> dx_sum(gpu, std::vector<float>(static_cast<std::size_t>(features), 1));  // added to
    gelu_backward<T>(gpu, {p.packed(), packed.tokens(), features, xd.data(), dropout, kLayer, kd.data(), dyd.data(),
                           in_place ? dyd.data() : dx.data(), sum ? dx_sum.data() : nullptr});
    gelu_forward<T>(gpu, {p.packed(), packed.tokens(), features, xd.data(), dropout, kLayer, kd.data(),
                          in_place ? xd.data() : y.data()});
    return {as_double((in_place ? xd : y).host()), as_double((in_place ? dyd : dx).host()), as_double(dx_sum.host())};
  }
  /// Plain bf16: gelu and dropout are separate and store bf16.
  Result plain() const {
    Cpu cpu(1);
    Result r{Vec(x.size()), Vec(x.size()), Vec(static_cast<std::size_t>(features), 1)};
    Vec factor;
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      Vec f(static_cast<std::size_t>((packed.atoms_of(b) + 1) * features));
      dropout_factors(key[static_cast<std::size_t>(b)], Draw::activation_dropout, kLayer, 0,
                      static_cast<std::int64_t>(f.size()), dropout, f.data());
      factor.insert(factor.end(), f.begin(), f.end());
    }
    for (std::size_t k = 0; k < x.size(); ++k) {
      r.y[k] = in_bf16(factor[k] * in_bf16(gelu(x[k])));
      r.dx[k] = in_bf16(gelu_derivative(x[k]) * in_bf16(factor[k] * dy[k]));
    }
    return r;
  }
};

template <class T, class F>
void for_each_case(F&& f) {
  const auto run = [&](PackedSizes sizes, std::int64_t features, double p) {
    SCOPED_TRACE(::testing::Message() << "features " << features << ", p " << p);
    f(Case<T>(std::move(sizes), features, p));
  };
  for (const double p : {0.0, 0.3}) {
    for (const std::int64_t features : {13, 64, 768}) run(PackedSizes{1, 14, 3, 0, 33}, features, p);
    // Rows longer than a block's share, and neither a multiple nor a divisor of its threads.
    run(PackedSizes{1, 2}, 8200, p);
    run(PackedSizes{0}, 8, p);
  }
}

template <class T>
void check(Gpu& gpu) {
  for_each_case<T>([&](const Case<T>& c) {
    const auto truth = c.truth(), ours = c.run(gpu);
    if constexpr (std::is_same_v<T, float>) {
      // The functions' 4e-7 (see gelu.cuh), times factors and cotangents up to 5.
      expect_close<double, double>(ours.y, truth.y, 2e-6, 1, "y");
      expect_close<double, double>(ours.dx, truth.dx, 2e-6, 1, "dx");
    } else if (!c.x.empty()) {
      const auto plain = c.plain();
      expect_within_plain_bf16(ours.y, plain.y, truth.y, 2, "y");
      expect_within_plain_bf16(ours.dx, plain.dx, truth.dx, 3, "dx");
    }
    // What dropout drops is exactly zero, and no other gradient is.
    for (std::size_t k = 0; k < truth.dx.size(); ++k) {
      ASSERT_EQ(ours.dx[k] == 0, truth.dx[k] == 0) << k;
      ASSERT_TRUE(ours.y[k] == 0 || truth.y[k] != 0) << k;
    }
    // Sums of 56 values of order one in float. In bf16 the derivative is off by up to 2e-4, of either sign (gelu.cuh); where rows are no whole
    // octets, what is stored is summed: 56 roundings with an rms of 0.0016 of a value.
    expect_close<double, double>(ours.dx_sum, truth.dx_sum,
                                 std::is_same_v<T, float> ? 1e-5
                                 : c.features % 8 == 0    ? 2e-3
                                                          : 2e-2,
                                 1, "dx_sum");
    auto alone = c.run(gpu, false, false);
    EXPECT_TRUE(alone.dx == ours.dx && alone.dx_sum == Vec(alone.dx_sum.size(), 1)) << "without the sum";
    EXPECT_TRUE(c.run(gpu) == ours) << "two runs differ";
    EXPECT_TRUE(c.run(gpu, true) == ours) << "in place";
  });
}

class Activation : public CudaTest {};

TEST_F(Activation, Float) {
  check<float>(gpu());
}
TEST_F(Activation, Bf16) {
  check<bf16>(gpu());
}

TEST_F(Activation, IsAccurateEverywhere) {
  std::vector<float> x;
  for (float v = -15; v < 15; v += 0.0131f) x.push_back(v);
  for (const float v : {1e-30f, -1e-20f, 3e-8f, -1e30f, 1e30f, 0.0f}) x.push_back(v);
  const auto n = static_cast<std::int64_t>(x.size());
  ASSERT_NE(n % 8, 0) << "the last elements are to be a tail";
  const DeviceVector<float> xd(gpu(), x), one(gpu(), std::vector<float>(x.size(), 1)),
      y = unset<float>(gpu(), x.size()), dx = unset<float>(gpu(), x.size());
  // Without dropout, rows need no molecules.
  gelu_forward<float>(gpu(), {Packed{}, n, 1, xd.data(), {}, 0, nullptr, y.data()});
  gelu_backward<float>(gpu(), {Packed{}, 1, n, xd.data(), {}, 0, nullptr, one.data(), dx.data()});
  const auto yh = y.host(), dxh = dx.host();
  for (std::size_t k = 0; k < x.size(); ++k) {
    const double value = x[k], scale = std::max(1.0, std::abs(value));
    ASSERT_TRUE(std::abs(yh[k] - gelu(value)) <= 2e-7 * scale) << value;
    ASSERT_TRUE(std::abs(dxh[k] - gelu_derivative(value)) <= 4e-7) << value;
  }
}

TEST_F(Activation, Bf16IsAccurateEverywhere) {
  std::vector<double> x;
  for (double v = -15; v < 15; v += 0.0131) x.push_back(in_bf16(v));
  for (const double v : {1e-30, -1e-20, 3e-8, -1e30, 1e30, 0.0}) x.push_back(in_bf16(v));
  const auto n = static_cast<std::int64_t>(x.size());
  const DeviceVector<bf16> xd(gpu(), stored<bf16>(x)), one(gpu(), std::vector<bf16>(x.size(), to_bf16(1.0f))),
      y = unset<bf16>(gpu(), x.size()), dx = unset<bf16>(gpu(), x.size());
  gelu_forward<bf16>(gpu(), {Packed{}, n, 1, xd.data(), {}, 0, nullptr, y.data()});
  gelu_backward<bf16>(gpu(), {Packed{}, 1, n, xd.data(), {}, 0, nullptr, one.data(), dx.data()});
  const auto yh = as_double(y.host()), dxh = as_double(dx.host());
  // Rounding makes up to 2⁻⁸ of a value; the functions add a tenth of that, the derivative in absolute terms (gelu.cuh). Of what is left
  // beyond x = −6 only the size is told.
  const double rounding = std::ldexp(1.0, -8);
  for (std::size_t k = 0; k < x.size(); ++k) {
    ASSERT_TRUE(std::abs(yh[k] - gelu(x[k])) <= (rounding + 4e-4) * std::abs(gelu(x[k])) + (x[k] < -6 ? 1e-8 : 1e-37))
        << x[k];
    ASSERT_TRUE(std::abs(dxh[k] - gelu_derivative(x[k])) <= rounding * std::abs(gelu_derivative(x[k])) + 2e-4) << x[k];
  }
}

template <class T>
void check_nan(Gpu& gpu) {
  const DeviceVector<T> x(gpu, std::vector<T>(9, narrow<T>(std::numeric_limits<float>::quiet_NaN()))),
      one(gpu, std::vector<T>(9, narrow<T>(1.0f))), y(gpu, std::vector<T>(9)), dx(gpu, std::vector<T>(9));
  gelu_forward<T>(gpu, {Packed{}, 3, 3, x.data(), {}, 0, nullptr, y.data()});
  gelu_backward<T>(gpu, {Packed{}, 3, 3, x.data(), {}, 0, nullptr, one.data(), dx.data()});
  for (const T v : y.host()) EXPECT_TRUE(std::isnan(to_float(v)));
  for (const T v : dx.host()) EXPECT_TRUE(std::isnan(to_float(v)));
}

TEST_F(Activation, NanStaysVisible) {
  check_nan<float>(gpu());
  check_nan<bf16>(gpu());
}

TEST_F(Activation, NoRowsAreNothingToDo) {
  gelu_forward<float>(gpu(), {Packed{}, 0, 5, nullptr, {}, 0, nullptr, nullptr});
  gelu_backward<bf16>(gpu(), {Packed{}, 0, 8, nullptr, Dropout::of(0.1), 0, nullptr, nullptr, nullptr});
  gpu().wait();
}

}  // namespace
}  // namespace moleblend::testing
