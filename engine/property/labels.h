#pragma once
// The labels that a property model is trained on or held against, checked once and kept in memory.

#include <array>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/property/metrics.h"
#include "engine/property/settings.h"
#include "io/dataset/dataset.h"
#include "io/loader/batch.h"
#include "io/loader/subset.h"

namespace moleblend {

/// Labels of a data set's molecules in the targets' units.
class Labels {
 public:
  /// Reads the columns of head.targets, or where there are none makes every label column but `without` a target. Throws UsageError
  /// for a column that the data set lacks, and Error for a value that can't be a label (classification: neither 0 nor 1; infinite),
  /// naming column, molecule and remedy.
  Labels(const Dataset& data, PropertyHead& head, std::string_view without = {});

  std::int64_t tasks() const { return tasks_; }
  /// [tasks] of a molecule, NaN = missing.
  std::span<const double> of(std::uint64_t molecule) const {
    return std::span(values_).subspan(molecule * static_cast<std::uint64_t>(tasks_), static_cast<std::size_t>(tasks_));
  }
  /// [molecules, tasks] of a batch or a part, in its order.
  std::vector<double> of(const Batch& batch) const;
  std::vector<double> of(const Subset& part) const;
  /// Whether a molecule can be learnt from: it has a label, and positions where they alone are shown.
  bool usable(std::uint64_t molecule) const { return usable_[molecule]; }
  /// The members of a part that are usable.
  Subset usable(const Subset& part) const;

  std::uint64_t without_label() const { return without_label_; }
  /// Of those with a label, molecules without positions where positions alone are shown.
  std::uint64_t without_positions() const { return without_positions_; }

 private:
  std::int64_t tasks_;
  std::vector<double> values_;
  std::vector<bool> usable_;
  std::uint64_t without_label_ = 0, without_positions_ = 0;
};

/// What a part holds of one task.
struct TaskCount {
  std::int64_t present = 0, positive = 0;  // labels; labels 1
  double mean = 0, std = 0, median = 0;    // of the labels present
};
std::vector<TaskCount> count_labels(const Labels& labels, const Subset& part);

/// Fills mean and std (regression) or positive_weight (balanced classification) from the training part. Throws Error for a target that
/// can't be learnt from it, naming the column: no label at all, or (regression) all the same. A task with one class is told to `warn`.
void fit_targets(PropertyHead& head, const std::vector<TaskCount>& training, bool balance_classes,
                 const std::function<void(const std::string&)>& warn);

/// Whether validation can choose by `metric`, whose labels [molecules, tasks] these are. Throws Error if it is defined for none of the
/// tasks; those of several for which it is not, and which therefore have no say, are told to `warn` in one line.
void check_choice(const PropertyHead& head, Metric metric, std::span<const double> validation,
                  const std::function<void(const std::string&)>& warn);

}  // namespace moleblend
