#pragma once
// The property models that a user names: one checkpoint, or all seeds of a fine-tuning run.

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/evaluation/trained_model.h"
#include "engine/property/predictor.h"

namespace moleblend {

/// Property models that answer together.
struct Ensemble {
  std::vector<TrainedModel> found;
  std::vector<PropertyHead> heads;
  std::vector<std::unique_ptr<Model>> models;  // after load()

  const PropertyHead& head() const { return heads.front(); }
  /// Reads the parameters. Throws as load_model() does.
  void load(const DeviceChoice& place);
  std::vector<Predictor::Member> members() const;
};

/// A checkpoint, the folder of a seed, or a run of `finetune` (its finished seeds, each with the checkpoint that validation chose). Reads
/// files and no more. Throws Error if there is no fine-tuned model, or if the seeds do not answer the same question.
Ensemble find_ensemble(const std::filesystem::path& path, const std::function<void(const std::string&)>& warn);

}  // namespace moleblend
