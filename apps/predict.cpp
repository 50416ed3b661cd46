// moleblend predict: molecules in, the answers of a fine-tuned model out.

#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/input_flags.h"
#include "apps/verb.h"
#include "engine/property/ensemble.h"
#include "engine/property/prediction.h"
#include "engine/training/stop_signal.h"
#include "io/prepare/reader_pool.h"
#include "io/support/cores.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

constexpr const char* kFooter =
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

struct PredictFlags {
  CommonFlags common;
  InputFlags input;
  InputOptions options;
  std::string checkpoint, data, output;
  std::int64_t batch_atoms = 2048;
  DeviceChoice place;
};

void check(const PredictFlags& flags) {
  if (flags.checkpoint.empty())
    throw UsageError("name a run of `moleblend finetune`, or a checkpoint, with --checkpoint");
  if (flags.output.empty()) throw UsageError("name the table to write with --output FILE.csv");
  if (flags.data.empty() == !flags.input.given())
    throw UsageError("name the molecules, either files with --input or a data set with --data");
  if (flags.batch_atoms < 1) throw UsageError("--batch-atoms must be at least 1, and is {}", flags.batch_atoms);
  std::error_code none;
  if (std::filesystem::exists(flags.output, none))
    throw UsageError("{} exists; remove it or choose another --output", flags.output);
  flags.place.check();
}

nlohmann::ordered_json summary_json(const PredictFlags& flags, const Ensemble& ensemble, const PredictionSummary& s) {
  nlohmann::ordered_json checkpoints = nlohmann::ordered_json::array();
  for (const TrainedModel& trained : ensemble.found) checkpoints.push_back(trained.path.string());
  return {{"checkpoints", checkpoints},
          {"output", flags.output},
          {"tasks", ensemble.head().targets.size()},
          {"records", s.records},
          {"molecules", s.predicted},
          {"refused", s.refused},
          {"refused_by_reason", s.reasons},
          {"without_3d", s.without_3d},
          {"remarks", s.remarks},
          {"seconds", s.seconds},
          {"molecules_per_second", s.seconds > 0 ? static_cast<double>(s.predicted) / s.seconds : 0.0}};
}

void print_summary(const PredictFlags& flags, const Ensemble& ensemble, const PredictionSummary& s) {
  fmt::print("{}: {} for {} molecules, by {}\n", flags.output,
             ensemble.head().targets.size() == 1 ? "1 answer each"
                                                 : fmt::format("{} answers each", ensemble.head().targets.size()),
             count_text(s.predicted),
             ensemble.found.size() == 1 ? "one model" : fmt::format("{} models", ensemble.found.size()));
  if (s.refused > 0) {
    fmt::print("{} records were refused; their lines say why\n", count_text(s.refused));
    for (const auto& [reason, count] : s.reasons) fmt::print("  {:>9}  {}\n", count_text(count), reason);
  }
  if (s.without_3d > 0)
    fmt::print("{} molecules have no positions and were answered from 2D alone{}\n", count_text(s.without_3d),
               flags.input.given() ? "; --conformers 1 builds some" : "");
  for (const std::string& remark : s.remarks) fmt::print("{}\n", remark);
  fmt::print("took {} ({:.4g} molecules/s)\n",
             s.seconds < 10 ? fmt::format("{:.2f} s", s.seconds) : duration_text(s.seconds),
             s.seconds > 0 ? static_cast<double>(s.predicted) / s.seconds : 0.0);
}

void run_predict(PredictFlags& flags) {
  flags.input.resolve(flags.options);
  check(flags);
  Ensemble ensemble = find_ensemble(flags.checkpoint, warn);
  if (!ensemble.head().shown.positions && flags.options.read.conformers.count > 0)
    throw UsageError("--conformers are built to be shown, and this model sees 2D alone; leave --conformers away");
  const StopSignal stop;

  // Reader processes before threads: the models have some, and so has a GPU's driver.
  std::unique_ptr<Chemistry> chemistry;
  std::unique_ptr<MoleculeSource> source;
  if (flags.data.empty()) {
    chemistry = load_chemistry();
    source = open_molecule_files(flags.options, *chemistry, StopSignal::received);
  } else {
    source = open_molecule_dataset(flags.data);
  }
  ensemble.load(flags.place);
  try {
    const PredictionSummary summary = predict(ensemble.members(), *source,
                                              {.batch_atoms = flags.batch_atoms,
                                               .output = flags.output,
                                               .quiet = flags.common.quiet,
                                               .stopped = StopSignal::received});
    if (flags.common.json)
      std::cout << summary_json(flags, ensemble, summary).dump(2, ' ', false, nlohmann::json::error_handler_t::replace)
                << "\n";
    else if (!flags.common.quiet)
      print_summary(flags, ensemble, summary);
  } catch (const Interrupted& e) {
    std::cerr << "moleblend: " << e.what() << "\n";
    throw ExitStatus{128 + StopSignal::received()};
  }
}

}  // namespace

void add_predict(CLI::App& program) {
  const auto flags = std::make_shared<PredictFlags>();
  CLI::App* verb =
      add_verb(program, "predict", "What a fine-tuned model answers for molecules, as a table", flags->common);
  flags->place.threads = available_cores();
  const auto option = [verb](const char* name, auto& value, const char* text) {
    return verb->add_option(name, value, text)->capture_default_str();
  };
  option("--checkpoint", flags->checkpoint,
         "A run of `moleblend finetune` (all its seeds answer), a seed's folder, or a checkpoint")
      ->type_name("RUN");
  option("--data", flags->data, "Data set made by `moleblend prepare`, instead of --input")->type_name("DIR");
  option("--output", flags->output, "The table to write")->type_name("FILE.csv");
  option("--batch-atoms", flags->batch_atoms, "Atoms a forward pass");
  option("--threads", flags->place.threads, "Threads of the arithmetic");
  option("--device", flags->place.device, "cpu or cuda");
  option("--precision", flags->place.precision, "fp32 or bf16");
  add_input_flags(*verb, flags->input, flags->options);
  verb->footer(kFooter);
  verb->callback([flags] { run_predict(*flags); });
}

}  // namespace moleblend
