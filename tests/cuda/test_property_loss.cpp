// Read-outs and losses of fine-tuning on the GPU.

#include <cstring>
#include <initializer_list>
#include <limits>

#include "kernels/property_loss/property_loss.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

class PropertyLossCuda : public CudaTest {};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <class T>
constexpr double kHalfUnit = 0x1p-24;
template <>
constexpr double kHalfUnit<bf16> = 0x1p-8;

const Readout kReadouts[] = {Readout::cls, Readout::mean, Readout::sum};

template <class T>
void check_readouts(Gpu& gpu) {
  const PackedSizes sizes{5, 1, 33, 2, 9, 1, 3, 1, 4, 1};  // more than the eight molecules of a block
  const Packed host = sizes.packed();
  const DevicePacked packed(gpu, host);
  Cpu cpu(1);
  // Not a whole number of vectors; one vector; more than 32 vectors.
  for (const std::int64_t features : {7, 8, 264}) {
    const auto x = rounded<T>(random_values(std::size_t(host.tokens() * features), 1)),
               dout = rounded<T>(random_values(std::size_t(host.molecules * features), 2));
    auto x_size = x;
    for (double& value : x_size) value = std::abs(value);
    const DeviceVector device_x(gpu, stored<T>(x)), device_dout(gpu, stored<T>(dout));
    for (const Readout readout : kReadouts) {
      SCOPED_TRACE(::testing::Message() << "read-out " << int(readout) << ", " << features << " features");
      std::vector<double> out(dout.size()), out_size(dout.size()), dx(x.size());
      readout_forward(cpu, host, readout, features, x.data(), out.data());
      readout_forward(cpu, host, readout, features, x_size.data(), out_size.data());
      readout_backward(cpu, host, readout, features, dout.data(), dx.data());
      const auto forward = [&] {
        const DeviceVector<T> ours(gpu, out.size());
        readout_forward(gpu, packed.packed(), readout, features, device_x.data(), ours.data());
        return ours.host();
      };
      const auto backward = [&] {
        const DeviceVector<T> ours(gpu, dx.size());
        readout_backward(gpu, packed.packed(), readout, features, device_dout.data(), ours.data());
        return ours.host();
      };
      const auto ours_out = as_double(forward()), ours_dx = as_double(backward());
      // A sum of n values in float (n − 1 additions), the weight, the product with it, then storing. The graph token is a copy.
      for (std::size_t k = 0; k < out.size(); ++k) {
        const auto n = double(host.atoms_of(std::int64_t(k) / features));
        const double allowed = readout == Readout::cls ? 0
                                                       : kHalfUnit<T> * std::abs(out[k]) +
                                                             (1 + kHalfUnit<T>)*(n + 1) * 0x1p-24 * out_size[k];
        ASSERT_TRUE(std::abs(ours_out[k] - out[k]) <= allowed)
            << "out[" << k << "]: " << ours_out[k] << " against " << out[k];
      }
      // The weight, the product with it, and storing.
      for (std::size_t k = 0; k < dx.size(); ++k) {
        ASSERT_TRUE(std::abs(ours_dx[k] - dx[k]) <= (kHalfUnit<T> + 0x1p-22) * std::abs(dx[k]))
            << "dx[" << k << "]: " << ours_dx[k] << " against " << dx[k];
      }
      if (readout == Readout::mean) {
        expect_same_bytes_twice(forward, "out");
        expect_same_bytes_twice(backward, "dx");
      }
    }
  }
}
TEST_F(PropertyLossCuda, ReadoutsFloat) {
  check_readouts<float>(gpu());
}
TEST_F(PropertyLossCuda, ReadoutsBf16) {
  check_readouts<bf16>(gpu());
}

TEST_F(PropertyLossCuda, ReadoutOfAnEmptyBatch) {
  const PackedSizes sizes(std::initializer_list<int>{});
  const DevicePacked packed(gpu(), sizes.packed());
  for (const Readout readout : kReadouts) {
    readout_forward<float>(gpu(), packed.packed(), readout, 8, nullptr, nullptr);
    readout_backward<float>(gpu(), packed.packed(), readout, 8, nullptr, nullptr);
  }
  EXPECT_NO_THROW(gpu().wait());
}

template <class T>
struct Case {
  PropertyTask task;
  std::int64_t molecules, tasks = 3;
  std::vector<double> logits, labels, mean = {1, -2, 0.5}, std = {2, 0.3, 10}, positive_weight = {3, 0.25, 1};

  Case(PropertyTask t, std::int64_t count)
      : task(t), molecules(count), logits(rounded<T>(random_values(size(), 1, 3))), labels(random_values(size(), 2)) {
    for (std::size_t k = 0; k < labels.size(); ++k) {
      if (task == PropertyTask::classification) labels[k] = labels[k] > 0;
      if (k % 4 == 1) labels[k] = kNan;
    }
  }
  std::size_t size() const { return std::size_t(molecules * tasks); }

  struct Answer {
    PropertyLossResult result;
    std::vector<double> dlogits;
  };
  static constexpr double kScale = 0.3;  // no power of two

