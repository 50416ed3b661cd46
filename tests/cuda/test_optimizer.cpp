// Global norm, clipping and Adam on the GPU.

#include <limits>

#include "kernels/optimizer/optimizer.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

class OptimizerCuda : public CudaTest {};

constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

/// Norm of what begins `shift` values into an aligned block.
double norm_of(Gpu& gpu, const std::vector<float>& values, std::size_t shift = 0) {
  const DeviceVector g(gpu, values);
  const DeviceVector norm(gpu, std::vector<double>{-1});
  global_norm(gpu, std::int64_t(values.size() - shift), g.data() + shift, norm.data());
  return norm.host()[0];
}

TEST_F(OptimizerCuda, NormIsTheRootOfTheSumOfSquares) {
  Cpu cpu(1);
  for (const std::size_t count : {0u, 1u, 3u, 1023u, 16384u, 16385u, 50003u}) {
    for (const std::size_t shift : {0u, 1u}) {
      const auto values = as<float>(random_values(count + shift, 1, 1e-3));
      const auto ours = [&] { return std::vector{norm_of(gpu(), values, shift)}; };
      double expected = kNan;
      global_norm(cpu, std::int64_t(count), values.data() + shift, &expected);
      // Squares of floats are exact in double, and a sum of so many is off by at most count · 2⁻⁵³ in any order; the root halves it.
      EXPECT_NEAR(ours()[0], expected, double(count) * 0x1p-53 * expected) << count;
      EXPECT_TRUE(count == 0 || ours()[0] > 0);
      expect_same_bytes_twice(ours, "norm");
    }
  }
}

TEST_F(OptimizerCuda, NormOfMoreValuesThanOneRoundOfPiecesHolds) {
  // More than 256 pieces of 16,384; the last values count as much as the first.
  std::vector<float> values((std::size_t{256} << 14) + 5);
  values.front() = 3;
  values[values.size() - 7] = 4;
  values.back() = 12;
  EXPECT_EQ(norm_of(gpu(), values), 13);
}

TEST_F(OptimizerCuda, NormOfSquaresBeyondFloatIsFinite) {
  EXPECT_NEAR(norm_of(gpu(), std::vector<float>(10, 1e30f)), std::sqrt(10.0) * 1e30, 1e24);
}

TEST_F(OptimizerCuda, NonFiniteComesThrough) {
  auto g = as<float>(random_values(20000, 1));
  g[19999] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isinf(norm_of(gpu(), g)));
  g[5000] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(norm_of(gpu(), g)));
}

struct State {
  std::vector<float> p, m, v;
};
/// Every array begins `shift` values into an aligned block.
struct DeviceState {
  std::size_t shift;
  DeviceVector<float> p, m, v;
  DeviceVector<bf16> shadow;

  DeviceState(Gpu& gpu, const State& s, std::size_t by)
      : shift(by),
        p(shifted(gpu, s.p)),
        m(shifted(gpu, s.m)),
        v(shifted(gpu, s.v)),
        shadow(gpu, std::vector<bf16>(s.p.size() + by, {7})) {}
  DeviceVector<float> shifted(Gpu& gpu, std::vector<float> values) const {
    values.insert(values.begin(), shift, -77.0f);
    return {gpu, values};
  }
  template <class T>
  std::vector<T> host(const DeviceVector<T>& from) const {
    auto values = from.host();
    values.erase(values.begin(), values.begin() + std::ptrdiff_t(shift));
    return values;
  }
  State host() const { return {host(p), host(m), host(v)}; }
};

