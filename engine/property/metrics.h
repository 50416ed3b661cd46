#pragma once
// How well predictions of molecular properties agree with labels: the metrics that the field reports.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace moleblend {

enum class Metric { roc_auc, pr_auc, accuracy, rmse, mae, r2, spearman };

/// By its name in name_of(). Throws UsageError with the choices.
Metric metric_named(std::string_view name);
std::string_view name_of(Metric metric);
/// All but rmse and mae.
bool higher_is_better(Metric metric);
/// roc_auc, pr_auc and accuracy: labels are 0 or 1, predictions probabilities (or, for the first two, anything that ranks).
bool is_classification(Metric metric);

/// One task's score.
///   roc_auc   the probability that a positive ranks above a negative, ties counting half (midranks)
///   pr_auc    average precision: Σ (recall_k − recall_{k−1}) · precision_k over the distinct predictions from the highest down, without
///             interpolation
///   accuracy  the share of molecules on the right side of 0.5 (a prediction of 0.5 itself says 0)
///   rmse, mae in the labels' unit
///   r2        1 − Σ (label − prediction)² / Σ (label − mean label)²
///   spearman  Pearson's correlation of the ranks, ties sharing their average rank
/// NaN where it is not defined: no molecules; one class only (roc_auc, pr_auc); constant labels (r2, spearman) or predictions
/// (spearman). O(n log n). Throws Error if the sizes differ, if a label or a prediction is NaN, or if a class label is neither 0 nor 1.
double score(Metric metric, std::span<const double> labels, std::span<const double> predictions);

struct TaskScores {
  std::vector<double> per_task;      // [tasks] NaN where not defined
  std::vector<std::int64_t> labels;  // [tasks] how many are present
  double mean = 0;                   // over the tasks where it is defined; NaN if there is none
  std::int64_t defined = 0;          // tasks where it is defined
};

/// labels [B, tasks], NaN = missing; predictions [B, tasks], not looked at where the label is missing. Errors as in score(), and if the
/// sizes are no multiples of `tasks` >= 1.
TaskScores score_tasks(Metric metric, std::int64_t tasks, std::span<const double> labels,
                       std::span<const double> predictions);

/// One task's labels and predictions, sorted once, to be scored for many samples of its molecules. score_tasks() and the bootstrap both
/// stand on it.
class TaskSample {
 public:
  /// Column `task` of labels and predictions [B, tasks]. Errors as in score_tasks().
  TaskSample(Metric metric, std::int64_t tasks, std::int64_t task, std::span<const double> labels,
             std::span<const double> predictions);

  /// Labels present.
  std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }
  /// The score of the sample in which molecule b stands counts[b] times; counts [B]. O(n).
  double score(std::span<const std::uint32_t> counts) const;

 private:
  struct Row {
    std::uint32_t molecule;
    std::uint32_t rank, label_rank;  // number of distinct smaller predictions, labels
    double label, prediction;
  };

  double roc_auc(std::span<const std::uint32_t> counts) const;
  double pr_auc(std::span<const std::uint32_t> counts) const;
  double accuracy(std::span<const std::uint32_t> counts) const;
  double error(std::span<const std::uint32_t> counts) const;
  double r2(std::span<const std::uint32_t> counts) const;
  double spearman(std::span<const std::uint32_t> counts) const;

  Metric metric_;
  std::vector<Row> rows_;  // by ascending prediction
  std::size_t ranks_ = 0, label_ranks_ = 0;
};

}  // namespace moleblend
