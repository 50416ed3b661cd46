// Metrics against scikit-learn's and SciPy's, and what is not defined; the bootstrap against what can be worked out.

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/property/bootstrap.h"
#include "engine/property/metrics.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
// Sums of a hundred numbers near 1 in two orders differ by some 1e-14.
constexpr double kRounding = 1e-12;

constexpr Metric kAll[] = {Metric::roc_auc, Metric::pr_auc, Metric::accuracy, Metric::rmse,
                           Metric::mae,     Metric::r2,     Metric::spearman};

void expect_close(double got, double expected, const std::string& what) {
  if (std::isnan(expected))
    EXPECT_TRUE(std::isnan(got)) << what << ": " << got;
  else
    EXPECT_TRUE(std::abs(got - expected) <= kRounding) << what << ": " << got << ", expected " << expected;
}

struct Case {
  std::int64_t tasks = 0;
  std::vector<double> labels, predictions;  // [B, tasks]
  std::map<std::string, std::vector<double>> expected;
};

std::vector<double> numbers(const nlohmann::json& list) {
  std::vector<double> all;
  for (const auto& value : list) all.push_back(value.is_null() ? kMissing : value.get<double>());
  return all;
}

std::vector<Case> cases() {
  std::ifstream file(std::string(MOLEBLEND_SOURCE_DIR) + "/tests/property/data/metrics.json");
  std::vector<Case> all;
  const auto json = nlohmann::json::parse(file);
  for (const auto& entry : json.at("cases")) {
    Case& c = all.emplace_back();
    for (const auto& row : entry.at("labels")) {
      const auto values = numbers(row);
      c.labels.insert(c.labels.end(), values.begin(), values.end());
      c.tasks = static_cast<std::int64_t>(values.size());
    }
    for (const auto& row : entry.at("predictions")) {
      const auto values = numbers(row);
      c.predictions.insert(c.predictions.end(), values.begin(), values.end());
    }
    for (const auto& [name, values] : entry.at("expected").items()) c.expected[name] = numbers(values);
  }
  if (all.size() != 4) throw std::runtime_error("metrics.json is not the file that this test was written for");
  return all;
}

TEST(Metrics, AreThoseOfScikitLearn) {
  for (const Case& c : cases()) {
    for (const auto& [name, expected] : c.expected) {
      const TaskScores scores = score_tasks(metric_named(name), c.tasks, c.labels, c.predictions);
      ASSERT_EQ(scores.per_task.size(), expected.size());
      double sum = 0;
      std::int64_t defined = 0;
      for (std::size_t t = 0; t < expected.size(); ++t) {
        expect_close(scores.per_task[t], expected[t], name);
        std::int64_t present = 0;
        for (std::size_t k = t; k < c.labels.size(); k += expected.size()) present += !std::isnan(c.labels[k]);
        EXPECT_EQ(scores.labels[t], present);
        if (std::isnan(expected[t])) continue;
        sum += expected[t];
        ++defined;
      }
      EXPECT_EQ(scores.defined, defined) << name;
      expect_close(scores.mean, sum / static_cast<double>(defined), name + ", mean");
    }
  }
}

TEST(Metrics, HaveNames) {
  for (const Metric metric : kAll) EXPECT_EQ(metric_named(name_of(metric)), metric);
  EXPECT_EQ(name_of(Metric::roc_auc), "roc_auc");
  EXPECT_EQ(name_of(Metric::spearman), "spearman");
  EXPECT_FALSE(higher_is_better(Metric::rmse));
  EXPECT_FALSE(higher_is_better(Metric::mae));
  EXPECT_TRUE(higher_is_better(Metric::r2));
  EXPECT_TRUE(is_classification(Metric::accuracy));
  EXPECT_FALSE(is_classification(Metric::spearman));
  try {
    metric_named("auroc");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(),
                 "there is no metric auroc; choose one of roc_auc, pr_auc, accuracy, rmse, mae, r2, spearman");
  }
}

