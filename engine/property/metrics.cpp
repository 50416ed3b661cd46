#include "engine/property/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "io/support/error.h"

namespace moleblend {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
constexpr std::array<std::string_view, 7> kNames = {"roc_auc", "pr_auc", "accuracy", "rmse", "mae", "r2", "spearman"};

void check_sizes(std::int64_t tasks, std::size_t labels, std::size_t predictions) {
  if (labels != predictions)
    throw Error("{} predictions can't be scored against {} labels; give one for each", predictions, labels);
  if (tasks < 1 || labels % static_cast<std::size_t>(tasks) != 0)
    throw Error("{} labels are no table of {} tasks; give one a molecule and task", labels, tasks);
}

}  // namespace

std::string_view name_of(Metric metric) {
  return kNames[static_cast<std::size_t>(metric)];
}

Metric metric_named(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) throw UsageError("there is no metric {}; choose one of {}", name, fmt::join(kNames, ", "));
  return static_cast<Metric>(found - kNames.begin());
}

bool higher_is_better(Metric metric) {
  return metric != Metric::rmse && metric != Metric::mae;
}

bool is_classification(Metric metric) {
  return metric == Metric::roc_auc || metric == Metric::pr_auc || metric == Metric::accuracy;
}

TaskSample::TaskSample(Metric metric, std::int64_t tasks, std::int64_t task, std::span<const double> labels,
                       std::span<const double> predictions)
    : metric_(metric) {
  check_sizes(tasks, labels.size(), predictions.size());
  std::vector<double> values;
  for (std::size_t at = static_cast<std::size_t>(task); at < labels.size(); at += static_cast<std::size_t>(tasks)) {
    const double label = labels[at], prediction = predictions[at];
    if (std::isnan(label)) continue;
    const auto molecule = static_cast<std::uint32_t>(at / static_cast<std::size_t>(tasks));
    if (std::isnan(prediction))
      throw Error(
          "the prediction for molecule {}, task {} is not a number, so it has no score; the model has diverged: lower "
          "its learning rate",
          molecule, task);
    if (is_classification(metric) && label != 0 && label != 1)
      throw Error("the label of molecule {}, task {} is {}, but {} is for the classes 0 and 1; choose another metric",
                  molecule, task, label, name_of(metric));
    rows_.push_back({molecule, 0, 0, label, prediction});
    values.push_back(label);
  }
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  label_ranks_ = values.size();
  // Equal predictions by molecule, so that sums run in one order.
  std::sort(rows_.begin(), rows_.end(), [](const Row& a, const Row& b) {
    return a.prediction != b.prediction ? a.prediction < b.prediction : a.molecule < b.molecule;
  });
  for (std::size_t k = 0; k < rows_.size(); ++k) {
    if (k == 0 || rows_[k].prediction != rows_[k - 1].prediction) ++ranks_;
    rows_[k].rank = static_cast<std::uint32_t>(ranks_ - 1);
    rows_[k].label_rank =
        static_cast<std::uint32_t>(std::lower_bound(values.begin(), values.end(), rows_[k].label) - values.begin());
  }
}

double TaskSample::score(std::span<const std::uint32_t> counts) const {
  switch (metric_) {
    case Metric::roc_auc:
      return roc_auc(counts);
    case Metric::pr_auc:
      return pr_auc(counts);
    case Metric::accuracy:
      return accuracy(counts);
    case Metric::rmse:
    case Metric::mae:
      return error(counts);
    case Metric::r2:
      return r2(counts);
    case Metric::spearman:
      return spearman(counts);
  }
  return kUndefined;
}

// In whole numbers: twice the number of pairs that are ranked right, those of a tie counting once.
double TaskSample::roc_auc(std::span<const std::uint32_t> counts) const {
  std::uint64_t ranked = 0, negatives = 0, positives = 0;
  for (std::size_t k = 0; k < rows_.size();) {
    std::array<std::uint64_t, 2> here{};
    for (const std::uint32_t rank = rows_[k].rank; k < rows_.size() && rows_[k].rank == rank; ++k)
      here[rows_[k].label == 1] += counts[rows_[k].molecule];
    ranked += here[1] * (2 * negatives + here[0]);
    negatives += here[0];
    positives += here[1];
  }
  if (negatives == 0 || positives == 0) return kUndefined;
  return static_cast<double>(ranked) / (2 * static_cast<double>(negatives) * static_cast<double>(positives));
}

