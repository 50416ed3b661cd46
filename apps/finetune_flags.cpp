#include "apps/finetune_flags.h"

#include <algorithm>
#include <filesystem>

#include "apps/name_list.h"
#include "apps/run_folder.h"
#include "apps/verb.h"
#include "engine/evaluation/trained_model.h"
#include "engine/property/presets.h"
#include "io/support/cores.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;

/// The network: that of the checkpoint to start from, else the one that --model names.
ModelConfig model_of(const FinetuneFlags& f) {
  if (f.init == "none") return ModelConfig::named(f.model.value_or("small"));
  ModelConfig config = find_trained_model(f.init, warn).config;
  if (f.model && *f.model != config.name)
    throw UsageError("{} is of the network {} and --model says {}; leave --model away", f.init, config.name, *f.model);
  return config;
}

/// Of networks that start from a pretrained one, and from nothing: small learns best at the rates of its own pretraining, larger ones
/// at smaller ones.
double everyday_rate(const FinetuneSettings& s) {
  if (s.model.width > 512) return s.init.empty() ? 1e-4 : 2e-5;
  return s.init.empty() ? 5e-4 : 2e-4;
}

}  // namespace

FinetuneSettings FinetuneFlags::settings() const {
  FinetuneSettings s = direct;
  s.model = model_of(*this);
  s.init = init == "none" ? "" : fs::absolute(init).lexically_normal().string();
  // What pretraining does to generalise is too much for small sets; attention and activations keep theirs.
  s.model.drop_path = 0;
  override_with(s.model.attention_dropout, attention_dropout);
  override_with(s.model.activation_dropout, activation_dropout);
  override_with(s.model.hidden_dropout, hidden_dropout);
  override_with(s.model.drop_path, drop_path);

  if (!preset.empty()) apply(task_preset(preset), s);
  if (task) s.head.task = property_task_named(*task);
  if (!preset.empty() && task && s.head.task != task_preset(preset).task)
    throw UsageError("--preset {} is a {} task; leave --task away", preset, name_of(task_preset(preset).task));
  if (preset.empty() && !task)
    throw UsageError("say what is learnt: --task classification or regression, or --preset NAME");
  s.model.tasks = 0;  // until the data set has said how many
  s.head.readout = readout_named(readout);
  if (show) s.head.shown = shown_named(*show);
  s.model.with_distance = s.head.shown.positions;
  if (!labels.empty()) {
    s.head.targets.clear();
    for (const std::string& column : split_names(labels))
      s.head.targets.push_back({.column = column, .factor = factor.value_or(1), .unit = unit});
  } else if (factor || !unit.empty()) {
    throw UsageError("--label-factor and --unit are of the columns that --labels names; name them");
  }
  s.metric = metric                                        ? metric_named(*metric)
             : !preset.empty()                             ? s.metric
             : s.head.task == PropertyTask::classification ? Metric::roc_auc
                                                           : Metric::rmse;
  if (is_classification(s.metric) != (s.head.task == PropertyTask::classification))
    throw UsageError("--metric {} is not one of {} tasks", name_of(s.metric), name_of(s.head.task));

  override_with(s.split.rule, split);
  if (!fractions.empty()) {
    if (fractions.size() != 3)
      throw UsageError("--fractions takes 3 numbers (training, validation, test), not {}", fractions.size());
    std::copy(fractions.begin(), fractions.end(), s.split.fractions.begin());
    s.split.counts.clear();
  }
  if (!counts.empty()) {
    if (counts.size() != 2)
      throw UsageError("--split-counts takes 2 numbers (training, validation; the rest tests), not {}", counts.size());
    s.split.counts = counts;
  }
  s.split.seed = split_seed.value_or(s.loader.seed);
  if (!s.split.file.empty()) s.split.file = fs::absolute(s.split.file).lexically_normal().string();
  override_with(s.epochs, epochs);
  override_with(s.loader.batch_size, batch_size);
  s.loader.random_conformer = !first_conformer;
  s.schedule.decay = decay_named(schedule);
  s.schedule.peak = lr.value_or(everyday_rate(s));
  s.check();
  if (warmup_epochs && (*warmup_epochs < 0 || *warmup_epochs > s.epochs))
    throw UsageError("--warmup-epochs must lie between 0 and --epochs");
  if (stop_at && *stop_at < 1) throw UsageError("--stop-at must be at least 1, and is {}", *stop_at);
  return s;
}

