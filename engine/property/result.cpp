#include "engine/property/result.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kClassification{Metric::roc_auc, Metric::pr_auc, Metric::accuracy};
constexpr std::array kRegression{Metric::rmse, Metric::mae, Metric::r2, Metric::spearman};

double constant_answer(PropertyTask task, Metric metric, const TaskCount& training) {
  if (training.present == 0) return std::numeric_limits<double>::quiet_NaN();
  if (task == PropertyTask::regression) return metric == Metric::mae ? training.median : training.mean;
  return static_cast<double>(training.positive) / static_cast<double>(training.present);
}

/// JSON has no NaN.
Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

std::string text_of(const Json& value) {
  return value.is_number() ? fmt::format("{:.4f}", value.get<double>()) : "–";
}

}  // namespace

std::span<const Metric> metrics_of(PropertyTask task) {
  if (task == PropertyTask::classification) return kClassification;
  return kRegression;
}

PartResult score_part(const PropertyHead& head, std::span<const double> labels, std::span<const double> answers,
                      const std::vector<TaskCount>& training, std::uint64_t seed) {
  const auto tasks = static_cast<std::int64_t>(head.targets.size());
  PartResult result;
  result.molecules = labels.size() / head.targets.size();
  for (const Metric metric : metrics_of(head.task)) {
    std::vector<double> constant(labels.size());
    for (std::size_t k = 0; k < constant.size(); ++k)
      constant[k] = constant_answer(head.task, metric, training[k % head.targets.size()]);
    result.metrics.push_back({.metric = metric,
                              .scores = score_tasks(metric, tasks, labels, answers),
                              .interval = bootstrap(metric, tasks, labels, answers, {.seed = seed}),
                              .constant = score_tasks(metric, tasks, labels, constant).mean});
  }
  result.labels = result.metrics.front().scores.labels;
  return result;
}

Json to_json(const PartResult& result, const PropertyHead& head) {
  std::int64_t labels = 0;
  for (const std::int64_t n : result.labels) labels += n;
  Json json = {{"molecules", result.molecules}, {"labels", labels}};
  Json tasks = Json::object();
  for (const MetricResult& m : result.metrics) {
    const std::string name(name_of(m.metric));
    json[name] = number(m.scores.mean);
    json[name + "_low"] = number(m.interval.low);
    json[name + "_high"] = number(m.interval.high);
    json[name + "_constant"] = number(m.constant);
    for (std::size_t t = 0; t < head.targets.size(); ++t) {
      Json& task = tasks[head.targets[t].column];
      task["labels"] = result.labels[t];
      task[name] = number(m.scores.per_task[t]);
    }
  }
  if (head.targets.size() > 1) json["tasks"] = std::move(tasks);
  return json;
}

Json mean_of_runs(const std::vector<Json>& parts, PropertyTask task) {
  Json mean = parts.front();
  if (parts.size() == 1) return mean;
  mean.erase("tasks");
  for (const Metric metric : metrics_of(task)) {
    const std::string name(name_of(metric));
    mean.erase(name + "_low");
    mean.erase(name + "_high");
    std::vector<double> values;
    for (const Json& part : parts)
      if (part.at(name).is_number()) values.push_back(part.at(name).get<double>());
    double sum = 0, squares = 0;
    for (const double v : values) sum += v;
    const double average = sum / static_cast<double>(values.size());
    for (const double v : values) squares += (v - average) * (v - average);
    mean[name] = number(average);
    mean[name + "_std"] = number(std::sqrt(squares / (static_cast<double>(values.size()) - 1)));
  }
  return mean;
}

std::string result_table(const Json& result, const PropertyHead& head) {
  std::string table = fmt::format("{:<6}{:>10}  {:<9}{:<28}{}", "part", "molecules", "metric", "", "constant");
  for (const char* part : {"train", "valid", "test", "all"}) {
    if (!result.contains(part)) continue;
    const Json& scores = result.at(part);
    std::string first = fmt::format("{:<6}{:>10}", part, scores.at("molecules").get<std::uint64_t>());
    for (const Metric metric : metrics_of(head.task)) {
      const std::string name(name_of(metric));
      std::string value = text_of(scores.at(name));
      if (scores.contains(name + "_std"))
        value += " ± " + text_of(scores.at(name + "_std"));
      else if (scores.contains(name + "_low"))
        value += fmt::format(" ({} … {})", text_of(scores.at(name + "_low")), text_of(scores.at(name + "_high")));
      table += fmt::format("\n{:<16}  {:<9}{:<28}{}", std::exchange(first, ""), name, value,
                           text_of(scores.at(name + "_constant")));
    }
  }
  return table + "\n";
}

}  // namespace moleblend