  Answer on_cpu() const {
    Cpu cpu(1);
    Answer a{{}, std::vector<double>(size())};
    property_loss(cpu, PropertyLoss<double>{task, molecules, tasks, logits.data(), labels.data(), mean.data(),
                                            std.data(), positive_weight.data(), kScale, a.dlogits.data(), &a.result});
    return a;
  }
  Answer on_gpu(Gpu& gpu, bool want_gradient = true) const {
    const DeviceVector device_logits(gpu, stored<T>(logits));
    const DeviceVector device_labels(gpu, labels), device_mean(gpu, mean), device_std(gpu, std),
        device_weight(gpu, positive_weight);
    const DeviceVector<T> dlogits(gpu, size());
    const DeviceVector<std::uint8_t> result(gpu, sizeof(PropertyLossResult));
    const bool regression = task == PropertyTask::regression;
    property_loss(
        gpu,
        PropertyLoss<T>{task, molecules, tasks, device_logits.data(), device_labels.data(),
                        regression ? device_mean.data() : nullptr, regression ? device_std.data() : nullptr,
                        regression ? nullptr : device_weight.data(), kScale, want_gradient ? dlogits.data() : nullptr,
                        reinterpret_cast<PropertyLossResult*>(result.data())});
    Answer a;
    std::memcpy(&a.result, result.host().data(), sizeof a.result);
    if (want_gradient) a.dlogits = as_double(dlogits.host());
    return a;
  }
};

const PropertyTask kTasks[] = {PropertyTask::classification, PropertyTask::regression};

template <class T>
void check_losses(Gpu& gpu) {
  for (const PropertyTask task : kTasks) {
    // Less than a warp; one block; several, whose sums a second kernel adds.
    for (const std::int64_t molecules : {1, 9, 600, 1500}) {
      const Case<T> c(task, molecules);
      const auto expected = c.on_cpu(), ours = c.on_gpu(gpu);
      // All in double on both sides. Terms are not negative, so that the order of the sum costs at most count · 2⁻⁵³ of it; exp and log1p
      // of the two devices differ by a few units in the last place.
      EXPECT_TRUE(std::abs(ours.result.loss - expected.result.loss) <=
                  (double(c.size()) + 16) * 0x1p-53 * expected.result.loss);
      EXPECT_EQ(ours.result.count, expected.result.count);
      for (std::size_t k = 0; k < c.size(); ++k) {
        if (std::isnan(c.labels[k])) {
          ASSERT_EQ(ours.dlogits[k], 0) << "missing label";
        } else {
          // Rounded to float and to what is stored; 1e-15 where σ(x) − y cancels.
          ASSERT_TRUE(std::abs(ours.dlogits[k] - expected.dlogits[k]) <=
                      (kHalfUnit<T> + 0x1p-24) * std::abs(expected.dlogits[k]) + 1e-15)
              << k << ": " << ours.dlogits[k] << " against " << expected.dlogits[k];
          ASSERT_NE(ours.dlogits[k], 0) << k;
        }
      }
      const auto loss_alone = c.on_gpu(gpu, false);
      EXPECT_EQ(loss_alone.result.loss, ours.result.loss);
      EXPECT_EQ(loss_alone.result.count, ours.result.count);
      expect_same_bytes_twice([&] { return c.on_gpu(gpu).dlogits; }, "dlogits");
      expect_same_bytes_twice([&] { return std::vector{c.on_gpu(gpu).result.loss}; }, "loss");
    }
  }
}
TEST_F(PropertyLossCuda, LossesFloat) {
  check_losses<float>(gpu());
}
TEST_F(PropertyLossCuda, LossesBf16) {
  check_losses<bf16>(gpu());
}

TEST_F(PropertyLossCuda, LargeLogitsAndNan) {
  Case<float> c(PropertyTask::classification, 9);
  c.logits[0] = 800;
  c.labels[0] = 0;
  c.logits[2] = -800;
  c.labels[2] = 1;
  const auto answer = c.on_gpu(gpu());
  EXPECT_TRUE(std::isfinite(answer.result.loss));
  EXPECT_GT(answer.result.loss, 1600);
  EXPECT_FLOAT_EQ(float(answer.dlogits[0]), 0.3f);
  EXPECT_FLOAT_EQ(float(answer.dlogits[2]), -0.3f);
  for (const PropertyTask task : kTasks) {
    c.task = task;
    c.logits[0] = kNan;
    EXPECT_TRUE(std::isnan(c.on_gpu(gpu()).result.loss));
    c.logits[0] = 0;
    c.logits[1] = kNan;  // its label is missing
    EXPECT_TRUE(std::isfinite(c.on_gpu(gpu()).result.loss));
    c.logits[1] = 0;
  }
}

TEST_F(PropertyLossCuda, NoMoleculesHaveNoLoss) {
  for (const PropertyTask task : kTasks) {
    const auto answer = Case<float>(task, 0).on_gpu(gpu());
    EXPECT_EQ(answer.result.loss, 0);
    EXPECT_EQ(answer.result.count, 0);
  }
}

}  // namespace
}  // namespace moleblend::testing
