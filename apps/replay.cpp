// moleblend replay: one training step of a run over again, on the CPU in double precision, molecule by molecule.

#include "engine/training/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/pretrain_flags.h"
#include "apps/run_folder.h"
#include "apps/verb.h"
#include "engine/training/checkpoint.h"
#include "engine/training/not_finite.h"
#include "io/support/cores.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct ReplayFlags {
  std::string run, data;
  std::optional<std::int64_t> step;
  std::int64_t top = 10;
  int threads = available_cores();
};

/// The checkpoints of a run by the number of the update that comes after each; those that a number that is not finite has left count
/// twice: they say which update is wanted.
struct Replayable {
  std::vector<std::pair<std::int64_t, fs::path>> all;
  std::optional<std::int64_t> not_finite;  // the last update that was
};

Replayable find_replayable(const fs::path& run) {
  Replayable found;
  std::error_code none;
  const auto number_after = [](const std::string& name, std::string_view prefix) -> std::optional<std::int64_t> {
    if (!name.starts_with(prefix) || name.size() <= prefix.size()) return std::nullopt;
    const std::string digits = name.substr(prefix.size());
    if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
    return std::stoll(digits);
  };
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", none))
    if (const auto step = number_after(entry.path().filename(), "step-"))
      found.all.emplace_back(*step + 1, entry.path());
  for (const auto& entry : fs::directory_iterator(run, none))
    if (const auto update = number_after(entry.path().filename(), "not-finite-step-"))
      if (fs::exists(entry.path() / "checkpoint", none)) {
        found.all.emplace_back(*update, entry.path() / "checkpoint");
        found.not_finite = std::max(found.not_finite.value_or(0), *update);
      }
  std::sort(found.all.begin(), found.all.end());
  return found;
}

/// Infinity and NaN too, which JSON does not have.
Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(fmt::format("{}", value));
}

Json to_json(const PretrainResult& r, double gradient_norm) {
  return {{"loss", number(r.total)},       {"loss_spd", number(r.spd)},         {"loss_edge", number(r.edge)},
          {"loss_3d", number(r.distance)}, {"loss_denoise", number(r.denoise)}, {"grad_norm", number(gradient_norm)}};
}

/// What is not finite first, then the largest gradients.
bool comes_before(const ReplayedMolecule& a, const ReplayedMolecule& b) {
  const auto finite = [](const ReplayedMolecule& m) {
    return std::isfinite(m.result.total) && std::isfinite(m.gradient_norm);
  };
  if (finite(a) != finite(b)) return !finite(a);
  return finite(a) && a.gradient_norm > b.gradient_norm;
}

