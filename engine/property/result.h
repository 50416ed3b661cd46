#pragma once
// What a property model is worth on a part of the data: metrics with intervals, beside what a constant answer gets.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/property/bootstrap.h"
#include "engine/property/labels.h"
#include "engine/property/metrics.h"

namespace moleblend {

/// The metrics of a kind of task, the usual one first.
std::span<const Metric> metrics_of(PropertyTask task);

struct MetricResult {
  Metric metric;
  TaskScores scores;
  Interval interval;  // 95 %, by resampling molecules; of the mean over tasks
  double constant;  // of the best constant answer: training mean (mae: median), or the training part's share of label 1
};

struct PartResult {
  std::uint64_t molecules = 0;
  std::vector<std::int64_t> labels;  // present, per task
  std::vector<MetricResult> metrics;
};

/// `answers` and `labels` [molecules, tasks]; `training` the training part's labels. The intervals are those of `seed`.
PartResult score_part(const PropertyHead& head, std::span<const double> labels, std::span<const double> answers,
                      const std::vector<TaskCount>& training, std::uint64_t seed);

/// {"molecules", "labels", then for each metric m: m, m_low, m_high, m_constant; "tasks": {column: {labels, m …}} where there are several}.
/// What is not defined is null.
nlohmann::ordered_json to_json(const PartResult& result, const PropertyHead& head);

/// Part objects of several runs as one: for each metric the mean over the runs under its name, and m_std, their standard deviation
/// (n − 1). Numbers that are no metric are the first run's.
nlohmann::ordered_json mean_of_runs(const std::vector<nlohmann::ordered_json>& parts, PropertyTask task);

/// A table from such objects, a line for each part and metric: value ± standard deviation or interval, and the constant answer's.
std::string result_table(const nlohmann::ordered_json& result, const PropertyHead& head);

}  // namespace moleblend
