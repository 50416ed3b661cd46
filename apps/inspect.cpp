// moleblend inspect: looks at a data set, a molecule in it, a checkpoint or a run.

#include "apps/inspect.h"

#include <iostream>
#include <memory>

#include "apps/verb.h"
#include "io/dataset/dataset_json.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using namespace inspect;

struct InspectFlags {
  CommonFlags common;
  std::string path, molecule;
  bool verify = false;
  BlendRequest blend;
};

bool is_dataset(const fs::path& path) {
  std::error_code none;
  if (fs::exists(path / kDatasetFile, none)) return true;
  // An unfinished one: opening it says so.
  for (const auto& entry : fs::directory_iterator(path, none)) {
    if (entry.path().extension() == ".mbs") return true;
  }
  return false;
}

void show(const InspectFlags& flags, const Json& report, std::string (*words)(const Json&)) {
  // Identifiers and paths need not be UTF-8; what is not is replaced rather than refused.
  if (flags.common.json)
    std::cout << report.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  else
    std::cout << words(report);
}

void run(const InspectFlags& flags) {
  const fs::path path = flags.path;
  std::error_code none;
  if (!fs::exists(path, none))
    throw Error("can't inspect {}: there is no such file or folder; check the path", path.string());
  const bool for_dataset = !flags.molecule.empty() || flags.verify || flags.blend.wanted;
  if (is_dataset(path)) {
    const Dataset dataset = Dataset::open(path, flags.verify);
    if (!flags.molecule.empty())
      return show(flags, describe_molecule(dataset, find_molecule(dataset, flags.molecule), flags.blend),
                  words_of_molecule);
    if (flags.blend.wanted) throw UsageError("--blend shows one molecule; name it with --molecule");
    return show(flags, describe_dataset(path, dataset, flags.verify, flags.common.quiet || flags.common.json),
                words_of_dataset);
  }
  if (for_dataset)
    throw UsageError(
        "{} is no data set, which --molecule, --blend and --verify are for; name a folder made by `moleblend prepare`",
        path.string());
  if (fs::exists(path / "state.json", none) || path.extension() == ".safetensors")
    return show(flags, describe_checkpoint(path), words_of_checkpoint);
  if (fs::exists(path / "config.toml", none) || fs::exists(path / "metrics.jsonl", none))
    return show(flags, describe_run(path), words_of_run);
  throw Error(
      "can't inspect {}: it is neither a data set (dataset.json), a checkpoint (state.json, .safetensors) nor a run "
      "(config.toml); check the path",
      path.string());
}

}  // namespace

void add_inspect(CLI::App& program) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* verb =
      add_verb(program, "inspect",
               "Look at a data set, a molecule in it, a checkpoint or a run\n"
               "  moleblend inspect data                        counts, sizes, labels, rejected records\n"
               "  moleblend inspect data --molecule 17 --blend  one molecule, and what training would show of it\n"
               "  moleblend inspect run                         settings, checkpoints and losses",
               flags->common);
  verb->add_option("PATH", flags->path, "A data set, a checkpoint (folder or .safetensors) or a run folder")
      ->required();
  verb->add_option("--molecule", flags->molecule,
                   "Show this molecule of a data set: its index from 0, or its identifier");
  verb->add_flag("--verify", flags->verify, "Check the checksum of every shard");
  verb->add_flag("--blend", flags->blend.wanted, "With --molecule: the modalities that a training step draws");
  verb->add_option("--seed", flags->blend.seed, "Seed of the blend")->capture_default_str();
  verb->add_option("--epoch", flags->blend.epoch, "Epoch of the blend, from 0")->capture_default_str();
  verb->callback([flags] { run(*flags); });
}

}  // namespace moleblend
