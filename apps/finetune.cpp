// moleblend finetune: a labelled data set and a pretrained encoder become a property model with honest scores.

#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/config_file.h"
#include "apps/finetune_flags.h"
#include "apps/rank_session.h"
#include "apps/run_folder.h"
#include "apps/verb.h"
#include "engine/evaluation/trained_model.h"
#include "engine/property/labels.h"
#include "engine/property/make_parts.h"
#include "engine/property/predictor.h"
#include "engine/property/result.h"
#include "engine/property/trainer.h"
#include "engine/ranks/agreement.h"
#include "engine/ranks/host.h"
#include "engine/training/checkpoint_store.h"
#include "io/support/csv.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "io/support/lock.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// A run that can begin or go on: data read and split, everything checked.
struct Experiment {
  FinetuneFlags flags;
  FinetuneSettings settings;
  fs::path data_path, run;
  bool quiet = false;
  Ranks* ranks = nullptr;
  std::optional<Dataset> data;
  std::optional<Labels> labels;
  Parts parts;  // usable molecules
  PartsFingerprint fingerprint;
  std::vector<TaskCount> training, validation, testing;
  std::optional<FolderLock> lock;
};

/// A warning that all ranks have cause for, told once.
std::function<void(const std::string&)> warn_once(const Ranks& ranks) {
  if (ranks.first()) return warn;
  return [](const std::string&) {};
}

void open_data(Experiment& e) {
  if (e.flags.data.empty()) throw UsageError("name the data set: --data DIR");
  e.data_path = fs::absolute(e.flags.data).lexically_normal();
  e.flags.data = e.data_path.string();
  e.data = Dataset::open(e.data_path, true);
  FinetuneSettings& s = e.settings;
  e.labels.emplace(*e.data, s.head, s.split.column);
  e.parts = make_parts(*e.data, s.split, s.loader.threads);
  for (const auto& [part, name] : {std::pair<Subset&, const char*>{e.parts.train, "training"},
                                   {e.parts.valid, "validation"},
                                   {e.parts.test, "test"}}) {
    part = e.labels->usable(part);
    if (part.empty())
      throw Error("no molecule of the {} part has a label{}; split otherwise, or choose other --labels", name,
                  s.head.shown.graph ? "" : " and positions");
  }
  e.fingerprint = fingerprint(*e.data, e.parts);
  e.training = count_labels(*e.labels, e.parts.train);
  e.validation = count_labels(*e.labels, e.parts.valid);
  e.testing = count_labels(*e.labels, e.parts.test);
  fit_targets(s.head, e.training, s.balance_classes, warn_once(*e.ranks));
  check_choice(s.head, s.metric, e.labels->of(e.parts.valid), warn_once(*e.ranks));
  s.model.tasks = static_cast<std::int64_t>(s.head.targets.size());
  s.schedule.steps = steps_of(s.epochs, e.parts.train.size(), s.loader.batch_size);
  s.schedule.warmup =
      steps_of(e.flags.warmup_epochs.value_or(s.epochs / 10), e.parts.train.size(), s.loader.batch_size);
  s.schedule.warmup = std::min(s.schedule.warmup, s.schedule.steps);
  s.schedule.check();
}

FinetuneFlags parse(std::vector<std::string> arguments) {
  return parse_flags(add_finetune_flags, std::move(arguments));
}

Experiment start(const FinetuneFlags& flags, Ranks& ranks) {
  if (flags.data.empty() || flags.output.empty())
    throw UsageError("name the data set and the run folder: --data DIR --output RUN (or --resume RUN)");
  Experiment e;
  e.ranks = &ranks;
  e.flags = flags;
  e.run = fs::absolute(flags.output).lexically_normal();
  together(ranks, [&] {
    e.settings = flags.settings();
    if (ranks.first()) check_new_run(e.run);
    open_data(e);
  });
  return e;
}