void add_finetune_flags(CLI::App& verb, FinetuneFlags& f) {
  const auto group = [&verb](const char* title) {
    return [&verb, title](const char* name, auto& value, const char* text) {
      CLI::Option* option = verb.add_option(name, value, text)->group(title)->capture_default_str();
      using Value = std::decay_t<decltype(value)>;
      if constexpr (!std::is_same_v<Value, std::vector<double>> && !std::is_same_v<Value, std::vector<std::uint64_t>>)
        option->take_last();
      return option;
    };
  };
  f.direct.place.threads = available_cores();
  f.direct.loader.batch_size = 32;

  const auto run = group("Data and run");
  run("--data", f.data, "Data set with labels, made by `moleblend prepare --label-columns`");
  run("--output", f.output, "Run folder to make: config.toml, split.csv, a folder for each seed, result.json");
  run("--resume", f.resume, "Go on with this run: finished seeds stay, the others go on from their newest checkpoint");
  run("--init", f.init, "Start from a pretrained checkpoint, a run or a .safetensors file; none: from scratch");
  run("--stop-at", f.stop_at, "Stop after this step of a seed with a checkpoint, as a pre-emption would");
  run("--rank-deadline", f.rank_deadline,
      "Of many ranks (mpirun, srun): end the run when one does not answer for so many seconds")
      ->check(CLI::PositiveNumber);

  const auto task = group("Task");
  task("--preset", f.preset,
       "A benchmark of the field, which sets task, columns, metric, split, input, batch and epochs: bbbp, tox21, esol, "
       "qm9-homo, pcqm4mv2 … (a wrong name lists all); other flags win over it");
  task("--task", f.task, "classification (labels 0, 1 or missing; one or many) or regression");
  task("--labels", f.labels, "Label columns: A,B (a name with a comma in quotation marks) [all of the data set]");
  task("--label-factor", f.factor, "Multiplies the labels of --labels, to be in --unit [1]");
  task("--unit", f.unit, "The labels' unit, for reports");
  task("--show", f.show, "What is seen of a molecule: 2d, 3d or both [2d, or the preset's]");
  task("--readout", f.readout, "cls (the graph token), mean or sum over atoms");
  task("--metric", f.metric,
       "What validation chooses by: roc_auc, pr_auc, accuracy, rmse, mae, r2 or spearman [roc_auc, rmse]");

  const auto split = group("Split");
  split("--split", f.split,
        "random, scaffold (largest scaffolds train), scaffold-balanced (shuffled), or given [random, or the preset's]");
  split("--fractions", f.fractions, "Of training, validation and test [0.8,0.1,0.1]")->delimiter(',');
  split("--split-counts", f.counts, "Molecules that train and validate; the rest tests (random)")->delimiter(',');
  split("--split-file", f.direct.split.file,
        "For --split given: CSV with the columns identifier or index, and part (train, valid or test)");
  split("--split-column", f.direct.split.column,
        "For --split given: a label column with 0 (train), 1 (valid), 2 (test)");
  split("--split-seed", f.split_seed, "Of the split, the same for all seeds [--seed]");

  const auto training = group("Training");
  training("--model", f.model, "tiny, small or base [the checkpoint's, or small]");
  training("--epochs", f.epochs, "Passes over the training part [40, or the preset's]");
  training("--patience", f.direct.patience, "Epochs without a better validation that end the training; 0: never");
  training("--batch-size", f.batch_size, "Molecules an update [32, or the preset's]");
  training("--lr", f.lr, "Peak learning rate [5e-4 from scratch, 2e-4 from a checkpoint; base 1e-4 and 2e-5]");
  training("--warmup-epochs", f.warmup_epochs, "Epochs of linear warm-up from 0 [a tenth of --epochs]");
  training("--schedule", f.schedule, "Decay after the warm-up: cosine, linear or constant");
  training("--final-lr", f.direct.schedule.floor, "Learning rate that the decay ends at");
  training("--layer-decay", f.direct.layer_decay, "Each layer learns so many times as fast as the one above it");
  training("--clip", f.direct.adam.clip_norm, "Largest global norm of the gradient; 0: no clipping");
  training("--weight-decay", f.direct.adam.weight_decay, "Decoupled weight decay");
  training("--attention-dropout", f.attention_dropout, "Dropout of attention probabilities [the model's]");
  training("--activation-dropout", f.activation_dropout, "Dropout after gelu [the model's]");
  training("--hidden-dropout", f.hidden_dropout, "Dropout of each residual branch [the model's]");
  training("--drop-path", f.drop_path, "Largest drop-path, in the last layer [0]");
  training("--seed", f.direct.loader.seed, "Seed of initial values, split, order and dropout");
  training("--seeds", f.direct.seeds, "Runs with --seed, --seed + 1 …, reported as mean and standard deviation");
  const auto flag = [&verb](const char* name, bool& value, const char* text) {
    verb.add_flag(name, value, text)->group("Training");
  };
  flag("--freeze", f.direct.freeze, "Linear probe: only the head learns");
  flag("--balance-classes", f.direct.balance_classes, "Weigh labels 1 so that both classes of a task count alike");
  flag("--first-conformer", f.first_conformer, "Train on the first conformer, not on a random one each epoch");
  flag("--all-conformers", f.direct.head.all_conformers, "Answer with the mean over a molecule's conformers");

  const auto machine = group("Machine");
  machine("--device", f.direct.place.device, "cpu, or cuda: an NVIDIA GPU, of many ranks another one each");
  machine("--precision", f.direct.place.precision, "fp32, or bf16 (a GPU, or a CPU with AVX512-BF16)");
  machine("--threads", f.direct.place.threads, "Threads of the arithmetic; the same number gives the same bits");
  machine("--loader-threads", f.direct.loader.threads, "Threads that prepare batches");
  machine("--micro-batch-atoms", f.direct.loader.micro_batch_atoms,
          "Cut a batch into parts of at most so many atoms, to save memory; 0: don't");
  machine("--log-every", f.direct.log_every, "Steps between training lines of metrics.jsonl");

  verb.footer(
      "Examples:\n"
      "  moleblend finetune --data esol --init run --preset esol --output esol-run --seeds 3\n"
      "  moleblend finetune --data assay --init none --task classification --split scaffold --output assay-run\n"
      "  moleblend finetune --resume esol-run\n"
      "Validation chooses the checkpoint; the test part is scored once, with it. Files of a seed: metrics.jsonl, "
      "checkpoints/,\n"
      "result.json and test.csv with the answer for each test molecule.");
}

