#include "engine/training/checkpoint_store.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;
constexpr const char* kBestFile = "best.json";
constexpr std::string_view kStepPrefix = "step-";

/// Steps that have a folder of a checkpoint's name, ascending.
std::vector<std::int64_t> steps_in(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    std::int64_t step = -1;
    if (name.starts_with(kStepPrefix))
      std::from_chars(name.data() + kStepPrefix.size(), name.data() + name.size(), step);
    if (step >= 0 && name == checkpoint_name(step)) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

}  // namespace

CheckpointStore::CheckpointStore(fs::path folder, Retention retention)
    : folder_(std::move(folder)), retention_(retention) {}

std::optional<CheckpointStore::Found> CheckpointStore::newest(const Warn& warn) const {
  const std::vector<std::int64_t> steps = steps_in(folder_);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const fs::path path = folder_ / checkpoint_name(*step);
    try {
      return Found{path, read_checkpoint(path)};
    } catch (const Error& e) {
      warn(e.what());
    }
  }
  return std::nullopt;
}

std::optional<CheckpointStore::Found> CheckpointStore::best(const Warn& warn) const {
  std::error_code none;
  if (!fs::exists(folder_ / kBestFile, none)) return std::nullopt;
  try {
    const Json json = Json::parse(read_file(folder_ / kBestFile));
    const fs::path path = folder_ / checkpoint_name(json.at("step").get<std::int64_t>());
    return Found{path, read_checkpoint(path)};
  } catch (const Error& e) {
    warn(e.what());
  } catch (const Json::exception&) {
    warn(fmt::format("{} can't be read; the newest checkpoint is used", (folder_ / kBestFile).string()));
  }
  return std::nullopt;
}

void CheckpointStore::save(const Model& model, const CheckpointState& state) {
  create_folders(folder_);
  save_checkpoint(folder_ / checkpoint_name(state.step), model, state);
  point_to_best(state.best);
  prune(state.best);
}

void CheckpointStore::clean() const {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_, ignored))
    if (entry.path().filename().string().starts_with(".writing-")) fs::remove_all(entry.path(), ignored);
  remove_partial_files(folder_);
}

void CheckpointStore::point_to_best(const std::optional<BestValidation>& best) const {
  if (!best || !fs::exists(folder_ / checkpoint_name(best->step))) return;
  write_file(folder_ / kBestFile, Json{{"step", best->step}, {"loss", best->loss}}.dump() + "\n");
}

void CheckpointStore::prune(const std::optional<BestValidation>& best) const {
  const std::vector<std::int64_t> steps = steps_in(folder_);
  const std::size_t last = static_cast<std::size_t>(retention_.keep_last);
  for (std::size_t k = 0; k + last < steps.size(); ++k) {
    const bool permanent = retention_.keep_every > 0 && steps[k] % retention_.keep_every == 0;
    if (permanent || (best && best->step == steps[k])) continue;
    // state.json first: a removal that is cut short leaves an incomplete checkpoint, never a damaged one that looks
    // whole.
    std::error_code ignored;
    const fs::path path = folder_ / checkpoint_name(steps[k]);
    fs::remove(path / "state.json", ignored);
    fs::remove_all(path, ignored);
  }
}

CheckpointStore::Found find_checkpoint(const fs::path& path, Prefer prefer, const CheckpointStore::Warn& warn) {
  std::error_code none;
  if (fs::exists(path / "state.json", none) || path.filename().string().starts_with(kStepPrefix))
    return {path, read_checkpoint(path)};
  if (!fs::is_directory(path / "checkpoints", none))
    throw Error(
        "{} is neither a checkpoint nor a run with checkpoints; name a run folder or one of its checkpoints/step-…",
        path.string());
  const CheckpointStore store(path / "checkpoints", {});
  if (prefer == Prefer::best)
    if (auto found = store.best(warn)) return *found;
  if (auto found = store.newest(warn)) return *found;
  throw Error("{} has no whole checkpoint; resume the run to make one", path.string());
}

}  // namespace moleblend