Experiment resume(const FinetuneFlags& given, const CLI::App& verb, Ranks& ranks) {
  Experiment e;
  e.ranks = &ranks;
  e.run = fs::absolute(given.resume).lexically_normal();
  if (!given.output.empty() && fs::absolute(given.output).lexically_normal() != e.run)
    throw UsageError("--resume goes on in its own folder; leave --output away");
  together(ranks, [&] {
    const std::vector<std::string> kept = kept_arguments(e.run);
    if (ranks.first()) {
      e.lock.emplace(e.run);
      remove_partial_files(e.run);
    }
    e.flags = parse(with_defaults(given_arguments(verb), kept));
    e.settings = e.flags.settings();
    const FinetuneSettings then = parse(kept).settings();
    refuse_change(e.run, to_json(e.settings, 0), to_json(then, 0), "config.toml");
    open_data(e);
  });
  return e;
}

/// What has to be the same on all ranks for them to train one model.
void check_agreement(const Experiment& e, const Model& model, Ranks& ranks) {
  check_same_start(ranks, e.settings.loader.batch_size, e.settings.place, *e.data);
  check_same(ranks, "split", e.fingerprint.train + " " + e.fingerprint.valid + " " + e.fingerprint.test, kSameStart);
  check_same(ranks, "settings", to_json(e.settings, e.settings.loader.seed).dump(), kSameStart);
  check_same_values(ranks, model, 0);
}

/// Which molecule is in which part: `--split given --split-file` reads it back.
void write_split(const Experiment& e) {
  AtomicFile file(e.run / "split.csv");
  file.write("index,identifier,part\n");
  Molecule molecule;
  const auto write = [&](const Subset& part, const char* name) {
    for (const std::uint64_t m : part) {
      e.data->read(m, molecule);
      file.write(csv_row({std::to_string(m), molecule.identifier, name}));
    }
  };
  write(e.parts.train, "train");
  write(e.parts.valid, "valid");
  write(e.parts.test, "test");
  file.commit();
}

void print_start(const Experiment& e, const Model& model) {
  const FinetuneSettings& s = e.settings;
  fmt::print(stderr, "data       {}: {} molecules, fingerprint {}\n", e.data_path.string(), count_text(e.data->size()),
             e.data->info().fingerprint.substr(0, 16));
  fmt::print(stderr, "left out   {} without label, {} without positions, {} in no part\n",
             count_text(e.labels->without_label()), count_text(e.labels->without_positions()),
             count_text(e.parts.unused));
  fmt::print(stderr, "split      {}: {} train, {} validation, {} test, fingerprints {} {} {}\n", e.parts.rule,
             count_text(e.parts.train.size()), count_text(e.parts.valid.size()), count_text(e.parts.test.size()),
             e.fingerprint.train, e.fingerprint.valid, e.fingerprint.test);
  fmt::print(stderr, "task       {} of {} {}, chosen by {}\n", name_of(s.head.task), s.head.targets.size(),
             s.head.targets.size() == 1 ? "column" : "columns", name_of(s.metric));
  constexpr std::size_t kShown = 12;
  for (std::size_t t = 0; t < std::min(kShown, s.head.targets.size()); ++t) {
    const Target& target = s.head.targets[t];
    const TaskCount &a = e.training[t], &b = e.validation[t], &c = e.testing[t];
    if (s.head.task == PropertyTask::classification)
      fmt::print(stderr, "           {}: labels 1 of all in train {}/{}, validation {}/{}, test {}/{}\n", target.column,
                 a.positive, a.present, b.positive, b.present, c.positive, c.present);
    else
      fmt::print(stderr,
                 "           {}{}: {} train, {} validation, {} test; training mean {:.4g}, standard deviation {:.4g}\n",
                 target.column, target.unit.empty() ? "" : ", " + target.unit, a.present, b.present, c.present, a.mean,
                 a.std);
  }
  if (s.head.targets.size() > kShown) fmt::print(stderr, "           … and {} more\n", s.head.targets.size() - kShown);
  fmt::print(stderr, "model      {}: {} layers, width {}, shown {}, readout {}, {}{}\n", s.model.name, s.model.layers,
             s.model.width, name_of(s.head.shown), name_of(s.head.readout),
             s.init.empty() ? "from scratch" : "from " + s.init, s.freeze ? ", encoder frozen" : "");
  fmt::print(stderr, "training   {:g} epochs = {} steps of {} molecules, lr {:g}, {} after {} steps of warm-up\n",
             s.epochs, count_text(static_cast<std::uint64_t>(s.schedule.steps)), s.loader.batch_size, s.schedule.peak,
             name_of(s.schedule.decay), s.schedule.warmup);
  fmt::print(stderr, "machine    {}\n", model.place());
}

