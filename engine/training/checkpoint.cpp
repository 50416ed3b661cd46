#include "engine/training/checkpoint.h"

#include <unistd.h>

#include <algorithm>

#include "engine/training/checkpoint_state.h"
#include "engine/training/safetensors.h"
#include "io/support/checksum.h"
#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;
constexpr const char *kModelFile = "model.safetensors", *kOptimizerFile = "optimizer.safetensors",
                     *kStateFile = "state.json";
// Names of what Model::read calls moments 1 and 2.
constexpr const char* kMomentPrefix[] = {"", "adam_m.", "adam_v."};

/// Names every tensor of the flat buffers, in the order given, and writes them.
void write_tensors(const fs::path& path, const Model& model, std::initializer_list<int> moments) {
  std::vector<std::vector<float>> buffers;
  std::vector<TensorToWrite> tensors;
  for (const int moment : moments) {
    std::vector<float>& buffer = buffers.emplace_back(static_cast<std::size_t>(model.parameter_count()));
    model.read(moment, buffer);
    for (const ParameterInfo& p : model.parameters()) {
      const std::span<const float> values(buffer.data() + p.offset, static_cast<std::size_t>(p.count));
      tensors.push_back({kMomentPrefix[moment] + p.name, TensorType::f32, p.shape, std::as_bytes(values)});
    }
  }
  // "format": "pt" lets Python's safetensors load the file as it is.
  write_safetensors(path, tensors, {{"format", "pt"}});
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// Reads one flat buffer; names of parameters that the file lacks are returned, or refused.
std::vector<std::string> read_tensors(const Safetensors& file, Model& model, int moment, Absent absent) {
  std::vector<float> buffer(static_cast<std::size_t>(model.parameter_count()));
  model.read(moment, buffer);
  std::vector<std::string> kept;
  for (const ParameterInfo& p : model.parameters()) {
    const std::string name = kMomentPrefix[moment] + p.name;
    const Safetensors::Tensor* tensor = file.find(name);
    if (!tensor) {
      if (absent == Absent::refuse)
        throw Error(
            "{} is the checkpoint of another configuration: it has no '{}'; choose the model that it was made with",
            file.path().string(), name);
      kept.push_back(p.name);
      continue;
    }
    if (tensor->shape != p.shape)
      throw Error(
          "{} is the checkpoint of another configuration: '{}' is {} there and {} in this model; choose the model that "
          "it was made with",
          file.path().string(), name, shape_text(tensor->shape), shape_text(p.shape));
    file.copy(*tensor,
              std::span(buffer).subspan(static_cast<std::size_t>(p.offset), static_cast<std::size_t>(p.count)));
  }
  model.write(moment, buffer);
  return kept;
}

Json describe_file(const fs::path& path) {
  const MappedFile file(path);
  return {{"bytes", file.bytes().size()}, {"crc32", crc32(file.bytes())}};
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("step-{:08}", step);
}

void save_checkpoint(const fs::path& folder, const Model& model, const CheckpointState& state) {
  const fs::path temporary =
      folder.parent_path() / fmt::format(".writing-{}-{}", folder.filename().string(), ::getpid());
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  try {
    create_folders(temporary);
    write_tensors(temporary / kModelFile, model, {0});
    write_tensors(temporary / kOptimizerFile, model, {1, 2});
    const Json files = {{kModelFile, describe_file(temporary / kModelFile)},
                        {kOptimizerFile, describe_file(temporary / kOptimizerFile)}};
    write_file(temporary / kStateFile, checkpoint_state_text({state, files}));
    // A folder of this name is from before (a run that went back to an older checkpoint); it can't be renamed over.
    fs::remove_all(folder);
    fs::rename(temporary, folder);
    sync_folder(folder.parent_path());
  } catch (const fs::filesystem_error& e) {
    fs::remove_all(temporary, ignored);
    throw Error("can't write the checkpoint {}: {}; check the disk and its permissions", folder.string(),
                e.code().message());
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
}

CheckpointState read_checkpoint(const fs::path& folder) {
  const auto refuse = [&](std::string_view cause) {
    throw Error("{} is not a whole checkpoint: {}; use another one", folder.string(), cause);
  };
  std::error_code none;
  if (!fs::exists(folder / kStateFile, none)) refuse("it has no state.json");
  const CheckpointStateFile file = parse_checkpoint_state(read_file(folder / kStateFile), folder);
  for (const char* name : {kModelFile, kOptimizerFile}) {
    if (!fs::exists(folder / name, none)) refuse(fmt::format("{} is missing", name));
    if (!file.files.contains(name) || describe_file(folder / name) != file.files.at(name))
      refuse(fmt::format("{} is damaged (its size or checksum is wrong)", name));
  }
  return file.state;
}

void load_checkpoint(const fs::path& folder, Model& model) {
  const Safetensors parameters = Safetensors::open(folder / kModelFile);
  // A tensor that the model has no place for would be lost by the next save.
  for (const Safetensors::Tensor& t : parameters.tensors()) {
    const auto& known = model.parameters();
    if (std::none_of(known.begin(), known.end(), [&](const ParameterInfo& p) { return p.name == t.name; }))
      throw Error(
          "{} is the checkpoint of another configuration: this model has no '{}'; choose the model that it was made "
          "with",
          folder.string(), t.name);
  }
  read_tensors(parameters, model, 0, Absent::refuse);
  const Safetensors moments = Safetensors::open(folder / kOptimizerFile);
  for (const int moment : {1, 2}) read_tensors(moments, model, moment, Absent::refuse);
}

std::vector<std::string> load_parameters(const fs::path& source, Model& model, Absent absent) {
  std::error_code none;
  if (!fs::exists(source, none)) throw Error("there is no checkpoint at {}; check the path", source.string());
  if (!fs::is_directory(source, none)) return read_tensors(Safetensors::open(source), model, 0, absent);
  read_checkpoint(source);
  return read_tensors(Safetensors::open(source / kModelFile), model, 0, absent);
}

}  // namespace moleblend