TEST(Metrics, AreNaNWhereNotDefined) {
  const auto undefined = [](Metric metric, std::vector<double> labels, std::vector<double> predictions) {
    return std::isnan(score(metric, labels, predictions));
  };
  for (const Metric metric : kAll) EXPECT_TRUE(undefined(metric, {}, {})) << name_of(metric);
  for (const Metric metric : {Metric::roc_auc, Metric::pr_auc}) {
    EXPECT_TRUE(undefined(metric, {1, 1}, {0.2, 0.7}));
    EXPECT_TRUE(undefined(metric, {0, 0}, {0.2, 0.7}));
    EXPECT_FALSE(undefined(metric, {0, 1}, {0.2, 0.7}));
  }
  // The mean of three times 0.1 is not 0.1 in doubles.
  EXPECT_TRUE(undefined(Metric::r2, {0.1, 0.1, 0.1}, {1, 2, 3}));
  EXPECT_TRUE(undefined(Metric::spearman, {0.1, 0.1, 0.1}, {1, 2, 3}));
  EXPECT_TRUE(undefined(Metric::spearman, {1, 2, 3}, {0.1, 0.1, 0.1}));
  EXPECT_FALSE(undefined(Metric::r2, {1, 2, 3}, {0.1, 0.1, 0.1}));
  const TaskScores none =
      score_tasks(Metric::roc_auc, 2, std::vector<double>{1, kMissing}, std::vector<double>{0.5, 0.5});
  EXPECT_TRUE(std::isnan(none.mean));
  EXPECT_EQ(none.defined, 0);
  EXPECT_EQ(none.labels, (std::vector<std::int64_t>{1, 0}));
}

TEST(Metrics, TakeTheSideOfTheThresholdThatTheFieldTakes) {
  EXPECT_EQ(score(Metric::accuracy, std::vector<double>{0, 1}, std::vector<double>{0.5, 0.5}), 0.5);
  EXPECT_EQ(score(Metric::accuracy, std::vector<double>{0, 1}, std::vector<double>{0.5, 0.51}), 1.0);
}

TEST(Metrics, RefuseWhatHasNoScore) {
  const std::vector<double> zero_one = {0, 1}, two = {0, 2}, missing = {0, kMissing}, three = {1, 2, 3};
  EXPECT_THROW(score(Metric::rmse, zero_one, missing), Error) << "a prediction that is not a number must not go unseen";
  EXPECT_THROW(score(Metric::rmse, missing, zero_one), Error);
  EXPECT_THROW(score(Metric::roc_auc, two, zero_one), Error);
  EXPECT_NO_THROW(score(Metric::mae, two, zero_one));
  EXPECT_THROW(score(Metric::mae, three, zero_one), Error);
  EXPECT_THROW(score_tasks(Metric::mae, 2, three, three), Error);
  EXPECT_THROW(score_tasks(Metric::mae, 0, three, three), Error);
  EXPECT_NO_THROW(score_tasks(Metric::mae, 1, missing, missing)) << "what has no label needs no prediction";
}

TEST(TaskSample, ScoresASampleAsIfItsMoleculesWereRepeated) {
  for (const Case& c : cases()) {
    const std::size_t molecules = c.labels.size() / static_cast<std::size_t>(c.tasks);
    for (const auto& [name, unused] : c.expected) {
      for (std::int64_t task = 0; task < c.tasks; ++task) {
        std::vector<std::uint32_t> counts(molecules);
        std::vector<double> labels, predictions;
        for (std::size_t b = 0; b < molecules; ++b) {
          counts[b] = static_cast<std::uint32_t>(molecule_key(5, 0, b) % 4);
          const std::size_t at = b * static_cast<std::size_t>(c.tasks) + static_cast<std::size_t>(task);
          if (std::isnan(c.labels[at])) continue;
          labels.insert(labels.end(), counts[b], c.labels[at]);
          predictions.insert(predictions.end(), counts[b], c.predictions[at]);
        }
        const Metric metric = metric_named(name);
        expect_close(TaskSample(metric, c.tasks, task, c.labels, c.predictions).score(counts),
                     score(metric, labels, predictions), name);
      }
    }
  }
}

