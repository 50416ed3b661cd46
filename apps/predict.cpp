// moleblend predict: molecules in, the answers of a fine-tuned model out.

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/molecule_stream.h"
#include "engine/property/ensemble.h"
#include "engine/property/prediction.h"
#include "engine/training/stop_signal.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

constexpr const char* kPredictFooter =
    "The table has a line for each record of the input, in its order: identifier, smiles, a column a task (the "
    "probability\n"
    "of label 1, or the value in the label's unit), with several seeds also its spread (their standard deviation), "
    "and\n"
    "error, which says why a record was refused. A model that sees positions takes them from the input, or has them "
    "built\n"
    "with --conformers.\n"
    "\n"
    "Examples:\n"
    "  moleblend predict --checkpoint esol-run --input library.smi --output solubility.csv\n"
    "  moleblend predict --checkpoint gap-run/seed-1 --input ligands.sdf --keep-hydrogens --output gaps.csv";

void check(const StreamFlags& flags) {
  if (flags.checkpoint.empty())
    throw UsageError("name a run of `moleblend finetune`, or a checkpoint, with --checkpoint");
  if (flags.output.empty()) throw UsageError("name the table to write with --output FILE.csv");
  std::error_code none;
  if (std::filesystem::exists(flags.output, none))
    throw UsageError("{} exists; remove it or choose another --output", flags.output);
}

nlohmann::ordered_json summary_json(const StreamFlags& flags, const Ensemble& ensemble, const StreamSummary& s) {
  nlohmann::ordered_json checkpoints = nlohmann::ordered_json::array();
  for (const TrainedModel& trained : ensemble.found) checkpoints.push_back(trained.path.string());
  nlohmann::ordered_json json = {
      {"checkpoints", checkpoints}, {"output", flags.output}, {"tasks", ensemble.head().targets.size()}};
  add_summary(json, s);
  return json;
}

void run_predict(StreamFlags& flags) {
  check(flags);
  flags.resolve();
  Ensemble ensemble = find_ensemble(flags.checkpoint, warn);
  if (!ensemble.head().shown.positions && flags.options.read.conformers.count > 0)
    throw UsageError("--conformers are built to be shown, and this model sees 2D alone; leave --conformers away");
  const StopSignal stop;
  const OpenedSource stream = open_stream(flags);
  ensemble.load(flags.place);
  until_interrupted([&] {
    const StreamSummary s = predict(ensemble.members(), *stream.source,
                                    {.batch_atoms = flags.batch_atoms,
                                     .output = flags.output,
                                     .quiet = flags.common.quiet,
                                     .stopped = StopSignal::received});
    if (flags.common.json) return print_json(summary_json(flags, ensemble, s));
    if (flags.common.quiet) return;
    const std::size_t tasks = ensemble.head().targets.size(), models = ensemble.found.size();
    fmt::print("{}: {} for {} molecules, by {}\n", flags.output,
               tasks == 1 ? "1 answer each" : fmt::format("{} answers each", tasks), count_text(s.molecules),
               models == 1 ? "one model" : fmt::format("{} models", models));
    print_summary(flags, s, "their lines say why", "answered");
  });
}

}  // namespace

void add_predict(CLI::App& program) {
  const auto flags = std::make_shared<StreamFlags>();
  CLI::App* verb =
      add_verb(program, "predict", "What a fine-tuned model answers for molecules, as a table", flags->common);
  const auto option = [verb](const char* name, auto& value, const char* text) {
    return verb->add_option(name, value, text)->capture_default_str();
  };
  option("--checkpoint", flags->checkpoint,
         "A run of `moleblend finetune` (all its seeds answer), a seed's folder, or a checkpoint")
      ->type_name("RUN");
  option("--output", flags->output, "The table to write")->type_name("FILE.csv");
  add_stream_flags(*verb, *flags);
  verb->footer(kPredictFooter);
  verb->callback([flags] { run_predict(*flags); });
}

}  // namespace moleblend
