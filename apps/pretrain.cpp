// moleblend pretrain: a data set becomes a run folder with a pretrained encoder.

#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/config_file.h"
#include "apps/pretrain_flags.h"
#include "apps/rank_session.h"
#include "apps/run_folder.h"
#include "apps/verb.h"
#include "engine/evaluation/fixed_batches.h"
#include "engine/ranks/agreement.h"
#include "engine/ranks/host.h"
#include "engine/training/checkpoint_store.h"
#include "engine/training/trainer.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "io/support/lock.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// A run that can begin or go on: everything is open, checked and loaded.
struct Prepared {
  PretrainSettings settings;
  fs::path data_path, run;
  std::optional<Dataset> data;
  Split split;
  std::unique_ptr<Model> model;
  std::optional<FolderLock> lock;
  std::optional<CheckpointStore::Found> from;  // the checkpoint that a resumed run goes on from
};

void open_data(Prepared& p, const std::string& data, const Ranks& ranks) {
  p.data_path = fs::absolute(data).lexically_normal();
  p.data = Dataset::open(p.data_path);
  // Records are checked as they are read; a set that takes seconds to read is checked as a whole, before a run folder is made.
  constexpr std::uint64_t kQuicklyRead = 5'000'000;
  if (ranks.first() && p.data->size() <= kQuicklyRead) p.data = Dataset::open(p.data_path, true);
  p.split = random_split(p.data->size(), p.settings.valid_fraction, p.settings.loader.seed);
  if (p.split.train.empty())
    throw Error("{} has {} molecules, of which none is left to train on; prepare more, or lower --valid-fraction",
                p.data_path.string(), p.data->size());
}

void initial_values(const Prepared& p) {
  initialise(*p.model, p.settings.loader.seed, p.settings.reference_values);
  fs::path source = p.settings.init;
  if (source.empty()) return;
  if (source.extension() != ".safetensors") source = find_checkpoint(source, Prefer::best, warn).path;
  load_parameters(source, *p.model, Absent::refuse);
}

Prepared start(const PretrainFlags& flags, Ranks& ranks) {
  if (flags.data.empty() || flags.output.empty())
    throw UsageError("name the data set and the run folder: --data DIR --output RUN (or --resume RUN)");
  Prepared p;
  p.settings = flags.settings();
  p.settings.place.process = rank_on_host(ranks);
  p.run = fs::absolute(flags.output).lexically_normal();
  together(ranks, [&] {
    if (ranks.first()) check_new_run(p.run);
    open_data(p, flags.data, ranks);
    p.model = make_model(p.settings.model, p.settings.place);
    initial_values(p);
  });
  return p;
}

Prepared resume(const PretrainFlags& given, const CLI::App& verb, Ranks& ranks) {
  Prepared p;
  PretrainFlags flags;
  p.run = fs::absolute(given.resume).lexically_normal();
  if (!given.output.empty() && fs::absolute(given.output).lexically_normal() != p.run)
    throw UsageError("--resume goes on in its own folder; leave --output away");
  together(ranks, [&] {
    const std::vector<std::string> kept = kept_arguments(p.run);
    if (ranks.first()) p.lock.emplace(p.run);
    flags = parse_pretrain(with_defaults(given_arguments(verb), kept));
    p.settings = flags.settings();
    refuse_change(p.run, to_json(p.settings), to_json(parse_pretrain(kept).settings()), "config.toml");
  });
  p.from = share_checkpoint(ranks, [&] { return CheckpointStore(p.run / "checkpoints", {}).newest(warn); });
  p.settings.place.process = rank_on_host(ranks);
  together(ranks, [&] {
    if (p.from) refuse_change(p.run, to_json(p.settings), p.from->state.settings, p.from->path.filename().string());
    if (p.from && p.from->state.step >= p.settings.schedule.steps) return;  // finished: nothing need be opened

    open_data(p, flags.data, ranks);
    if (p.from && p.from->state.dataset_fingerprint != p.data->info().fingerprint)
      throw Error("{} was trained on a data set with the fingerprint {}, and {} has {}; name the right one with --data",
                  p.run.string(), p.from->state.dataset_fingerprint, p.data_path.string(), p.data->info().fingerprint);
    p.model = make_model(p.settings.model, p.settings.place);
    if (p.from) {
      load_checkpoint(p.from->path, *p.model);
    } else {
      if (ranks.first()) warn(fmt::format("{} has no whole checkpoint yet; it begins again at step 0", p.run.string()));
      initial_values(p);
    }
  });
  return p;
}

/// What has to be the same on all ranks for them to train one model.
void check_agreement(const Prepared& p, Ranks& ranks) {
  check_same_start(ranks, p.settings.loader.batch_size, p.settings.place, *p.data);
  const std::vector<std::string> settings = ranks.gather(to_json(p.settings).dump());
  for (std::size_t r = 1; r < settings.size(); ++r) {
    if (settings[r] == settings[0]) continue;
    first_tells(ranks);
    throw Error("the settings of rank {} are others than those of rank 0: {}; {}", r,
                first_difference(Json::parse(settings[r]), Json::parse(settings[0])), kSameStart);
  }
  check_same_values(ranks, *p.model, p.from ? p.from->state.step : 0);
}