struct Update {
  double clip_norm = 1, learning_rate = 1e-2, weight_decay = 0;
  std::int64_t step = 1;
  bool shadow = true;
};
void update(Gpu& gpu, const DeviceState& s, const std::vector<float>& gradient, double norm, const Update& u) {
  const DeviceVector g(gpu, [&] {
    auto values = gradient;
    values.insert(values.begin(), s.shift, -77.0f);
    return values;
  }());
  const DeviceVector device_norm(gpu, std::vector{norm});
  adam(gpu, Adam<float>{.count = std::int64_t(gradient.size()),
                        .parameter = s.p.data() + s.shift,
                        .gradient = g.data() + s.shift,
                        .m = s.m.data() + s.shift,
                        .v = s.v.data() + s.shift,
                        .shadow = u.shadow ? s.shadow.data() + s.shift : nullptr,
                        .norm = device_norm.data(),
                        .clip_norm = u.clip_norm,
                        .learning_rate = u.learning_rate,
                        .weight_decay = u.weight_decay,
                        .step = u.step});
  gpu.wait();
}

State random_state(std::size_t count) {
  State s{as<float>(random_values(count, 1)), as<float>(random_values(count, 2, 0.01)),
          as<float>(random_values(count, 3, 0.01))};
  for (float& v : s.v) v *= v;
  return s;
}

TEST_F(OptimizerCuda, OneUpdateIsThatOfTheCpu) {
  Cpu cpu(1);
  for (const std::size_t count : {0u, 1u, 3u, 4u, 1003u, 1024u, 3000u}) {
    for (const std::size_t shift : {0u, 1u}) {
      const Update u{.clip_norm = 1, .learning_rate = 1e-2, .weight_decay = 0.1, .step = 3};
      const double norm = 2.7;
      const State before = random_state(count);
      const auto gradient = as<float>(random_values(count, 4, 0.01));
      const DeviceState ours(gpu(), before, shift);
      update(gpu(), ours, gradient, norm, u);

      State expected = before;
      std::vector<bf16> shadow(count);
      adam(cpu, Adam<float>{.count = std::int64_t(count),
                            .parameter = expected.p.data(),
                            .gradient = gradient.data(),
                            .m = expected.m.data(),
                            .v = expected.v.data(),
                            .shadow = shadow.data(),
                            .norm = &norm,
                            .clip_norm = u.clip_norm,
                            .learning_rate = u.learning_rate,
                            .weight_decay = u.weight_decay,
                            .step = u.step});
      const State after = ours.host();
      const auto our_shadow = ours.host(ours.shadow);
      // The devices differ in which products are fused with the addition after them: a rounding of one product, and that of the sum
      // (half a unit, 2⁻²⁴, each), hence two units of the largest of the terms. A parameter inherits the errors of its update, in all
      // less than 8 units of that (m and √v: 2 each; four operations), and rounds twice on either side itself.
      constexpr double kUnit = 0x1p-23;
      const double scale = clip_factor(norm, 1);
      for (std::size_t k = 0; k < count; ++k) {
        const double m_size = 0.9 * std::abs(before.m[k]) + 0.1 * scale * std::abs(gradient[k]);
        ASSERT_TRUE(std::abs(after.m[k] - expected.m[k]) <= 2 * kUnit * m_size) << k;
        ASSERT_TRUE(std::abs(after.v[k] - expected.v[k]) <= 2 * kUnit * expected.v[k]) << k;
        const double step_size = 1e-2 * m_size / std::sqrt(double{expected.v[k]});
        ASSERT_TRUE(std::abs(after.p[k] - expected.p[k]) <= 2 * kUnit * std::abs(before.p[k]) + 8 * kUnit * step_size)
            << k;
        ASSERT_NE(after.p[k], before.p[k]);
        ASSERT_EQ(our_shadow[k].bits, to_bf16(after.p[k]).bits) << k;
      }
      EXPECT_TRUE(shift == 0 || ours.p.host()[0] == -77) << "what lies before is not touched";
    }
  }
}

