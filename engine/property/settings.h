#pragma once
// Everything that fine-tuning is told, and its form in a checkpoint (METHOD section 10).

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/make_model.h"
#include "engine/model/model.h"
#include "engine/property/metrics.h"
#include "engine/training/schedule.h"
#include "io/loader/loader.h"

namespace moleblend {

/// One task: a label column, and what its values are multiplied with to be in `unit`.
struct Target {
  std::string column;
  double factor = 1;
  std::string unit = {};       // empty: the column's own
  double mean = 0, std = 1;    // regression: of the training part, in the unit; known once the data are read
  double positive_weight = 1;  // classification: of labels 1 in the loss
  bool operator==(const Target&) const = default;
};

/// What of a molecule a property model sees: the graph (SPD, edges, degrees), positions, or both.
struct Shown {
  bool graph = true, positions = false;
  bool operator==(const Shown&) const = default;
};
/// 2d, 3d or both; throws UsageError naming the choices.
Shown shown_named(std::string_view name);
std::string_view name_of(Shown shown);
/// cls, mean or sum; throws UsageError naming the choices.
Readout readout_named(std::string_view name);
std::string_view name_of(Readout readout);
/// classification or regression; throws UsageError naming the choices.
PropertyTask property_task_named(std::string_view name);
std::string_view name_of(PropertyTask task);

/// How a property model is asked and what its answers mean: all that prediction needs beside the network.
struct PropertyHead {
  PropertyTask task = PropertyTask::regression;
  Readout readout = Readout::cls;
  Shown shown = {};
  std::vector<Target> targets = {};
  bool all_conformers = false;  // answers are averaged over a molecule's conformers; else the first one is used
};

/// Which molecules train, choose and test.
struct SplitChoice {
  std::string rule = "random";  // random, scaffold (largest first), scaffold-balanced or given
  std::array<double, 3> fractions{0.8, 0.1, 0.1};
  std::vector<std::uint64_t> counts;  // of training and validation molecules; empty: by fractions
  std::string file, column;           // of `given`
  std::uint64_t seed = 1;
};

struct FinetuneSettings {
  // What decides the weights.
  ModelConfig model;  // with `tasks`
  std::string init;   // checkpoint, run or .safetensors file; empty: from scratch
  PropertyHead head;
  SplitChoice split;
  bool balance_classes = false;  // weigh labels 1 so that both classes of a task count alike in training
  bool freeze = false;           // the head alone learns
  double layer_decay = 1;        // each layer below the head learns so many times as fast as the one above it
  Metric metric = Metric::rmse;  // what validation chooses by
  double epochs = 40;
  std::int64_t patience = 0;  // epochs without a better validation that end the training; 0: never
  Schedule schedule;          // its steps follow from the epochs
  AdamSettings adam;
  LoaderOptions loader;  // its seed is that of the first run
  DeviceChoice place;
  std::int64_t seeds = 1;

  // What decides nothing.
  std::int64_t log_every = 1, keep_last = 2;

  /// Throws UsageError naming the flag.
  void check() const;
};

/// The part that decides the weights of the run with this seed.
nlohmann::ordered_json to_json(const FinetuneSettings& settings, std::uint64_t seed);
nlohmann::ordered_json to_json(const PropertyHead& head);
/// Both throw nlohmann::json::exception for a missing field, UsageError for a wrong one.
SplitChoice split_choice_from(const nlohmann::ordered_json& json);
PropertyHead property_head_from(const nlohmann::ordered_json& json);

}  // namespace moleblend