/// Parameters to start from: drawn, then what the pretrained checkpoint has.
void initial_values(const FinetuneSettings& s, std::uint64_t seed, Model& model,
                    const std::function<void(const std::string&)>& tell) {
  initialise(model, seed, false);
  if (s.init.empty()) return;
  const TrainedModel source = find_trained_model(s.init, tell);
  if (source.config.tasks > 0 && source.config.tasks != s.model.tasks)
    throw Error(
        "{} has {} tasks and these are {}; start from the pretrained checkpoint it came from, or give as many --labels",
        source.path.string(), source.config.tasks, s.model.tasks);
  if (s.model.with_distance && !source.config.with_distance)
    throw Error("{} was trained on 2D alone and can't see positions; use --show 2d", source.path.string());
  for (const std::string& name : load_parameters(source.path, model, Absent::keep))
    if (!name.starts_with("encoder.proj_out."))
      throw Error("{} lacks '{}', which this model needs; choose another --init", source.path.string(), name);
}

/// The answers for each molecule of the test part.
void write_answers(const Experiment& e, const fs::path& path, const std::vector<double>& answers) {
  const std::vector<Target>& targets = e.settings.head.targets;
  AtomicFile file(path);
  std::vector<std::string> row = {"index", "identifier"};
  for (const Target& t : targets) row.push_back(t.column + " label"), row.push_back(t.column + " answer");
  file.write(csv_row(row));
  Molecule molecule;
  for (std::uint64_t k = 0; k < e.parts.test.size(); ++k) {
    const std::uint64_t m = e.parts.test[k];
    e.data->read(m, molecule);
    row = {std::to_string(m), molecule.identifier};
    for (std::size_t t = 0; t < targets.size(); ++t) {
      const double label = e.labels->of(m)[t];
      row.push_back(std::isnan(label) ? "" : fmt::format("{}", label));
      row.push_back(fmt::format("{}", answers[k * targets.size() + t]));
    }
    file.write(csv_row(row));
  }
  file.commit();
}

/// The scores of the checkpoint that validation chose. The only place where the test part is scored. Called by all ranks; the first one
/// writes the answers.
Json score(const Experiment& e, Model& model, const fs::path& folder, const FinetuneOutcome& outcome) {
  const CheckpointStore store(folder / "checkpoints", {});
  const auto chosen = share_checkpoint(*e.ranks, [&] {
    auto found = outcome.best ? store.best(warn) : store.newest(warn);
    if (!found)
      throw Error("{} has no whole checkpoint left to score; remove the folder and --resume", folder.string());
    return found;
  });
  together(*e.ranks, [&] { load_parameters(chosen->path, model, Absent::refuse); });
  const FinetuneSettings& s = e.settings;
  Json result = {{"checkpoint", chosen->path.string()}, {"step", chosen->state.step}, {"steps", outcome.step}};
  for (const auto& [name, part] : {std::pair<const char*, const Subset&>{"train", e.parts.train},
                                   {"valid", e.parts.valid},
                                   {"test", e.parts.test}}) {
    Progress progress(fmt::format("score {}", name), part.size(), "molecules", e.quiet);
    const std::vector<double> answers = predict_together(*e.ranks, model, s.head, *e.data, part, &progress);
    progress.finish();
    if (!e.ranks->first()) continue;
    result[name] = to_json(score_part(s.head, e.labels->of(part), answers, e.training, s.loader.seed), s.head);
    if (name == std::string_view("test")) write_answers(e, folder / "test.csv", answers);
  }
  return result;
}

