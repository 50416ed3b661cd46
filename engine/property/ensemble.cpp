#include "engine/property/ensemble.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "io/support/error.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;

/// Folders seed-<n> of a run whose scores are there, by n.
std::vector<fs::path> finished_seeds(const fs::path& run) {
  constexpr std::string_view kPrefix = "seed-";
  std::vector<std::pair<std::uint64_t, fs::path>> seeds;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(run, none)) {
    const std::string name = entry.path().filename().string();
    std::uint64_t seed = 0;
    if (!name.starts_with(kPrefix) || !fs::exists(entry.path() / "result.json", none)) continue;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), seed);
    seeds.emplace_back(seed, entry.path());
  }
  std::sort(seeds.begin(), seeds.end());
  std::vector<fs::path> folders;
  for (auto& [seed, folder] : seeds) folders.push_back(std::move(folder));
  return folders;
}

/// Heads with what only training fits taken out.
PropertyHead question(PropertyHead head) {
  for (Target& target : head.targets) target.mean = 0, target.std = 1, target.positive_weight = 1;
  return head;
}

bool same_question(const PropertyHead& a, const PropertyHead& b) {
  const PropertyHead x = question(a), y = question(b);
  return x.task == y.task && x.readout == y.readout && x.shown == y.shown && x.targets == y.targets &&
         x.all_conformers == y.all_conformers;
}

}  // namespace

Ensemble find_ensemble(const fs::path& path, const std::function<void(const std::string&)>& warn) {
  std::vector<fs::path> paths = {path};
  if (is_finetune_run(path)) {
    paths = finished_seeds(path);
    if (paths.empty())
      throw Error("{} has no finished seed yet; go on with it by `moleblend finetune --resume {}`", path.string(),
                  path.string());
  }
  Ensemble ensemble;
  for (const fs::path& p : paths) {
    TrainedModel found = find_trained_model(p, warn);
    if (!found.state || found.state->kind != "finetune")
      throw Error(
          "{} is a pretrained encoder, which answers no question; fine-tune it with `moleblend finetune --init`",
          found.path.string());
    ensemble.heads.push_back(property_head_from(found.state->settings.at("head")));
    if (!same_question(ensemble.head(), ensemble.heads.back()))
      throw Error("{} answers another question than {}; name one of them", found.path.string(),
                  ensemble.found.front().path.string());
    ensemble.found.push_back(std::move(found));
  }
  return ensemble;
}

void Ensemble::load(const DeviceChoice& place) {
  for (const TrainedModel& trained : found) models.push_back(load_model(trained, place));
}

std::vector<Predictor::Member> Ensemble::members() const {
  std::vector<Predictor::Member> members;
  for (std::size_t k = 0; k < models.size(); ++k) members.push_back({models[k].get(), heads[k]});
  return members;
}

}  // namespace moleblend
