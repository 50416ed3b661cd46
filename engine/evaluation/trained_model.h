#pragma once
// A trained network as its users name it: a run, a checkpoint of it, or a file of parameters.

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/model/make_model.h"
#include "engine/training/checkpoint.h"

namespace moleblend {

struct TrainedModel {
  std::filesystem::path path;            // the checkpoint folder or .safetensors file that was chosen
  ModelConfig config;                    //
  std::optional<CheckpointState> state;  // none: a file of parameters alone (a converted one)
};

/// Whether a folder is that of a run of `finetune`, with its seeds in it.
bool is_finetune_run(const std::filesystem::path& path);

/// Of a run the best checkpoint, else the newest. Of a file that lies in a checkpoint, that checkpoint; of any other .safetensors file
/// the configuration is read from the shapes of its tensors. Reads files and no more: no thread and no device is used. Throws Error.
TrainedModel find_trained_model(const std::filesystem::path& path, const std::function<void(const std::string&)>& warn);

/// The network on a device, with its parameters: one that answers and does not learn. Throws as make_model and load_parameters do.
std::unique_ptr<Model> load_model(const TrainedModel& trained, DeviceChoice place);

}  // namespace moleblend
