// moleblend embed: molecules in, a matrix of what the encoder makes of them out.

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/molecule_stream.h"
#include "engine/evaluation/embedding.h"
#include "engine/evaluation/trained_model.h"
#include "engine/property/settings.h"
#include "engine/training/stop_signal.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {
namespace fs = std::filesystem;

constexpr const char* kEmbedFooter =
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

struct EmbedFlags : StreamFlags {
  std::string level = "molecule", readout = "cls", show = "2d";
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
  if (flags.show == "2d" && flags.options.read.conformers.count > 0)
    throw UsageError("--conformers are built to be shown; add --show 3d or --show both");
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
  nlohmann::ordered_json json = {
      {"checkpoint", trained.path.string()},
      {"output", output.matrix().string()},
      {"index", output.index().string()},
      {"level", flags.level},
      {"readout", flags.level == "atom" ? nlohmann::ordered_json() : nlohmann::ordered_json(flags.readout)},
      {"show", flags.show},
      {"rows", s.rows},
      {"dimensions", s.dimensions}};
  add_summary(json, s);
  return json;
}

void run_embed(EmbedFlags& flags) {
  const EncodeStep step = step_of(flags);
  check(flags);
  flags.resolve();
  const TrainedModel trained = find_trained_model(flags.checkpoint, warn);
  const Output output(flags.output);
  const StopSignal stop;
  const OpenedSource stream = open_stream(flags);
  const std::unique_ptr<Model> model = load_model(trained, flags.place);
  until_interrupted([&] {
    const EmbeddingSummary s = embed(*model, *stream.source,
                                     {.step = step,
                                      .batch_atoms = flags.batch_atoms,
                                      .output = output.matrix(),
                                      .index = output.index(),
                                      .quiet = flags.common.quiet,
                                      .stopped = StopSignal::received});
    if (flags.common.json) return print_json(summary_json(flags, trained, output, s));
    if (flags.common.quiet) return;
    fmt::print("{}: {} rows of {} numbers, for {} molecules; index in {}\n", output.matrix().string(),
               count_text(s.rows), s.dimensions, count_text(s.molecules), output.index().string());
    print_summary(flags, s, "the index says why", "embedded");
  });
}

}  // namespace

void add_embed(CLI::App& program) {
  const auto flags = std::make_shared<EmbedFlags>();
  CLI::App* verb = add_verb(program, "embed", "What the encoder makes of molecules, as a matrix with an index of names",
                            flags->common);
  const auto option = [verb](const char* name, auto& value, const char* text) {
    return verb->add_option(name, value, text)->capture_default_str();
  };
  option("--checkpoint", flags->checkpoint,
         "A run (its best checkpoint on validation, else its newest), a checkpoint, or a .safetensors file")
      ->type_name("RUN");
  option("--output", flags->output,
         "A file NAME.npy, with its index in NAME.index.csv; or a folder for embeddings.npy and index.csv");
  option("--level", flags->level, "molecule or atom: what has a row");
  option("--readout", flags->readout, "Of molecules: cls (the graph token), mean or sum over the atoms");
  option("--show", flags->show, "What the encoder sees: 2d, 3d or both");
  add_stream_flags(*verb, *flags);
  verb->footer(kEmbedFooter);
  verb->callback([flags] { run_embed(*flags); });
}

}  // namespace moleblend
