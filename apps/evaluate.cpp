// moleblend evaluate: how well a pretrained network recovers each relation from each visible input.

#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/evaluate_property.h"
#include "apps/verb.h"
#include "engine/evaluation/fixed_batches.h"
#include "engine/evaluation/recovery.h"
#include "engine/evaluation/trained_model.h"
#include "engine/model/make_model.h"
#include "engine/training/checkpoint_store.h"
#include "engine/training/settings.h"
#include "io/support/cores.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

struct EvaluateFlags {
  std::string checkpoint, data, part;
  RecoveryOptions options;
  std::optional<std::int64_t> batch_atoms;
  DeviceChoice place;
};

/// The molecules to evaluate, and those that the baselines are fitted on.
struct EvaluatedParts {
  std::string name;
  Subset evaluated, fitted;
  bool same_data;
};

EvaluatedParts choose_parts(const EvaluateFlags& flags, const Dataset& data, const CheckpointState& state) {
  const Subset all = Subset::all(data.size());
  const bool same = data.info().fingerprint == state.dataset_fingerprint;
  if (!same) {
    // Another data set has no part that the run has seen or not seen; the baselines may know all of it, in their favour.
    if (flags.part == "valid" || flags.part == "train")
      throw UsageError(
          "--part {} is a part of the data set that the run was trained on, and {} is another one; use --part all",
          flags.part, flags.data);
    return {"all", all, all, false};
  }
  const nlohmann::ordered_json& s = state.settings;
  if (s.value("split", "") != kSplitRule)
    throw Error(
        "{} was trained by a program that split data sets in another way, so its validation part can't be found; train "
        "anew, or evaluate it on another data set",
        flags.checkpoint);
  Split split = random_split(data.size(), s.at("valid_fraction").get<double>(), s.at("seed").get<std::uint64_t>());
  if (flags.part == "train") return {"train", split.train, split.train, true};
  if (flags.part == "all") return {"all", all, split.train, true};
  if (split.valid.empty()) throw Error("the run kept no validation part; evaluate --part train, or another data set");
  return {"valid", std::move(split.valid), std::move(split.train), true};
}

void run_evaluate(const EvaluateFlags& flags, const CommonFlags& common) {
  if (flags.checkpoint.empty() || flags.data.empty())
    throw UsageError("name a checkpoint (or run) and a data set: --checkpoint RUN --data DIR");
  if (flags.part != "" && flags.part != "valid" && flags.part != "train" && flags.part != "test" && flags.part != "all")
    throw UsageError("--part can't be '{}'; choose valid, train, test or all", flags.part);
  if (flags.options.draws < 1) throw UsageError("--draws must be at least 1, and is {}", flags.options.draws);
  if (flags.batch_atoms.value_or(1) < 1)
    throw UsageError("--batch-atoms must be at least 1, and is {}", *flags.batch_atoms);
  flags.place.check();

  if (names_property_model(flags.checkpoint))
    return evaluate_property({.checkpoint = flags.checkpoint,
                              .data = flags.data,
                              .part = flags.part,
                              .seed = flags.options.seed,
                              .batch_atoms = flags.batch_atoms,
                              .place = flags.place,
                              .json = common.json,
                              .quiet = common.quiet});
  if (flags.part == "test")
    throw UsageError("--part test is of fine-tuned models; a pretrained one has valid, train and all");
  const CheckpointStore::Found found = find_checkpoint(flags.checkpoint, Prefer::best, warn);
  const Dataset data = Dataset::open(flags.data);
  const EvaluatedParts parts = choose_parts(flags, data, found.state);
  const Objective objective = objective_from(found.state.settings.at("objective"));
  const std::unique_ptr<Model> model = load_model({found.path, found.state.model, found.state}, flags.place);

  RecoveryOptions options = flags.options;
  options.batch_atoms = flags.batch_atoms.value_or(options.batch_atoms);
  const Recovery recovery = recover(*model, data, parts.evaluated, parts.fitted, objective, options);
  const std::string part_fingerprint = fingerprint(data, parts.evaluated);
  if (common.json) {
    const nlohmann::ordered_json json = {{"checkpoint", found.path.string()},
                                         {"step", found.state.step},
                                         {"data", flags.data},
                                         {"data_fingerprint", data.info().fingerprint},
                                         {"trained_on_this_data", parts.same_data},
                                         {"part", parts.name},
                                         {"part_fingerprint", part_fingerprint},
                                         {"molecules", recovery.molecules},
                                         {"left_out_without_positions", recovery.left_out},
                                         {"baselines_fitted_on", recovery.fitted},
                                         {"seed", flags.options.seed},
                                         {"draws", flags.options.draws},
                                         {"noise_scale", objective.noise_scale},
                                         {parts.name, to_json(recovery, found.state.model.target)}};
    std::cout << json.dump(2) << "\n";
    return;
  }
  fmt::print("checkpoint  {} (step {})\n", found.path.string(), found.state.step);
  fmt::print("molecules   {} of {}, part {}, fingerprint {}{}\n", count_text(recovery.molecules), flags.data,
             parts.name, part_fingerprint, parts.same_data ? "" : "; not the data set of the run");
  if (recovery.left_out > 0)
    fmt::print("            {} without positions are left out\n", count_text(recovery.left_out));
  fmt::print("draws       {} with seed {}; positions are shown with noise of {} Å\n\n", flags.options.draws,
             flags.options.seed, objective.noise_scale);
  fmt::print("{}\n", table(recovery, found.state.model.target));
  fmt::print(
      "constant: the most frequent class (of each hop), the median distance. look-up: a pair's own visible relation "
      "copied, or the\n"
      "most frequent class or median of pairs that show the same. Both from {} molecules of {}. ✓: the model is "
      "better.\n",
      count_text(recovery.fitted), parts.same_data ? "the training part" : "this data set itself, in their favour");
}

}  // namespace

void add_evaluate(CLI::App& program) {
  const auto flags = std::make_shared<EvaluateFlags>();
  const auto common = std::make_shared<CommonFlags>();
  CLI::App* verb =
      add_verb(program, "evaluate",
               "How well a pretrained model recovers relations from 2D, 3D and both, beside baselines", *common);
  flags->place.threads = available_cores();
  const auto option = [verb](const char* name, auto& value, const char* text) {
    verb->add_option(name, value, text)->capture_default_str()->take_last();
  };
  option("--checkpoint", flags->checkpoint, "A checkpoint, or a run (its best one on validation, else its newest)");
  option("--data", flags->data, "Data set made by `moleblend prepare`");
  option("--part", flags->part,
         "valid (held out by the run), train, all, or of a fine-tuned model test [valid, test; all for a data set that "
         "the run was "
         "not trained on]");
  option("--draws", flags->options.draws, "Independent sets of draws, pooled");
  option("--seed", flags->options.seed, "Seed of draws and noise");
  option("--batch-atoms", flags->batch_atoms, "Atoms a forward pass [1,024; 2,048 of a fine-tuned model]");
  option("--threads", flags->place.threads, "Threads of the arithmetic");
  option("--device", flags->place.device, "cpu or cuda");
  option("--precision", flags->place.precision, "fp32, or bf16 (a GPU, or a CPU with AVX512-BF16)");
  verb->footer("Example:\n  moleblend evaluate --checkpoint run --data molecules");
  verb->callback([flags, common] { run_evaluate(*flags, *common); });
}

}  // namespace moleblend
