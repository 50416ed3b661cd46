// Read-outs and losses of fine-tuning.

#include <limits>
#include <numeric>

#include "kernels/property_loss/property_loss.h"
#include "tests/kernels/check.h"

namespace moleblend {
namespace {

using testing::as;
using testing::expect_close;
using testing::expect_gradient;
using testing::PackedSizes;
using testing::random_values;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class ReadoutOf : public ::testing::TestWithParam<Readout> {};
INSTANTIATE_TEST_SUITE_P(All, ReadoutOf, ::testing::Values(Readout::cls, Readout::mean, Readout::sum),
                         [](const auto& instance) {
                           return instance.param == Readout::cls    ? "Cls"
                                  : instance.param == Readout::mean ? "Mean"
                                                                    : "Sum";
                         });

TEST_P(ReadoutOf, IsItsDefinitionAndGradient) {
  const PackedSizes sizes{5, 1, 70, 300, 2};
  const Packed p = sizes.packed();
  const std::int64_t features = 7;
  auto x = random_values(size_t(p.tokens() * features), 1);
  const auto cotangent = random_values(size_t(p.molecules * features), 2);
  const auto forward = [&](int threads) {
    Cpu cpu(threads);
    std::vector<double> out(cotangent.size(), kNan);
    readout_forward(cpu, p, GetParam(), features, x.data(), out.data());
    return out;
  };
  std::vector<double> expected(cotangent.size());
  for (std::int64_t b = 0; b < p.molecules; ++b)
    for (std::int64_t f = 0; f < features; ++f) {
      double& to = expected[size_t(b * features + f)];
      const std::int64_t token = p.token_offset(b);
      if (GetParam() == Readout::cls) to = x[size_t(token * features + f)];
      if (GetParam() == Readout::cls) continue;
      for (std::int64_t t = token + 1; t < p.token_offset(b + 1); ++t) to += x[size_t(t * features + f)];
      if (GetParam() == Readout::mean) to /= double(p.atoms_of(b));
    }
  expect_close<double, double>(forward(1), expected, 1e-13);
  EXPECT_EQ(forward(1), forward(3));
  for (const int threads : {1, 3}) {
    Cpu cpu(threads);
    std::vector<double> dx(x.size(), kNan);
    readout_backward(cpu, p, GetParam(), features, cotangent.data(), dx.data());
    const auto objective = [&] {
      const auto out = forward(1);
      return std::inner_product(out.begin(), out.end(), cotangent.begin(), 0.0);
    };
    // Few entries have a gradient with `cls`: one token of each molecule. All are checked there.
    expect_gradient(x, dx, objective, "dx", x.size());
  }
}

struct Case {
  PropertyTask task;
  std::int64_t molecules = 9, tasks = 3;
  std::vector<double> logits = random_values(27, 1, 3), labels, mean = {1, -2, 0.5}, std = {2, 0.3, 10},
                      positive_weight = {3, 0.25, 1};

  explicit Case(PropertyTask t) : task(t), labels(random_values(27, 2)) {
    for (std::size_t k = 0; k < labels.size(); ++k) {
      if (task == PropertyTask::classification) labels[k] = labels[k] > 0;
      if (k % 4 == 1) labels[k] = kNan;
    }
  }
  template <class T>
  PropertyLossResult run(std::vector<T>* dlogits = nullptr) const {
    const auto l = as<T>(logits);
    if (dlogits) dlogits->assign(l.size(), std::numeric_limits<T>::quiet_NaN());
    Cpu cpu(2);
    PropertyLossResult result;
    property_loss(cpu, PropertyLoss<T>{task, molecules, tasks, l.data(), labels.data(), mean.data(), std.data(),
                                       positive_weight.empty() ? nullptr : positive_weight.data(), 0.25,
                                       dlogits ? dlogits->data() : nullptr, &result});
    return result;
  }
};

TEST(PropertyLoss, IsItsDefinition) {
  for (const bool weighted : {false, true})
    for (const PropertyTask task : {PropertyTask::classification, PropertyTask::regression}) {
      Case c(task);
      if (!weighted) c.positive_weight.clear();
      double loss = 0;
      std::int64_t count = 0;
      for (std::size_t k = 0; k < c.labels.size(); ++k) {
        if (std::isnan(c.labels[k])) continue;
        const double probability = 1 / (1 + std::exp(-c.logits[k])),
                     error = c.logits[k] * c.std[k % 3] + c.mean[k % 3] - c.labels[k];
        loss += task == PropertyTask::regression ? error * error
                : c.labels[k] == 1               ? -(weighted ? c.positive_weight[k % 3] : 1) * std::log(probability)
                                                 : -std::log(1 - probability);
        ++count;
      }
      const auto result = c.run<double>();
      EXPECT_NEAR(result.loss, loss, 1e-12 * loss);
      EXPECT_EQ(result.count, count);
      EXPECT_NEAR(c.run<float>().loss, loss, 1e-5 * loss);
    }
}

TEST(PropertyLoss, GradientsAreDerivatives) {
  for (const PropertyTask task : {PropertyTask::classification, PropertyTask::regression}) {
    Case c(task);
    std::vector<double> dlogits;
    c.run(&dlogits);
    const auto objective = [&] { return 0.25 * c.run<double>().loss; };
    expect_gradient(c.logits, dlogits, objective, "dlogits", c.logits.size());
    for (std::size_t k = 1; k < dlogits.size(); k += 4) EXPECT_EQ(dlogits[k], 0) << "missing label";
  }
}

TEST(PropertyLoss, LargeLogitsAndNan) {
  Case c(PropertyTask::classification);
  c.logits[0] = 800;
  c.labels[0] = 0;
  c.logits[2] = -800;
  c.labels[2] = 1;
  std::vector<double> dlogits;
  const double loss = c.run(&dlogits).loss;
  EXPECT_TRUE(std::isfinite(loss));
  EXPECT_GT(loss, 1600);
  EXPECT_NEAR(dlogits[0], 0.25, 1e-15);   // of a label 0
  EXPECT_NEAR(dlogits[2], -0.25, 1e-15);  // the third task's weight is 1
  for (const PropertyTask task : {PropertyTask::classification, PropertyTask::regression}) {
    c.task = task;
    c.logits[0] = kNan;
    EXPECT_TRUE(std::isnan(c.run<double>().loss));
    c.logits[0] = 0;
    c.logits[1] = kNan;  // its label is missing
    EXPECT_TRUE(std::isfinite(c.run<double>().loss));
    c.logits[1] = 0;
  }
}

}  // namespace
}  // namespace moleblend