double TaskSample::pr_auc(std::span<const std::uint32_t> counts) const {
  double sum = 0;
  std::uint64_t negatives = 0, positives = 0;
  for (std::size_t k = rows_.size(); k > 0;) {
    std::array<std::uint64_t, 2> here{};
    for (const std::uint32_t rank = rows_[k - 1].rank; k > 0 && rows_[k - 1].rank == rank; --k)
      here[rows_[k - 1].label == 1] += counts[rows_[k - 1].molecule];
    negatives += here[0];
    positives += here[1];
    if (here[1] > 0)
      sum += static_cast<double>(here[1]) * static_cast<double>(positives) / static_cast<double>(positives + negatives);
  }
  return negatives == 0 || positives == 0 ? kUndefined : sum / static_cast<double>(positives);
}

double TaskSample::accuracy(std::span<const std::uint32_t> counts) const {
  std::uint64_t right = 0, all = 0;
  for (const Row& row : rows_) {
    all += counts[row.molecule];
    if ((row.prediction > 0.5) == (row.label == 1)) right += counts[row.molecule];
  }
  return all == 0 ? kUndefined : static_cast<double>(right) / static_cast<double>(all);
}

double TaskSample::error(std::span<const std::uint32_t> counts) const {
  double sum = 0, all = 0;
  for (const Row& row : rows_) {
    const double difference = row.label - row.prediction, count = counts[row.molecule];
    if (count == 0) continue;
    sum += count * (metric_ == Metric::mae ? std::abs(difference) : difference * difference);
    all += count;
  }
  if (all == 0) return kUndefined;
  return metric_ == Metric::mae ? sum / all : std::sqrt(sum / all);
}

double TaskSample::r2(std::span<const std::uint32_t> counts) const {
  double sum = 0, all = 0;
  std::uint32_t low = std::numeric_limits<std::uint32_t>::max(), high = 0;  // ranks of labels in the sample
  for (const Row& row : rows_) {
    const double count = counts[row.molecule];
    if (count == 0) continue;
    sum += count * row.label;
    all += count;
    low = std::min(low, row.label_rank);
    high = std::max(high, row.label_rank);
  }
  if (low >= high) return kUndefined;
  double residual = 0, total = 0;
  for (const Row& row : rows_) {
    const double count = counts[row.molecule], error = row.label - row.prediction, deviation = row.label - sum / all;
    if (count == 0) continue;
    residual += count * error * error;
    total += count * deviation * deviation;
  }
  return 1 - residual / total;
}

double TaskSample::spearman(std::span<const std::uint32_t> counts) const {
  // How often each value stands in the sample, then its average rank, from the middle of all ranks.
  std::vector<double> by_prediction(ranks_), by_label(label_ranks_);
  double all = 0;
  for (const Row& row : rows_) {
    by_prediction[row.rank] += counts[row.molecule];
    by_label[row.label_rank] += counts[row.molecule];
    all += counts[row.molecule];
  }
  for (auto* ranks : {&by_prediction, &by_label}) {
    double below = 0;
    for (double& value : *ranks) {
      const double here = value;
      value = below + here / 2 - all / 2;
      below += here;
    }
  }
  double xy = 0, xx = 0, yy = 0;
  for (const Row& row : rows_) {
    const double x = by_prediction[row.rank], y = by_label[row.label_rank], count = counts[row.molecule];
    xy += count * x * y;
    xx += count * x * x;
    yy += count * y * y;
  }
  return xx == 0 || yy == 0 ? kUndefined : xy / std::sqrt(xx * yy);
}

double score(Metric metric, std::span<const double> labels, std::span<const double> predictions) {
  for (std::size_t k = 0; k < labels.size(); ++k) {
    if (std::isnan(labels[k])) throw Error("label {} is missing, so it has no score; leave it out", k);
  }
  return score_tasks(metric, 1, labels, predictions).mean;
}

TaskScores score_tasks(Metric metric, std::int64_t tasks, std::span<const double> labels,
                       std::span<const double> predictions) {
  check_sizes(tasks, labels.size(), predictions.size());
  const std::vector<std::uint32_t> once(labels.size() / static_cast<std::size_t>(tasks), 1);
  TaskScores scores;
  for (std::int64_t task = 0; task < tasks; ++task) {
    const TaskSample sample(metric, tasks, task, labels, predictions);
    scores.labels.push_back(sample.size());
    scores.per_task.push_back(sample.score(once));
    if (std::isnan(scores.per_task.back())) continue;
    scores.mean += scores.per_task.back();
    ++scores.defined;
  }
  scores.mean = scores.defined == 0 ? kUndefined : scores.mean / static_cast<double>(scores.defined);
  return scores;
}

}  // namespace moleblend