/// The scores that a finished seed has written; null, with a warning, if they can't be read: they are made again.
std::optional<Json> finished_result(const fs::path& file) {
  Json result = Json::parse(read_file(file), nullptr, false);
  if (result.is_object() && result.contains("seed") && result.contains("test")) return result;
  warn(fmt::format("{} is damaged; the checkpoint is scored again", file.string()));
  return std::nullopt;
}

/// One seed from where it stands to its scores; null if it was stopped, with the signal.
std::optional<Json> run_seed(const Experiment& e, std::uint64_t seed, Model& model, int& signal) {
  const FinetuneSettings& s = e.settings;
  const fs::path folder = e.run / fmt::format("seed-{}", seed);
  std::error_code none;
  std::optional<Json> finished;
  Ranks& ranks = *e.ranks;
  if (ranks.first() && fs::exists(folder / "result.json", none)) finished = finished_result(folder / "result.json");
  if (of_first(ranks, finished ? 1 : 0) > 0)
    return finished ? finished : Json::object();  // which the others have no use for
  const auto from = share_checkpoint(ranks, [&] {
    create_folders(folder / "checkpoints");
    return CheckpointStore(folder / "checkpoints", {}).newest(warn);
  });
  together(ranks, [&] {
    if (!from) return initial_values(s, seed, model, warn_once(ranks));
    refuse_change(e.run, to_json(s, seed), from->state.settings, from->path.filename().string());
    if (from->state.dataset_fingerprint != e.data->info().fingerprint)
      throw Error("{} was trained on a data set with the fingerprint {}, and {} has {}; name the right one with --data",
                  folder.string(), from->state.dataset_fingerprint, e.data_path.string(), e.data->info().fingerprint);
    load_checkpoint(from->path, model);
  });
  if (!e.quiet && s.seeds > 1)
    fmt::print(stderr, "seed {}{}\n", seed, from ? fmt::format(", going on from step {}", from->state.step) : "");
  const FinetuneOutcome outcome = finetune({.data = *e.data,
                                            .labels = *e.labels,
                                            .train = e.parts.train,
                                            .valid = e.parts.valid,
                                            .model = model,
                                            .settings = s,
                                            .seed = seed,
                                            .run = folder,
                                            .program_version = MOLEBLEND_VERSION,
                                            .first_step = from ? from->state.step : 0,
                                            .best = from ? from->state.best : std::nullopt,
                                            .stop_at = e.flags.stop_at,
                                            .quiet = e.quiet,
                                            .ranks = ranks});
  signal = outcome.signal;
  if (!outcome.finished) return std::nullopt;
  Json result = {{"seed", seed}};
  result.update(score(e, model, folder, outcome));
  if (ranks.first()) write_file(folder / "result.json", result.dump(2) + "\n");
  return result;
}

Json unite(const Experiment& e, const std::vector<Json>& seeds) {
  const FinetuneSettings& s = e.settings;
  Json columns = Json::array();
  for (const Target& t : s.head.targets) columns.push_back({{"column", t.column}, {"unit", t.unit}});
  Json result = {{"run", e.run.string()},
                 {"data", e.data_path.string()},
                 {"data_fingerprint", e.data->info().fingerprint},
                 {"task", name_of(s.head.task)},
                 {"targets", columns},
                 {"init", s.init.empty() ? Json("none") : Json(s.init)},
                 {"chosen_by", name_of(s.metric)},
                 {"split",
                  {{"rule", e.parts.rule},
                   {"seed", s.split.seed},
                   {"train", e.fingerprint.train},
                   {"valid", e.fingerprint.valid},
                   {"test", e.fingerprint.test}}},
                 {"molecules",
                  {{"data", e.data->size()},
                   {"train", e.parts.train.size()},
                   {"valid", e.parts.valid.size()},
                   {"test", e.parts.test.size()},
                   {"without_label", e.labels->without_label()},
                   {"without_positions", e.labels->without_positions()},
                   {"in_no_part", e.parts.unused}}}};
  for (const char* name : {"train", "valid", "test"}) {
    std::vector<Json> parts;
    for (const Json& seed : seeds)
      if (seed.contains(name)) parts.push_back(seed.at(name));
    if (!parts.empty()) result[name] = mean_of_runs(parts, s.head.task);
  }
  result["seeds"] = seeds;
  return result;
}