void print_start(const Prepared& p) {
  const PretrainSettings& s = p.settings;
  const DatasetInfo& info = p.data->info();
  std::int64_t parameters = 0;
  for (const ParameterInfo& i : p.model->parameters()) parameters += i.count;
  const double epochs = static_cast<double>(s.schedule.steps) * static_cast<double>(s.loader.batch_size) /
                        static_cast<double>(p.split.train.size());
  fmt::print(stderr, "data       {}: {} molecules, {} with positions, fingerprint {}\n", p.data_path.string(),
             count_text(p.data->size()), count_text(info.with_positions), info.fingerprint.substr(0, 16));
  fmt::print(stderr, "split      {} train, {} validation (fraction {}, seed {}), fingerprint {}\n",
             count_text(p.split.train.size()), count_text(p.split.valid.size()), s.valid_fraction, s.loader.seed,
             fingerprint(*p.data, p.split.valid));
  fmt::print(stderr, "model      {}: {} layers, width {}, {} heads, {} parameters{}\n", s.model.name, s.model.layers,
             s.model.width, s.model.heads, count_text(static_cast<std::uint64_t>(parameters)),
             s.init.empty() ? "" : ", from " + s.init);
  fmt::print(stderr, "objective  {}, 3D target {}\n", s.objective.name,
             s.model.target == DistanceTarget::distance ? "distance" : "displacement");
  fmt::print(stderr, "training   {} steps of {} molecules ({:.3g} epochs), lr {:g}, {} after {} steps of warm-up\n",
             count_text(static_cast<std::uint64_t>(s.schedule.steps)), s.loader.batch_size, epochs, s.schedule.peak,
             name_of(s.schedule.decay), s.schedule.warmup);
  // Parameters, gradients and Adam's two moments in fp32.
  fmt::print(stderr, "machine    {}; {} thread{} for the loader; {:.0f} MB for parameters, gradients and moments\n",
             p.model->place(), s.loader.threads, s.loader.threads == 1 ? "" : "s",
             16e-6 * static_cast<double>(p.model->parameter_count()));
  fmt::print(stderr, "run        {}{}\n", p.run.string(),
             p.from ? fmt::format(", going on from step {}", p.from->state.step) : "");
  if (s.valid_every > 0 && p.split.valid.empty())
    warn("the validation part is empty: no checkpoint can be chosen by it; raise --valid-fraction");
  const bool wants_3d =
      s.objective.distance_factor > 0 || s.objective.denoise_factor > 0 || s.objective.blend.pair_distance > 0;
  if (wants_3d && (info.with_positions == 0 || !s.loader.use_positions))
    warn(
        "no molecule has positions, so 3D is neither shown nor recovered; prepare with --conformers, or choose "
        "--objective 2d-to-2d");
}

void run_pretrain(const CLI::App& verb, const PretrainFlags& flags, CommonFlags common) {
  Ranks& ranks = join_ranks(flags.rank_deadline);
  if (!ranks.first()) common.quiet = true, common.json = false;
  const bool resumed = !flags.resume.empty();
  Prepared p = resumed ? resume(flags, verb, ranks) : start(flags, ranks);
  if (!p.model) {
    if (ranks.first())
      fmt::print(stderr, "{} is finished: all {} steps are done\n", p.run.string(), p.settings.schedule.steps);
    return;
  }
  check_agreement(p, ranks);
  together(ranks, [&] {
    if (resumed || !ranks.first()) return;
    const std::string config =
        to_toml(p.settings, p.data_path.string());  // refuses what it can't hold, before there is a folder
    p.lock.emplace(p.run);
    check_new_run(p.run);
    remove_partial_files(p.run);
    write_file(p.run / "config.toml", config);
  });
  if (!common.quiet) print_start(p);
  if (ranks.size() > 1) {
    const std::string table = table_of(ranks, p.model->place());
    if (!common.quiet) fmt::print(stderr, "ranks      {}\n{}", ranks.size(), table);
  }
  const PretrainOutcome outcome =
      pretrain({.data = *p.data,
                .split = p.split,
                .model = *p.model,
                .settings = p.settings,
                .run = p.run,
                .program_version = MOLEBLEND_VERSION,
                .first_step = p.from ? p.from->state.step : 0,
                .best = p.from ? p.from->state.best : std::nullopt,
                .spikes = p.from && p.from->state.spikes ? *p.from->state.spikes : SpikeWatch(),
                .stop_at = flags.stop_at,
                .quiet = common.quiet,
                .ranks = ranks});
  if (common.json) {
    nlohmann::ordered_json json = {{"run", p.run.string()},
                                   {"step", outcome.step},
                                   {"steps", p.settings.schedule.steps},
                                   {"loss", outcome.last_loss},
                                   {"best", nullptr}};
    if (outcome.best) json["best"] = {{"step", outcome.best->step}, {"loss", outcome.best->loss}};
    std::cout << json.dump(2) << "\n";
  }
  if (!common.quiet) {
    if (outcome.best)
      fmt::print(stderr, "best       validation loss {:.4f} at step {}\n", outcome.best->loss, outcome.best->step);
    if (outcome.step >= p.settings.schedule.steps)
      fmt::print(stderr, "finished   evaluate it: moleblend evaluate --checkpoint {} --data {}\n", p.run.string(),
                 p.data_path.string());
    else
      fmt::print(stderr, "stopped    after step {}; go on: moleblend pretrain --resume {}\n", outcome.step,
                 p.run.string());
  }
  ranks.all_leave();
  if (outcome.signal != 0 && ranks.first()) throw ExitStatus{128 + outcome.signal};
}

}  // namespace

void add_pretrain(CLI::App& program) {
  const auto flags = std::make_shared<PretrainFlags>();
  const auto common = std::make_shared<CommonFlags>();
  CLI::App* verb = add_verb(program, "pretrain",
                            "Train the encoder on a data set: blend 2D and 3D relations, recover them all", *common);
  add_pretrain_flags(*verb, *flags);
  verb->callback([verb, flags, common] { run_pretrain(*verb, *flags, *common); });
}

}  // namespace moleblend
