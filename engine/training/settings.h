#pragma once
// Everything that a pretraining run is told, and its form in a checkpoint.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "engine/model/config.h"
#include "engine/model/make_model.h"
#include "engine/model/model.h"
#include "engine/training/schedule.h"
#include "io/loader/loader.h"

namespace moleblend {

struct PretrainSettings {
  // What decides the weights: two runs that agree in these (and in data set and program) give the same bytes.
  ModelConfig model;
  Objective objective;
  Schedule schedule;
  AdamSettings adam;
  LoaderOptions loader;           // `threads` and `prefetch` decide nothing
  bool reference_values = false;  // initial values as the reference draws them
  std::string init;               // checkpoint to start from, or empty
  double valid_fraction = 0.05;
  bool skip_spikes = false;  // leave out updates that lie more than spike_z above the ones before
  DeviceChoice place;        // its precision decides; device and threads decide the last bits only

  // What only decides how the run is watched and kept.
  std::int64_t valid_every = 500;       // steps; 0: never
  std::int64_t valid_molecules = 2000;  // at most so many of the validation part
  std::int64_t log_every = 1;           // steps between training lines in metrics.jsonl
  std::int64_t checkpoint_every = 500;  // steps; the last step has one in any case
  std::int64_t keep_last = 3;           // newest checkpoints kept, beside the best one
  double spike_z = 6;           // standard deviations; loss or gradient norm so far above its mean is logged; 0: never
  std::int64_t keep_every = 0;  // steps; checkpoints of their multiples stay for good; 0: none

  /// Throws UsageError naming the flag.
  void check() const;
};

/// Optimiser, schedule and global batch of the paper's run (METHOD section 8): `released` as in the published scripts,
/// `paper` as in the text. Throws UsageError naming the choices.
void apply_preset(std::string_view name, PretrainSettings& settings);

nlohmann::ordered_json to_json(const ModelConfig& config);
/// Throws nlohmann::json::exception for a missing or wrong field.
ModelConfig model_config_from(const nlohmann::ordered_json& json);
nlohmann::ordered_json to_json(const Objective& objective);
Objective objective_from(const nlohmann::ordered_json& json);
/// The part that decides the weights.
nlohmann::ordered_json to_json(const PretrainSettings& settings);

/// The first place where two JSON texts of the same kind differ, as "batch_size is 32 here and 64 there"; empty if
/// there is none.
std::string first_difference(const nlohmann::ordered_json& here, const nlohmann::ordered_json& there);

}  // namespace moleblend
