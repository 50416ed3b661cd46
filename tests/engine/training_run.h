#pragma once
// A small data set, a run's settings, and what a run leaves in its folder.

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "engine/training/checkpoint_store.h"
#include "engine/training/trainer.h"
#include "io/support/files.h"
#include "tests/engine/small_dataset.h"
#include "tests/engine/temporary_folder.h"

namespace moleblend::testing {

class TrainingRun : public ::testing::Test {
 protected:
  /// 60 molecules, a quarter of them for validation; every checkpoint stays.
  TrainingRun() {
    write_small_dataset(folder_.path() / "data", 60);
    data_ = std::make_unique<Dataset>(Dataset::open(folder_.path() / "data"));
    settings_.loader.seed = 3;
    settings_.valid_fraction = 0.25;
    settings_.keep_last = 100;
    split_ = random_split(data_->size(), settings_.valid_fraction, settings_.loader.seed);
  }

  /// The newest checkpoint of the run with this name.
  std::optional<CheckpointStore::Found> newest(const std::string& name) const {
    return CheckpointStore(folder_.path() / name / "checkpoints", {}).newest([](const std::string&) {});
  }

  /// Trains from there on.
  PretrainOutcome train(const std::string& name, const std::optional<CheckpointStore::Found>& from, Model& model,
                        std::optional<std::int64_t> stop_at, Ranks& ranks = sole_rank()) const {
    std::filesystem::create_directories(folder_.path() / name);
    if (from) load_checkpoint(from->path, model);
    return pretrain({.data = *data_,
                     .split = split_,
                     .model = model,
                     .settings = settings_,
                     .run = folder_.path() / name,
                     .program_version = "test",
                     .first_step = from ? from->state.step : 0,
                     .best = from ? from->state.best : std::nullopt,
                     .spikes = from && from->state.spikes ? *from->state.spikes : SpikeWatch(),
                     .stop_at = stop_at,
                     .quiet = quiet_,
                     .ranks = ranks});
  }

  /// The log but for times.
  std::vector<nlohmann::ordered_json> lines(const std::string& name) const {
    std::istringstream in(read_file(folder_.path() / name / "metrics.jsonl"));
    std::vector<nlohmann::ordered_json> all;
    for (std::string line; std::getline(in, line);) {
      all.push_back(nlohmann::ordered_json::parse(line));
      all.back().erase("seconds");
      all.back().erase("molecules_per_s");
    }
    return all;
  }
  std::string final_model(const std::string& name) const {
    return read_file(folder_.path() / name / "checkpoints" / checkpoint_name(settings_.schedule.steps) /
                     "model.safetensors");
  }

  TemporaryFolder folder_;
  std::unique_ptr<Dataset> data_;
  PretrainSettings settings_;
  Split split_;
  bool quiet_ = true;  // whether nothing is told on standard error
};

}  // namespace moleblend::testing