void run_finetune(const CLI::App& verb, const FinetuneFlags& flags, CommonFlags common) {
  Ranks& ranks = join_ranks(flags.rank_deadline);
  if (!ranks.first()) common.quiet = true, common.json = false;
  const bool resumed = !flags.resume.empty();
  Experiment e = resumed ? resume(flags, verb, ranks) : start(flags, ranks);
  e.quiet = common.quiet;
  e.settings.place.process = rank_on_host(ranks);
  std::unique_ptr<Model> model;
  together(ranks, [&] {
    model = make_model(e.settings.model, e.settings.place);
    // Before a folder is made for what can't start.
    initial_values(e.settings, e.settings.loader.seed, *model, warn_once(ranks));
  });
  check_agreement(e, *model, ranks);
  together(ranks, [&] {
    if (!ranks.first()) return;
    if (!resumed) {
      const std::string config = to_toml(e.flags);  // refuses what it can't hold, before there is a folder
      e.lock.emplace(e.run);
      check_new_run(e.run);
      remove_partial_files(e.run);
      write_file(e.run / "config.toml", config);
    }
    if (std::error_code none; !fs::exists(e.run / "split.csv", none))
      write_split(e);  // also of a run that was killed here
  });
  if (!e.quiet) print_start(e, *model);
  if (ranks.size() > 1) {
    const std::string table = table_of(ranks, model->place());
    if (!e.quiet) fmt::print(stderr, "ranks      {}\n{}", ranks.size(), table);
  }
  std::vector<Json> seeds;
  for (std::int64_t k = 0; k < e.settings.seeds; ++k) {
    int signal = 0;
    const auto result = run_seed(e, e.settings.loader.seed + static_cast<std::uint64_t>(k), *model, signal);
    if (!result) {
      if (!e.quiet) fmt::print(stderr, "stopped    go on: moleblend finetune --resume {}\n", e.run.string());
      ranks.all_leave();
      if (signal != 0 && ranks.first()) throw ExitStatus{128 + signal};
      return;
    }
    seeds.push_back(*result);
  }
  ranks.all_leave();
  if (!ranks.first()) return;
  const Json result = unite(e, seeds);
  write_file(e.run / "result.json", result.dump(2) + "\n");
  if (common.json) {
    std::cout << result.dump(2) << "\n";
  } else {
    fmt::print("{}", result_table(result, e.settings.head));
    fmt::print("constant: the best answer that looks at nothing. {}Split {}, test fingerprint {}.\n",
               seeds.size() > 1 ? fmt::format("Means and standard deviations of {} seeds. ", seeds.size())
                                : "In brackets: 95 % intervals from resampled molecules. ",
               e.parts.rule, e.fingerprint.test);
  }
}

}  // namespace

void add_finetune(CLI::App& program) {
  const auto flags = std::make_shared<FinetuneFlags>();
  const auto common = std::make_shared<CommonFlags>();
  CLI::App* verb =
      add_verb(program, "finetune",
               "Train a property model on labels: classification or regression, from a pretrained encoder", *common);
  add_finetune_flags(*verb, *flags);
  verb->callback([verb, flags, common] { run_finetune(*verb, *flags, *common); });
}

}  // namespace moleblend
