#include "apps/evaluate_property.h"

#include <fmt/format.h>

#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/verb.h"
#include "engine/evaluation/fixed_batches.h"
#include "engine/property/ensemble.h"
#include "engine/property/labels.h"
#include "engine/property/make_parts.h"
#include "engine/property/result.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;

/// The molecules to score, and those that the constant answer is taken from.
struct Chosen {
  std::string name;
  Subset scored, fitted;
};

Chosen choose(const PropertyEvaluation& e, const Dataset& data, const CheckpointState& state) {
  const Subset all = Subset::all(data.size());
  if (data.info().fingerprint != state.dataset_fingerprint) {
    if (!e.part.empty() && e.part != "all")
      throw UsageError(
          "--part {} is a part of the data set that the model was trained on, and {} is another one; use --part all",
          e.part, e.data);
    return {"all", all, all};
  }
  const Parts parts = make_parts(data, split_choice_from(state.settings.at("split")), e.place.threads);
  const std::string name = e.part.empty() ? "test" : e.part;
  return {name,
          name == "test"    ? parts.test
          : name == "valid" ? parts.valid
          : name == "train" ? parts.train
                            : all,
          parts.train};
}

/// The mean over the members for each molecule and task.
std::vector<double> answers_of(const Ensemble& ensemble, const Dataset& data, const Subset& part,
                               const PropertyEvaluation& e) {
  std::vector<double> mean;
  Progress progress("evaluate", part.size() * ensemble.models.size(), "molecules", e.quiet);
  const auto members = static_cast<double>(ensemble.models.size());
  for (std::size_t k = 0; k < ensemble.models.size(); ++k) {
    const std::vector<double> answers =
        predict(*ensemble.models[k], ensemble.heads[k], data, part, nullptr, e.batch_atoms.value_or(kPassAtoms));
    mean.resize(answers.size());
    for (std::size_t i = 0; i < answers.size(); ++i) mean[i] += answers[i] / members;
    progress.update((k + 1) * part.size());
  }
  progress.finish();
  return mean;
}

}  // namespace

bool names_property_model(const std::string& checkpoint) {
  if (is_finetune_run(checkpoint)) return true;
  const TrainedModel found = find_trained_model(checkpoint, warn);
  return found.state && found.state->kind == "finetune";
}

void evaluate_property(const PropertyEvaluation& e) {
  Ensemble ensemble = find_ensemble(e.checkpoint, warn);
  const Dataset data = Dataset::open(e.data, true);
  const Chosen chosen = choose(e, data, *ensemble.found.front().state);
  PropertyHead head = ensemble.head();
  const Labels labels(data, head);
  const Subset part = labels.usable(chosen.scored);
  if (part.empty())
    throw Error("no molecule of part {} of {} has a label{}; name another --part or --data", chosen.name, e.data,
                head.shown.graph ? "" : " and positions");
  ensemble.load(e.place);
  const std::vector<double> answers = answers_of(ensemble, data, part, e);
  const Json scores = to_json(
      score_part(head, labels.of(part), answers, count_labels(labels, labels.usable(chosen.fitted)), e.seed), head);
  Json checkpoints = Json::array();
  for (const TrainedModel& found : ensemble.found) checkpoints.push_back(found.path.string());
  const Json result = {{"checkpoints", checkpoints},
                       {"data", e.data},
                       {"data_fingerprint", data.info().fingerprint},
                       {"part", chosen.name},
                       {"part_fingerprint", fingerprint(data, part)},
                       {"left_out", chosen.scored.size() - part.size()},
                       {chosen.name, scores}};
  if (e.json) {
    std::cout << result.dump(2) << "\n";
    return;
  }
  fmt::print("model       {}{}\n", e.checkpoint,
             ensemble.found.size() == 1 ? "" : fmt::format(", {} seeds that answer together", ensemble.found.size()));
  fmt::print("molecules   {} of {}, part {}, fingerprint {}; {} without label or positions are left out\n\n",
             count_text(part.size()), e.data, chosen.name, fingerprint(data, part),
             count_text(chosen.scored.size() - part.size()));
  fmt::print(
      "{}constant: the best answer that looks at nothing. In brackets: 95 % intervals from resampled molecules.\n",
      result_table(result, head));
}

}  // namespace moleblend
