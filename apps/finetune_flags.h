#pragma once
// The flags of `moleblend finetune`, and their form in a run's config.toml.

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/property/settings.h"

namespace moleblend {

/// As given; what is not given has its default from the task preset, the model, or whether there is something to start from.
struct FinetuneFlags {
  std::string data, output, resume, init = "none", preset, labels, unit;
  std::string readout = "cls", schedule = "cosine";
  std::optional<std::string> model, task, show, metric, split;
  std::optional<double> factor, epochs, warmup_epochs, lr;
  std::optional<double> attention_dropout, activation_dropout, hidden_dropout, drop_path;
  std::optional<std::int64_t> batch_size, stop_at;
  std::optional<std::uint64_t> split_seed;
  std::vector<double> fractions;
  std::vector<std::uint64_t> counts;
  double rank_deadline = 600;  // seconds
  bool first_conformer = false;
  FinetuneSettings direct;  // fields whose flags have no default but one

  /// Everything that is known before the data are read, resolved and checked. Reads the configuration of the checkpoint to start from.
  /// Throws UsageError, and Error for a checkpoint that can't be read.
  FinetuneSettings settings() const;
};

void add_finetune_flags(CLI::App& verb, FinetuneFlags& flags);

/// All flags that are not of their defaults, as a TOML file that --config reads back to the same settings.
std::string to_toml(const FinetuneFlags& flags);

}  // namespace moleblend