TEST(Bootstrap, IsAsWideAsTheBinomialDistribution) {
  // 320 of 400 right: a standard deviation of √(0.8 · 0.2 / 400) = 0.02, nearly normal.
  std::vector<double> labels(400, 1), predictions(400, 0.9);
  std::fill(predictions.begin(), predictions.begin() + 80, 0.1);
  const Interval interval = bootstrap(Metric::accuracy, 1, labels, predictions, {.resamples = 4000, .seed = 3});
  EXPECT_EQ(interval.undefined, 0);
  // The ends are known to within a resample's step of 1 / 400 and a standard error of 0.02 · 2.7 / √4000.
  constexpr double kStep = 1.0 / 400 + 3 * 0.02 * 2.7 / 63;
  EXPECT_TRUE(std::abs(interval.low - (0.8 - 1.96 * 0.02)) <= kStep) << interval.low;
  EXPECT_TRUE(std::abs(interval.high - (0.8 + 1.96 * 0.02)) <= kStep) << interval.high;
}

TEST(Bootstrap, LeavesOutWhatIsNotDefinedAndSaysSo) {
  std::vector<double> labels(50, 0), predictions(50, 0.25);
  const Interval none = bootstrap(Metric::roc_auc, 1, labels, predictions, {.resamples = 20});
  EXPECT_EQ(none.undefined, 20);
  EXPECT_TRUE(std::isnan(none.low) && std::isnan(none.high));

  labels[7] = 1;
  predictions[7] = 0.75;
  const Interval some = bootstrap(Metric::roc_auc, 1, labels, predictions, {.resamples = 1000});
  // The one positive is drawn in a share 1 − 0.98⁵⁰ = 0.636 of the resamples; standard deviation 15.2.
  EXPECT_NEAR(static_cast<double>(some.undefined), 364, 5 * 15.2);
  EXPECT_EQ(some.low, 1);
  EXPECT_EQ(some.high, 1);
}

TEST(Bootstrap, DrawsAllTasksOfAMoleculeTogether) {
  // The second task's errors undo the first's, so the mean accuracy of any resample is 0.5.
  std::vector<double> labels(100, 1), predictions;
  for (int b = 0; b < 50; ++b) {
    predictions.push_back(b % 2 ? 0.9 : 0.1);
    predictions.push_back(b % 2 ? 0.1 : 0.9);
  }
  const Interval interval = bootstrap(Metric::accuracy, 2, labels, predictions, {.resamples = 50});
  expect_close(interval.low, 0.5, "low");
  expect_close(interval.high, 0.5, "high");
}

TEST(Bootstrap, IsAFunctionOfItsSeed) {
  const Case c = cases().back();
  const auto run = [&](std::uint64_t seed) {
    return bootstrap(Metric::rmse, c.tasks, c.labels, c.predictions, {.seed = seed});
  };
  const Interval one = run(1), again = run(1), other = run(2);
  EXPECT_EQ(one.low, again.low);
  EXPECT_EQ(one.high, again.high);
  EXPECT_NE(one.low, other.low);
  const double mean = score_tasks(Metric::rmse, c.tasks, c.labels, c.predictions).mean;
  EXPECT_LT(one.low, mean);
  EXPECT_GT(one.high, mean);
}

TEST(Bootstrap, RefusesNonsense) {
  const std::vector<double> labels = {0, 1}, predictions = {0.1, 0.9};
  EXPECT_THROW(bootstrap(Metric::mae, 1, labels, predictions, {.resamples = 0}), UsageError);
  EXPECT_THROW(bootstrap(Metric::mae, 1, labels, predictions, {.level = 1}), UsageError);
  EXPECT_THROW(bootstrap(Metric::mae, 1, labels, predictions, {.level = kMissing}), UsageError);
  EXPECT_THROW(bootstrap(Metric::mae, 0, labels, predictions), Error);
}

}  // namespace
}  // namespace moleblend
