#include "engine/evaluation/trained_model.h"

#include "engine/training/checkpoint_store.h"
#include "engine/training/safetensors.h"
#include "io/support/error.h"

namespace moleblend {
namespace fs = std::filesystem;
namespace {

/// The sizes of the network that a file's tensors belong to; load_parameters() compares every shape with them.
ModelConfig config_of(const Safetensors& file) {
  const std::string encoder = "encoder.molecule_encoder.";
  const auto size = [&](const std::string& name, std::size_t axis) {
    const Safetensors::Tensor& tensor = file.at(name);
    if (axis >= tensor.shape.size())
      throw Error("{}: '{}' has too few dimensions; is it a checkpoint of this network?", file.path().string(), name);
    return tensor.shape[axis];
  };
  const auto layer = [&](std::int64_t l) { return fmt::format("{}layers.{}.fc1.weight", encoder, l); };
  ModelConfig c;
  c.name = file.path().filename().string();
  c.width = size(encoder + "atom_feature.graph_token.weight", 1);
  c.heads = size(encoder + "molecule_attn_bias.graph_token_virtual_distance.weight", 1);
  c.ffn = size(layer(0), 0);
  for (c.layers = 1; file.find(layer(c.layers)) != nullptr;) ++c.layers;
  c.with_distance = file.find(encoder + "molecule_3d_bias.gbf.means.weight") != nullptr;
  if (c.with_distance) c.kernels = size(encoder + "molecule_3d_bias.gbf.means.weight", 1);
  if (const std::string out = "encoder.proj_out.out_proj.weight"; file.find(out) != nullptr) {
    c.tasks = size(out, 0);
    return c;
  }
  c.distance_hidden = size(encoder + "blend_3d_pred_head.linear.weight", 0);
  c.target = file.find(encoder + "blend_3d_pred_head.distance_proj.weight") != nullptr ? DistanceTarget::distance
                                                                                       : DistanceTarget::displacement;
  return c;
}

}  // namespace

bool is_finetune_run(const fs::path& path) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(path, none))
    if (entry.path().filename().string().starts_with("seed-")) return true;
  return false;
}

TrainedModel find_trained_model(const fs::path& path, const std::function<void(const std::string&)>& warn) {
  std::error_code none;
  if (!fs::exists(path, none)) throw Error("there is no checkpoint at {}; check the path", path.string());
  fs::path folder = path;
  if (!fs::is_directory(path, none)) {
    folder = fs::absolute(path).parent_path();
    const bool of_checkpoint = path.filename() == "model.safetensors" && fs::exists(folder / "state.json", none);
    if (!of_checkpoint) return {path, config_of(Safetensors::open(path)), std::nullopt};
  }
  if (is_finetune_run(folder))
    throw Error("{} is a run of `moleblend finetune`, whose models are in its seed- folders; name one of those",
                folder.string());
  CheckpointStore::Found found = find_checkpoint(folder, Prefer::best, warn);
  const ModelConfig config = found.state.model;
  return {std::move(found.path), config, std::move(found.state)};
}

std::unique_ptr<Model> load_model(const TrainedModel& trained, DeviceChoice place) {
  place.learns = false;
  std::unique_ptr<Model> model = make_model(trained.config, place);
  load_parameters(trained.path, *model, Absent::refuse);
  return model;
}

}  // namespace moleblend
