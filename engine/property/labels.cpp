#include "engine/property/labels.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "io/support/error.h"

namespace moleblend {
namespace {

std::vector<std::size_t> find_columns(const Dataset& data, PropertyHead& head, std::string_view without) {
  const std::vector<std::string>& names = data.info().labels;
  if (names.empty())
    throw UsageError("the data set has no labels; prepare it with --label-columns, naming the columns to learn");
  if (head.targets.empty())
    for (const std::string& name : names)
      if (name != without) head.targets.push_back({.column = name});
  std::vector<std::size_t> columns;
  for (const Target& target : head.targets) {
    const auto found = std::find(names.begin(), names.end(), target.column);
    if (found == names.end())
      throw UsageError("the data set has no label column '{}'; it has {}", target.column, fmt::join(names, ", "));
    columns.push_back(static_cast<std::size_t>(found - names.begin()));
  }
  if (columns.empty()) throw UsageError("no label column is left to learn beside '{}'", without);
  return columns;
}

[[noreturn]] void refuse(const Dataset& data, std::uint64_t molecule, const PropertyHead& head, std::size_t task,
                         double value) {
  Molecule record;
  data.read(molecule, record);
  const std::string_view remedy =
      std::isfinite(value) ? "classification labels are 0, 1 or missing; use --task regression, or --labels without it"
                           : "labels are finite numbers or missing; mend the file and prepare it again";
  throw Error("column '{}' is {} for molecule {}: {}", head.targets[task].column, value, record.identifier, remedy);
}

}  // namespace

Labels::Labels(const Dataset& data, PropertyHead& head, std::string_view without) {
  const std::vector<std::size_t> columns = find_columns(data, head, without);
  tasks_ = static_cast<std::int64_t>(columns.size());
  values_.resize(data.size() * columns.size());
  usable_.resize(data.size());
  MoleculeView molecule;
  for (std::uint64_t m = 0; m < data.size(); ++m) {
    data.view(m, molecule);
    bool any = false;
    for (std::size_t t = 0; t < columns.size(); ++t) {
      double label;
      std::memcpy(&label, molecule.labels + columns[t] * sizeof label, sizeof label);
      if (!std::isnan(label)) {
        any = true;
        if (std::isinf(label) || (head.task == PropertyTask::classification && label != 0 && label != 1))
          refuse(data, m, head, t, label);
        if (head.task == PropertyTask::regression) label *= head.targets[t].factor;
      }
      values_[m * columns.size() + t] = label;
    }
    const bool visible = head.shown.graph || molecule.conformers > 0;
    without_label_ += !any;
    without_positions_ += any && !visible;
    usable_[m] = any && visible;
  }
}

std::vector<double> Labels::of(const Batch& batch) const {
  std::vector<double> out;
  for (const std::uint64_t m : batch.index) out.insert(out.end(), of(m).begin(), of(m).end());
  return out;
}

std::vector<double> Labels::of(const Subset& part) const {
  std::vector<double> out;
  out.reserve(part.size() * static_cast<std::uint64_t>(tasks_));
  for (const std::uint64_t m : part) out.insert(out.end(), of(m).begin(), of(m).end());
  return out;
}

Subset Labels::usable(const Subset& part) const {
  std::vector<std::uint64_t> kept;
  for (const std::uint64_t m : part)
    if (usable_[m]) kept.push_back(m);
  return kept;
}

std::vector<TaskCount> count_labels(const Labels& labels, const Subset& part) {
  std::vector<TaskCount> counts(static_cast<std::size_t>(labels.tasks()));
  for (std::size_t t = 0; t < counts.size(); ++t) {
    TaskCount& c = counts[t];
    std::vector<double> present;
    for (const std::uint64_t m : part)
      if (const double label = labels.of(m)[t]; !std::isnan(label)) present.push_back(label);
    c.present = static_cast<std::int64_t>(present.size());
    c.positive = std::count(present.begin(), present.end(), 1.0);
    if (present.empty()) continue;
    double sum = 0, squares = 0;
    for (const double label : present) sum += label;
    c.mean = sum / static_cast<double>(present.size());
    for (const double label : present) squares += (label - c.mean) * (label - c.mean);
    c.std = std::sqrt(squares / static_cast<double>(present.size()));
    const auto middle = present.begin() + static_cast<std::ptrdiff_t>(present.size() / 2);
    std::nth_element(present.begin(), middle, present.end());
    c.median = *middle;
  }
  return counts;
}

void fit_targets(PropertyHead& head, const std::vector<TaskCount>& training, bool balance_classes,
                 const std::function<void(const std::string&)>& warn) {
  for (std::size_t t = 0; t < head.targets.size(); ++t) {
    Target& target = head.targets[t];
    const TaskCount& c = training[t];
    if (c.present == 0)
      throw Error("column '{}' has no label in the training part; leave it out with --labels, or split otherwise",
                  target.column);
    if (head.task == PropertyTask::regression) {
      // Labels that are the same but for rounding of their sum have a spread of about one unit in the last place.
      if (c.std <= 4 * std::numeric_limits<double>::epsilon() * std::abs(c.mean))
        throw Error(
            "column '{}' is {} for every molecule of the training part: there is nothing to learn; leave it out "
            "with --labels",
            target.column, c.mean);
      target.mean = c.mean;
      target.std = c.std;
    } else {
      const std::int64_t negative = c.present - c.positive;
      if (c.positive == 0 || negative == 0)
        warn(
            fmt::format("column '{}' has only labels {} in the training part", target.column, c.positive == 0 ? 0 : 1));
      else if (balance_classes)
        target.positive_weight = static_cast<double>(negative) / static_cast<double>(c.positive);
    }
  }
}

void check_choice(const PropertyHead& head, Metric metric, std::span<const double> validation,
                  const std::function<void(const std::string&)>& warn) {
  // The best answers there can be: what has no score even with them, has none.
  const TaskScores best = score_tasks(metric, static_cast<std::int64_t>(head.targets.size()), validation, validation);
  std::vector<std::string_view> undefined;
  for (std::size_t t = 0; t < head.targets.size(); ++t)
    if (std::isnan(best.per_task[t])) undefined.push_back(head.targets[t].column);
  if (undefined.empty()) return;
  const std::size_t count = undefined.size();
  constexpr std::size_t kNamed = 8;
  undefined.resize(std::min(count, kNamed));
  const std::string names = fmt::format("{}{}", fmt::join(undefined, ", "), count > kNamed ? ", …" : "");
  const std::string why = fmt::format(
      "{} is not defined on the validation part for {} of {} tasks ({}), whose labels there are missing or all alike",
      name_of(metric), count, head.targets.size(), names);
  if (best.defined == 0) throw Error("{}: there is nothing to choose by; take another --metric or --split", why);
  warn(why + "; they have no say in the choice of the checkpoint");
}

}  // namespace moleblend
