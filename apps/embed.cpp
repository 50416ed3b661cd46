// moleblend embed: molecules in, a matrix of what the encoder makes of them out.

#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/input_flags.h"
#include "apps/verb.h"
#include "engine/evaluation/embedding.h"
#include "engine/evaluation/trained_model.h"
#include "engine/property/settings.h"
#include "engine/training/stop_signal.h"
#include "io/prepare/reader_pool.h"
#include "io/support/cores.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {
namespace fs = std::filesystem;

constexpr const char* kFooter =
    "A molecule without 3D positions is refused with --show 3d, and embedded from 2D alone with --show both; the "
    "index\n"
    "says of each molecule what was shown. Positions come from the input, or are built with --conformers; of several\n"
    "conformers the first is used.\n"
    "\n"
    "The matrix is a .npy file of float32, a row a molecule (or atom, in the order of the record), for numpy.load. "
    "The\n"
    "index has a line for each record of the input, in its order: row (of an atom matrix the first one), atoms,\n"
    "identifier, smiles, shown, error; a refused record has no row.\n"
    "\n"
    "Examples:\n"
    "  moleblend embed --checkpoint run --input library.smi --output library.npy\n"
    "  moleblend embed --checkpoint run --data molecules --show both --readout mean --output embedded\n"
    "  moleblend embed --checkpoint run --input ligands.sdf --show 3d --level atom --output atoms.npy";

struct EmbedFlags {
  CommonFlags common;
  InputFlags input;
  InputOptions options;
  std::string checkpoint, data, output, level = "molecule", readout = "cls", show = "2d";
  std::int64_t batch_atoms = 0;  // 0: what suits the device
  DeviceChoice place;
};

EncodeStep step_of(const EmbedFlags& flags) {
  EncodeStep step;
  const Shown shown = shown_named(flags.show);
  step.show_2d = shown.graph;
  step.show_3d = shown.positions;
  step.readout = readout_named(flags.readout);
  if (flags.level != "molecule" && flags.level != "atom")
    throw UsageError("--level can't be '{}'; choose molecule or atom", flags.level);
  if (flags.level == "atom") step.readout.reset();
  return step;
}

void check(const EmbedFlags& flags) {
  if (flags.checkpoint.empty()) throw UsageError("name a run or a checkpoint with --checkpoint");
  if (flags.output.empty()) throw UsageError("name the output with --output: a folder, or a file that ends in .npy");
  if (flags.data.empty() == !flags.input.given())
    throw UsageError("name the molecules, either files with --input or a data set with --data");
  if (flags.batch_atoms < 0) throw UsageError("--batch-atoms must not be negative, and is {}", flags.batch_atoms);
  if (flags.show == "2d" && flags.options.read.conformers.count > 0)
    throw UsageError("--conformers are built to be shown; add --show 3d or --show both");
  flags.place.check();
}

std::int64_t batch_atoms(const EmbedFlags& flags) {
  constexpr std::int64_t on_cpu = 1024, on_gpu = 16384;  // on a GPU enough work to fill it
  if (flags.batch_atoms > 0) return flags.batch_atoms;
  return flags.place.device == "cuda" ? on_gpu : on_cpu;
}