void run_replay(const ReplayFlags& flags, const CommonFlags& common) {
  if (flags.run.empty()) throw UsageError("name a run of pretraining: --run RUN");
  if (flags.step.value_or(1) < 1) throw UsageError("--step counts from 1, and is {}", *flags.step);
  if (flags.top < 1) throw UsageError("--top must be at least 1, and is {}", flags.top);
  const fs::path run = flags.run;
  if (std::error_code none; fs::exists(run / "split.csv", none))
    throw UsageError("{} is a run of `moleblend finetune`; replay is of pretraining", run.string());
  const PretrainFlags kept = parse_pretrain(kept_arguments(run));
  const PretrainSettings settings = kept.settings();
  const Replayable replayable = find_replayable(run);
  if (!flags.step && !replayable.not_finite)
    throw UsageError("no step of {} was not finite; name the one to replay with --step", run.string());
  const std::int64_t update = flags.step.value_or(replayable.not_finite.value_or(0));
  const auto place = std::find_if(replayable.all.begin(), replayable.all.end(),
                                  [&](const auto& candidate) { return candidate.first == update; });
  if (place == replayable.all.end()) {
    std::vector<std::int64_t> steps;
    for (const auto& candidate : replayable.all)
      if (candidate.first <= settings.schedule.steps) steps.push_back(candidate.first);
    throw Error(
        "{} has no checkpoint of right before step {}; those of right after a checkpoint can be replayed: {}; "
        "pretrain --resume with --stop-at {} makes that one of a run that has not come so far",
        run.string(), update, steps.empty() ? "none" : fmt::format("{}", fmt::join(steps, ", ")), update - 1);
  }
  const CheckpointState state = read_checkpoint(place->second);
  const fs::path data_path = flags.data.empty() ? kept.data : flags.data;
  const Dataset data = Dataset::open(data_path);
  if (state.dataset_fingerprint != data.info().fingerprint)
    throw Error("{} was trained on a data set with the fingerprint {}, and {} has {}; name the right one with --data",
                run.string(), state.dataset_fingerprint, data_path.string(), data.info().fingerprint);
  const Split split = random_split(data.size(), settings.valid_fraction, settings.loader.seed);
  const std::unique_ptr<Model> model = make_cpu_model(state.model, flags.threads, true);
  load_parameters(place->second, *model, Absent::refuse);

  Progress progress("replay", static_cast<std::uint64_t>(settings.loader.batch_size), "molecules",
                    {.quiet = common.quiet});
  Replay replayed = replay(data, split, settings, *model, update - 1, progress);
  progress.finish();
  std::stable_sort(replayed.molecules.begin(), replayed.molecules.end(), comes_before);
  if (common.json) {
    Json json = {{"run", run.string()}, {"step", update}, {"checkpoint", place->second.string()}};
    json.update(to_json(replayed.result, replayed.gradient_norm));
    json["molecules"] = Json::array();
    for (const ReplayedMolecule& m : replayed.molecules) {
      Json row = {
          {"identifier", m.identifier}, {"index", m.index}, {"key", fmt::format("{:016x}", m.key)}, {"atoms", m.atoms}};
      if (m.has_positions) row["closest"] = number(m.closest), row["farthest"] = number(m.farthest);
      row.update(to_json(m.result, m.gradient_norm));
      json["molecules"].push_back(std::move(row));
    }
    std::cout << json.dump(2) << "\n";
    return;
  }
  const PretrainResult& r = replayed.result;
  fmt::print("step        {} of {}, from {}\n", update, run.string(), place->second.string());
  fmt::print("precision   double, on the CPU; the run's is {} on {}\n", state.precision, settings.place.device);
  fmt::print("loss        {:.6g}: spd {:.4g}, edge {:.4g}, 3D {:.4g}, denoising {:.4g}\n", r.total, r.spd, r.edge,
             r.distance, r.denoise);
  fmt::print("gradient    norm {:.6g}\n\n", replayed.gradient_norm);
  fmt::print("{:<28} {:>9} {:>6} {:>9} {:>9} {:>12} {:>12}\n", "molecule", "index", "atoms", "closest", "farthest",
             "loss", "gradient");
  const auto count = std::min(static_cast<std::size_t>(flags.top), replayed.molecules.size());
  for (std::size_t k = 0; k < count; ++k) {
    const ReplayedMolecule& m = replayed.molecules[k];
    const auto distance = [&](double value) {
      return m.has_positions ? fmt::format("{:.3f}", value) : std::string("-");
    };
    fmt::print("{:<28} {:>9} {:>6} {:>9} {:>9} {:>12.5g} {:>12.5g}\n", m.identifier, m.index, m.atoms,
               distance(m.closest), distance(m.farthest), m.result.total, m.gradient_norm);
  }
  if (count < replayed.molecules.size())
    fmt::print("… and {} with smaller gradients (--top {} shows all)\n", replayed.molecules.size() - count,
               replayed.molecules.size());
  fmt::print(
      "\nA molecule's loss and gradient are its parts of the step's. Distances are between its atoms in ångström, "
      "before "
      "noise.\n");
}

}  // namespace

void add_replay(CLI::App& program) {
  const auto flags = std::make_shared<ReplayFlags>();
  const auto common = std::make_shared<CommonFlags>();
  CLI::App* verb = add_verb(
      program, "replay",
      "One step of pretraining over again in double precision: what each molecule adds to loss and gradient", *common);
  const auto option = [verb](const char* name, auto& value, const char* text) {
    verb->add_option(name, value, text)->capture_default_str()->take_last();
  };
  option("--run", flags->run, "Run folder of `moleblend pretrain`");
  option("--step", flags->step, "Step to replay, counted from 1 as in metrics.jsonl [the one that was not finite]");
  option("--data", flags->data, "Its data set [where the run says that it is]");
  option("--top", flags->top, "Molecules to show, those that are not finite and the largest gradients first");
  option("--threads", flags->threads, "Threads of the arithmetic");
  verb->footer("Example:\n  moleblend replay --run run");
  verb->callback([flags, common] { run_replay(*flags, *common); });
}

}  // namespace moleblend
