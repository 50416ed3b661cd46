#pragma once
// The flags of `moleblend pretrain`, and their form in a run's config.toml.

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/training/settings.h"

namespace moleblend {

/// As given; what is not given has its default from the model, the preset or the objective.
struct PretrainFlags {
  std::string data, output, resume, init;
  std::string model = "small", preset, objective = "blend", target = "distance", init_values = "default";
  std::optional<std::string> schedule;
  std::optional<std::int64_t> layers, width, heads, ffn, kernels, distance_hidden;
  std::optional<double> attention_dropout, activation_dropout, hidden_dropout, drop_path;
  std::vector<double> blend, atom_blend, factors;
  std::optional<double> noise_scale;
  std::optional<std::int64_t> steps, warmup, batch_size, stop_at;
  std::optional<double> lr, final_lr, clip, weight_decay, beta1, beta2, adam_epsilon;
  double rank_deadline = 600;  // seconds
  bool without_positions = false, first_conformer = false;
  PretrainSettings direct;  // fields whose flags have no default but one

  /// Everything resolved and checked. Throws UsageError, and Error for a device or precision that this build has not.
  PretrainSettings settings() const;
};

void add_pretrain_flags(CLI::App& verb, PretrainFlags& flags);

/// The flags among a verb's arguments, such as those in a run's config.toml. Throws what CLI11 throws.
PretrainFlags parse_pretrain(std::vector<std::string> arguments);

/// All settings as a TOML file that --config reads back to the same settings.
std::string to_toml(const PretrainSettings& settings, const std::string& data);

}  // namespace moleblend