/// The two files of the output, in a folder that is made if need be, and removed again if nothing comes into it.
class Output {
 public:
  explicit Output(const std::string& name) {
    const fs::path path = name;
    const bool is_file = path.extension() == ".npy";
    matrix_ = is_file ? path : path / "embeddings.npy";
    // Not NAME.csv, which is what the molecules may have come in.
    index_ = is_file ? fs::path(path).replace_extension(".index.csv") : path / "index.csv";
    std::error_code none;
    for (const fs::path& file : {matrix_, index_})
      if (fs::exists(file, none)) throw UsageError("{} exists; choose another --output, or remove it", file.string());
    if (is_file || fs::exists(path, none)) return;
    create_folders(path);
    made_ = path;
  }
  ~Output() {
    std::error_code ignored;
    if (!made_.empty()) fs::remove(made_, ignored);  // if it is empty
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  const fs::path& matrix() const { return matrix_; }
  const fs::path& index() const { return index_; }

 private:
  fs::path matrix_, index_, made_;
};

nlohmann::ordered_json summary_json(const EmbedFlags& flags, const TrainedModel& trained, const Output& output,
                                    const EmbeddingSummary& s) {
  return {{"checkpoint", trained.path.string()},
          {"output", output.matrix().string()},
          {"index", output.index().string()},
          {"level", flags.level},
          {"readout", flags.level == "atom" ? nlohmann::ordered_json() : nlohmann::ordered_json(flags.readout)},
          {"show", flags.show},
          {"records", s.records},
          {"molecules", s.embedded},
          {"refused", s.refused},
          {"refused_by_reason", s.reasons},
          {"without_3d", s.without_3d},
          {"rows", s.rows},
          {"dimensions", s.dimensions},
          {"remarks", s.remarks},
          {"seconds", s.seconds},
          {"molecules_per_second", s.seconds > 0 ? static_cast<double>(s.embedded) / s.seconds : 0.0}};
}

void print_summary(const EmbedFlags& flags, const Output& output, const EmbeddingSummary& s) {
  fmt::print("{}: {} rows of {} numbers, for {} molecules; index in {}\n", output.matrix().string(), count_text(s.rows),
             s.dimensions, count_text(s.embedded), output.index().string());
  if (s.refused > 0) {
    fmt::print("{} records were refused; the index says why\n", count_text(s.refused));
    for (const auto& [reason, count] : s.reasons) fmt::print("  {:>9}  {}\n", count_text(count), reason);
  }
  if (s.without_3d > 0)
    fmt::print("{} molecules have no positions and were embedded from 2D alone{}\n", count_text(s.without_3d),
               flags.input.given() ? "; --conformers 1 builds some" : "");
  for (const std::string& remark : s.remarks) fmt::print("{}\n", remark);
  fmt::print("took {} ({:.4g} molecules/s)\n",
             s.seconds < 10 ? fmt::format("{:.2f} s", s.seconds) : duration_text(s.seconds),
             s.seconds > 0 ? static_cast<double>(s.embedded) / s.seconds : 0.0);
}

void run_embed(EmbedFlags& flags) {
  const EncodeStep step = step_of(flags);
  flags.input.resolve(flags.options);
  check(flags);
  const TrainedModel trained = find_trained_model(flags.checkpoint, warn);
  const Output output(flags.output);
  const StopSignal stop;

  // Reader processes before threads: the model has some, and so has a GPU's driver.
  std::unique_ptr<Chemistry> chemistry;
  std::unique_ptr<MoleculeSource> source;
  if (flags.data.empty()) {
    chemistry = load_chemistry();
    source = open_molecule_files(flags.options, *chemistry, StopSignal::received);
  } else {
    source = open_molecule_dataset(flags.data);
  }
  const std::unique_ptr<Model> model = load_model(trained, flags.place);
  try {
    const EmbeddingSummary summary = embed(*model, *source,
                                           {.step = step,
                                            .batch_atoms = batch_atoms(flags),
                                            .output = output.matrix(),
                                            .index = output.index(),
                                            .quiet = flags.common.quiet,
                                            .stopped = StopSignal::received});
    if (flags.common.json)
      std::cout
          << summary_json(flags, trained, output, summary).dump(2, ' ', false, nlohmann::json::error_handler_t::replace)
          << "\n";
    else if (!flags.common.quiet)
      print_summary(flags, output, summary);
  } catch (const Interrupted& e) {
    std::cerr << "moleblend: " << e.what() << "\n";
    throw ExitStatus{128 + StopSignal::received()};
  }
}

}  // namespace

void add_embed(CLI::App& program) {
  const auto flags = std::make_shared<EmbedFlags>();
  CLI::App* verb = add_verb(program, "embed", "What the encoder makes of molecules, as a matrix with an index of names",
                            flags->common);
  flags->place.threads = available_cores();
  const auto option = [verb](const char* name, auto& value, const char* text) {
    return verb->add_option(name, value, text)->capture_default_str();
  };
  option("--checkpoint", flags->checkpoint,
         "A run (its best checkpoint on validation, else its newest), a checkpoint, or a .safetensors file")
      ->type_name("RUN");
  option("--data", flags->data, "Data set made by `moleblend prepare`, instead of --input")->type_name("DIR");
  option("--output", flags->output,
         "A file NAME.npy, with its index in NAME.index.csv; or a folder for embeddings.npy and index.csv");
  option("--level", flags->level, "molecule or atom: what has a row");
  option("--readout", flags->readout, "Of molecules: cls (the graph token), mean or sum over the atoms");
  option("--show", flags->show, "What the encoder sees: 2d, 3d or both");
  option("--batch-atoms", flags->batch_atoms, "Atoms a forward pass (0: 1,024 on a CPU, 16,384 on a GPU)");
  option("--threads", flags->place.threads, "Threads of the arithmetic");
  option("--device", flags->place.device, "cpu or cuda");
  option("--precision", flags->place.precision, "fp32 or bf16");
  add_input_flags(*verb, flags->input, flags->options);
  verb->footer(kFooter);
  verb->callback([flags] { run_embed(*flags); });
}

}  // namespace moleblend