TEST_F(OptimizerCuda, FiveUpdatesFollowTheFormula) {
  const std::size_t count = 1003;
  for (const double weight_decay : {0.0, 0.1}) {
    auto run = [&] {
      const DeviceState s(
          gpu(), {as<float>(random_values(count, 1)), std::vector<float>(count), std::vector<float>(count)}, 0);
      for (int t = 1; t <= 5; ++t) {
        // A norm that clips to a factor of 1 / t.
        update(gpu(), s, as<float>(random_values(count, std::uint64_t(10 + t), 0.01)), t - 1e-6,
               {.clip_norm = 1,
                .learning_rate = 1e-2 * (t - 1),
                .weight_decay = weight_decay,
                .step = t,
                .shadow = t % 2 == 0});
      }
      return s.host(s.p);
    };
    auto p = random_values(count, 1);
    std::vector<double> m(count), v(count);
    double moved = 0;
    for (std::size_t k = 0; k < count; ++k) {
      const double start = p[k];
      for (int t = 1; t <= 5; ++t) {
        static std::vector<std::vector<double>> gradients;
        if (gradients.size() < 5) gradients.push_back(random_values(count, std::uint64_t(10 + t), 0.01));
        const double g = gradients[std::size_t(t - 1)][k] / t, rate = 1e-2 * (t - 1);
        m[k] = 0.9 * m[k] + 0.1 * g;
        v[k] = 0.999 * v[k] + 0.001 * g * g;
        p[k] -= rate * weight_decay * p[k];
        p[k] -= rate * std::sqrt(1 - std::pow(0.999, t)) / (1 - std::pow(0.9, t)) * m[k] / (std::sqrt(v[k]) + 1e-8);
      }
      moved = std::max(moved, std::abs(p[k] - start));
    }
    EXPECT_GT(moved, 0.01);
    // fp32 rounding of five updates of at most 0.05 to parameters of order one, as for the CPU.
    expect_close<float, double>(run(), p, 1e-6, 1, "parameters");
    expect_same_bytes_twice(run, "parameters");
  }
}

TEST_F(OptimizerCuda, RateZeroMovesTheMomentsOnly) {
  const DeviceState s(gpu(), {{1}, {0}, {0}}, 0);
  update(gpu(), s, {2}, 2, {.clip_norm = 0, .learning_rate = 0});
  EXPECT_EQ(s.host().p[0], 1);
  EXPECT_FLOAT_EQ(s.host().m[0], 0.2f);
  EXPECT_FLOAT_EQ(s.host().v[0], 0.004f);
}

TEST_F(OptimizerCuda, NormThatIsNotFiniteChangesNothing) {
  for (const double norm : {kInfinity, -kInfinity, kNan}) {
    const State before = random_state(9);
    const DeviceState s(gpu(), before, 0);
    update(gpu(), s, as<float>(random_values(9, 4)), norm, {});
    EXPECT_EQ(s.host().p, before.p);
    EXPECT_EQ(s.host().m, before.m);
    EXPECT_EQ(s.host().v, before.v);
    for (const bf16 b : s.host(s.shadow)) EXPECT_EQ(b.bits, 7);
  }
}

TEST_F(OptimizerCuda, NormGoesFromOneToTheOtherInMemoryOfTheDevice) {
  // The same update from the norm of the gradient itself, computed on the GPU, as from the number known beforehand.
  const std::vector<float> gradient = {3, 0, 4, 0, 12};
  const State before = random_state(gradient.size());
  const DeviceState known(gpu(), before, 0), computed(gpu(), before, 0);
  update(gpu(), known, gradient, 13, {});
  const DeviceVector g(gpu(), gradient);
  const DeviceVector<double> norm(gpu(), 1);
  global_norm(gpu(), std::int64_t(gradient.size()), g.data(), norm.data());
  adam(gpu(), Adam<float>{.count = std::int64_t(gradient.size()),
                          .parameter = computed.p.data(),
                          .gradient = g.data(),
                          .m = computed.m.data(),
                          .v = computed.v.data(),
                          .shadow = nullptr,
                          .norm = norm.data(),
                          .clip_norm = 1,
                          .learning_rate = 1e-2,
                          .step = 1});
  EXPECT_EQ(computed.host().p, known.host().p);
  EXPECT_NE(computed.host().p, before.p);
  for (const bf16 b : computed.host(computed.shadow)) EXPECT_EQ(b.bits, 7) << "no shadow was asked for";
}

}  // namespace
}  // namespace moleblend::testing
