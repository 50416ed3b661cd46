#pragma once
// The benchmarks of the field: which columns, which metric, which split, in which unit.

#include <string>
#include <string_view>
#include <vector>

#include "engine/property/settings.h"

namespace moleblend {

/// What a benchmark fixes. Learning rate and network are the user's.
struct TaskPreset {
  std::string name, about;
  PropertyTask task;
  Metric metric;
  std::string split;
  std::vector<std::uint64_t> counts = {};  // of training and validation molecules; empty: 80 : 10 : 10
  Shown shown;
  std::vector<Target> targets = {};  // empty: every label column of the data set
  std::int64_t batch_size = 128;
  double epochs = 80;
};

/// Throws UsageError naming the choices.
const TaskPreset& task_preset(std::string_view name);
const std::vector<TaskPreset>& task_presets();

void apply(const TaskPreset& preset, FinetuneSettings& settings);

}  // namespace moleblend
