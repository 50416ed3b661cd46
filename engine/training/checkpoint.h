#pragma once
// One checkpoint: a folder that is there whole or not at all.
//
//   model.safetensors      the parameters, F32, with the reference's names and shapes
//   optimizer.safetensors  adam_m.<name> and adam_v.<name>
//   state.json             step, settings, data set, and the size and CRC-32 of the two files and of itself; written
//   last

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/training/spikes.h"

namespace moleblend {

/// A validation that was the best of its run: of the lowest loss, or in fine-tuning of the best metric, whose negative stands for a loss
/// where higher is better.
struct BestValidation {
  std::int64_t step = 0;
  double loss = 0;
  bool operator==(const BestValidation&) const = default;
};

struct CheckpointState {
  std::string kind = "pretrain";  // or "finetune"
  std::int64_t step = 0;          // updates done; also the position in the data: the next step of the loader
  ModelConfig model;
  nlohmann::ordered_json settings;  // what decides the weights: to_json(PretrainSettings), or the fine-tuning's
  std::string dataset_fingerprint;
  std::string program_version;
  std::string precision = "fp32";
  std::optional<BestValidation> best;     // so far, this step included
  std::optional<SpikeWatch> spikes = {};  // of pretraining: what later updates are compared with
};

/// "step-00001000"
std::string checkpoint_name(std::int64_t step);

/// Writes the checkpoint into a temporary folder beside `folder`, syncs every file, and renames. A checkpoint that is
/// there is replaced. Throws Error.
void save_checkpoint(const std::filesystem::path& folder, const Model& model, const CheckpointState& state);

/// Checks that a checkpoint is complete and undamaged, checksums included, and returns its state. Throws Error saying
/// what is wrong.
CheckpointState read_checkpoint(const std::filesystem::path& folder);

/// Parameters and moments of the same network. Throws Error naming the first name or shape that differs.
void load_checkpoint(const std::filesystem::path& folder, Model& model);

/// What to do about parameters of the model that a file lacks.
enum class Absent { refuse, keep };
/// Parameters only, from a checkpoint folder or a .safetensors file (a converted reference checkpoint). Tensors that
/// the model has no use for are passed over. With Absent::keep a parameter that the file lacks keeps its value, and its
/// name is returned; a shape that differs is refused in any case. Throws Error naming the first name or shape that
/// differs.
std::vector<std::string> load_parameters(const std::filesystem::path& source, Model& model, Absent absent);

}  // namespace moleblend