std::string to_toml(const FinetuneFlags& f) {
  const FinetuneSettings s = f.settings();
  TomlText toml(
      "Settings of this run. `moleblend finetune --config config.toml --output …` starts another one with the same.");
  const auto maybe = [&toml](std::string_view key, const auto& value) {
    if (value) toml.add(key, *value);
  };
  toml.add("data", f.data);
  toml.add("init", s.init.empty() ? "none" : s.init);
  toml.section("Task");
  if (!f.preset.empty()) toml.add("preset", f.preset);
  toml.add("task", name_of(s.head.task));
  if (!f.labels.empty()) toml.add("labels", f.labels);
  maybe("label-factor", f.factor);
  if (!f.unit.empty()) toml.add("unit", f.unit);
  toml.add("show", name_of(s.head.shown));
  toml.add("readout", name_of(s.head.readout));
  toml.add("metric", name_of(s.metric));
  toml.section("Split");
  toml.add("split", s.split.rule);
  toml.add("fractions", s.split.fractions);
  if (!s.split.counts.empty()) toml.add("split-counts", s.split.counts);
  if (!s.split.file.empty()) toml.add("split-file", s.split.file);
  if (!s.split.column.empty()) toml.add("split-column", s.split.column);
  toml.add("split-seed", s.split.seed);
  toml.section("Training");
  if (s.init.empty()) toml.add("model", s.model.name);
  toml.add("epochs", s.epochs);
  toml.add("patience", s.patience);
  toml.add("batch-size", s.loader.batch_size);
  toml.add("lr", s.schedule.peak);
  maybe("warmup-epochs", f.warmup_epochs);
  toml.add("schedule", name_of(s.schedule.decay));
  toml.add("final-lr", s.schedule.floor);
  toml.add("layer-decay", s.layer_decay);
  toml.add("clip", s.adam.clip_norm);
  toml.add("weight-decay", s.adam.weight_decay);
  toml.add("attention-dropout", s.model.attention_dropout);
  toml.add("activation-dropout", s.model.activation_dropout);
  toml.add("hidden-dropout", s.model.hidden_dropout);
  toml.add("drop-path", s.model.drop_path);
  toml.add("seed", s.loader.seed);
  toml.add("seeds", s.seeds);
  toml.add("freeze", s.freeze);
  toml.add("balance-classes", s.balance_classes);
  toml.add("first-conformer", f.first_conformer);
  toml.add("all-conformers", s.head.all_conformers);
  toml.section("Machine");
  toml.add("device", s.place.device);
  toml.add("precision", s.place.precision);
  toml.add("threads", s.place.threads);
  toml.add("loader-threads", s.loader.threads);
  toml.add("micro-batch-atoms", s.loader.micro_batch_atoms);
  toml.add("log-every", s.log_every);
  return toml.text();
}

}  // namespace moleblend
