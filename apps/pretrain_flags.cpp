#include "apps/pretrain_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "apps/run_folder.h"
#include "apps/verb.h"
#include "io/support/cores.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

/// A run without a preset. On 1,584 PCQM4Mv2 molecules the validation loss of `small` falls faster at 1e-3 than at 3e-4 (docs/training.md), but
/// on the 1,106 larger molecules of examples/molecules.smi a run of 3,000 steps at 1e-3 fell back to the constant answers, which 5e-4 did not;
/// base has the width and depth of models that are usually trained at 1e-4.
void apply_everyday_defaults(PretrainSettings& s) {
  s.schedule = {.decay = Decay::cosine, .peak = s.model.width > 512 ? 1e-4 : 5e-4, .steps = 5000};
  s.loader.batch_size = 32;
}

void check_choice(const std::string& value, std::initializer_list<std::string_view> choices, std::string_view flag) {
  if (std::find(choices.begin(), choices.end(), value) == choices.end())
    throw UsageError("--{} can't be '{}'; choose {}", flag, value, fmt::join(choices, " or "));
}

}  // namespace

PretrainSettings PretrainFlags::settings() const {
  check_choice(target, {"distance", "displacement"}, "target");
  check_choice(init_values, {"default", "reference"}, "init-values");

  PretrainSettings s = direct;
  s.model = ModelConfig::named(model);
  s.model.target = target == "distance" ? DistanceTarget::distance : DistanceTarget::displacement;
  override_with(s.model.layers, layers);
  override_with(s.model.width, width);
  override_with(s.model.heads, heads);
  override_with(s.model.ffn, ffn);
  override_with(s.model.kernels, kernels);
  override_with(s.model.distance_hidden, distance_hidden);
  override_with(s.model.attention_dropout, attention_dropout);
  override_with(s.model.activation_dropout, activation_dropout);
  override_with(s.model.hidden_dropout, hidden_dropout);
  override_with(s.model.drop_path, drop_path);

  s.objective = Objective::named(objective);
  const auto expect = [](const std::vector<double>& list, std::size_t count, std::string_view flag,
                         std::string_view names) {
    if (!list.empty() && list.size() != count)
      throw UsageError("--{} takes {} numbers ({}), not {}", flag, count, names, list.size());
    return !list.empty();
  };
  if (expect(blend, 3, "blend", "SPD,edge,distance"))
    s.objective.blend.pair_spd = blend[0], s.objective.blend.pair_edge = blend[1],
    s.objective.blend.pair_distance = blend[2];
  if (expect(atom_blend, 2, "atom-blend", "2D,3D"))
    s.objective.blend.atom_2d = atom_blend[0], s.objective.blend.atom_3d = atom_blend[1];
  if (expect(factors, 4, "factors", "SPD,edge,3D,denoise"))
    s.objective.spd_factor = factors[0], s.objective.edge_factor = factors[1], s.objective.distance_factor = factors[2],
    s.objective.denoise_factor = factors[3];
  override_with(s.objective.noise_scale, noise_scale);

  if (preset.empty())
    apply_everyday_defaults(s);
  else
    apply_preset(preset, s);
  if (schedule) s.schedule.decay = decay_named(*schedule);
  override_with(s.schedule.peak, lr);
  override_with(s.schedule.floor, final_lr);
  override_with(s.schedule.steps, steps);
  override_with(s.schedule.warmup, warmup);
  if (warmup && *warmup < 0) throw UsageError("--warmup must not be negative, and is {}", *warmup);
  // A run shortened by --steps keeps the preset's shape: a tenth of warm-up.
  if (!warmup && (preset.empty() || steps)) s.schedule.warmup = s.schedule.steps / 10;
  override_with(s.loader.batch_size, batch_size);
  override_with(s.adam.clip_norm, clip);
  override_with(s.adam.weight_decay, weight_decay);
  override_with(s.adam.beta1, beta1);
  override_with(s.adam.beta2, beta2);
  override_with(s.adam.epsilon, adam_epsilon);
  s.loader.use_positions = !without_positions;
  s.loader.random_conformer = !first_conformer;
  s.reference_values = init_values == "reference";
  s.init = init.empty() ? init : std::filesystem::absolute(init).lexically_normal().string();
  s.check();
  if (stop_at && *stop_at < 1) throw UsageError("--stop-at must be at least 1, and is {}", *stop_at);
  return s;
}

void add_pretrain_flags(CLI::App& verb, PretrainFlags& f) {
  const auto group = [&verb](const char* title) {
    return [&verb, title](const char* name, auto& value, const char* text) {
      CLI::Option* option = verb.add_option(name, value, text)->group(title)->capture_default_str();
      // A flag given twice means its last value, so that a script's flags can be followed by one's own. Lists take all.
      if constexpr (!std::is_same_v<std::decay_t<decltype(value)>, std::vector<double>>) option->take_last();
      return option;
    };
  };
  f.direct.place.threads = available_cores();

  const auto run = group("Data and run");
  run("--data", f.data, "Data set made by `moleblend prepare`");
  run("--output", f.output, "Run folder to make: config.toml, metrics.jsonl, checkpoints/");
  run("--resume", f.resume,
      "Go on with this run where its newest whole checkpoint is, to the same bytes as a run that never stopped; only "
      "flags of "
      "watching, keeping and the machine may be given beside it");
  run("--init", f.init,
      "Start from the parameters of a checkpoint, a run or a .safetensors file with the reference's names");
  run("--stop-at", f.stop_at, "Stop after this step with a checkpoint, as a pre-emption would");
  run("--rank-deadline", f.rank_deadline,
      "Of many ranks (mpirun, srun): end the run when one does not answer for so many seconds")
      ->check(CLI::PositiveNumber);

  const auto network = group("Network");
  network("--model", f.model, "tiny (tests), small (laptops) or base (the paper's)");
  network("--layers", f.layers, "Encoder layers [the model's]");
  network("--width", f.width, "Model width [the model's]");
  network("--heads", f.heads, "Attention heads [the model's]");
  network("--ffn", f.ffn, "Feed-forward width [the model's]");
  network("--kernels", f.kernels, "Gaussian kernels of the distance encoding [the model's]");
  network("--distance-hidden", f.distance_hidden, "Hidden width of the 3D head [the model's]");
  network("--attention-dropout", f.attention_dropout, "Dropout of attention probabilities [0.1]");
  network("--activation-dropout", f.activation_dropout, "Dropout after gelu [0.1]");
  network("--hidden-dropout", f.hidden_dropout, "Dropout of each residual branch [0]");
  network("--drop-path", f.drop_path, "Largest drop-path, in the last layer [0.1]");
  network("--init-values", f.init_values,
          "Initial values: default, or reference (its Gaussian tables start nearly blind)");

  const auto objective = group("Objective");
  objective("--objective", f.objective,
            "blend, 3d-to-2d, 2d-to-3d, 2d-to-2d, 3d-to-3d, denoising or blend-without-denoising");
  objective("--target", f.target, "What the 3D head recovers: distance (invariant) or displacement (the reference)");
  objective("--blend", f.blend,
            "Probabilities of showing SPD,edge,distance for a pair [the objective's; blend: 0.2,0.2,0.6]")
      ->delimiter(',');
  objective("--atom-blend", f.atom_blend,
            "Probabilities of showing 2D,3D for an atom [the objective's; blend: 0.4,0.6]")
      ->delimiter(',');
  objective("--factors", f.factors, "Loss factors of SPD,edge,3D,denoise [the objective's; blend: 0.1,0.1,0.5,6]")
      ->delimiter(',');
  objective("--noise-scale", f.noise_scale, "Noise on positions in ångström [0.2]");

  const auto training = group("Training");
  training("--preset", f.preset,
           "released (200,000 updates of 4,096 molecules, lr 1e-5) or paper (1,000,000); other flags win over it");
  training("--steps", f.steps, "Updates [5000, or the preset's]");
  training("--batch-size", f.batch_size, "Molecules an update (the global batch) [32, or the preset's]");
  training("--lr", f.lr, "Peak learning rate [5e-4, base 1e-4, or the preset's]");
  training("--warmup", f.warmup, "Updates of linear warm-up from 0 [a tenth of --steps]");
  training("--schedule", f.schedule, "Decay after the warm-up: cosine, linear or constant [cosine]");
  training("--final-lr", f.final_lr, "Learning rate that the decay ends at [0]");
  training("--clip", f.clip, "Largest global norm of the gradient; 0: no clipping [5]");
  training("--weight-decay", f.weight_decay, "Decoupled weight decay [0]");
  training("--beta1", f.beta1, "Adam's beta1 [0.9]");
  training("--beta2", f.beta2, "Adam's beta2 [0.999]");
  training("--adam-epsilon", f.adam_epsilon, "Adam's epsilon [1e-8]");
  training("--seed", f.direct.loader.seed, "Seed of initial values, split, order, blending, noise and dropout");
  verb.add_flag("--skip-spikes", f.direct.skip_spikes, "Leave out the updates that --spike-z marks")->group("Training");
  verb.add_flag("--without-positions", f.without_positions, "Train as if no molecule had positions")->group("Training");
  verb.add_flag("--first-conformer", f.first_conformer, "Always the first conformer, not a random one each epoch")
      ->group("Training");

  const auto keeping = group("Watching and keeping");
  keeping("--valid-fraction", f.direct.valid_fraction, "Part of the molecules that is never trained on, by --seed");
  keeping("--valid-every", f.direct.valid_every, "Steps between validations; 0: never");
  keeping("--valid-molecules", f.direct.valid_molecules, "At most so many of the validation part each time");
  keeping("--log-every", f.direct.log_every, "Steps between training lines of metrics.jsonl");
  keeping("--spike-z", f.direct.spike_z,
          "Log updates whose loss or gradient norm lies so many standard deviations above the last hundred; 0: none");
  keeping("--checkpoint-every", f.direct.checkpoint_every, "Steps between checkpoints");
  keeping("--keep-last", f.direct.keep_last, "Newest checkpoints kept, beside the best on validation");
  keeping("--keep-every", f.direct.keep_every, "Checkpoints at multiples of this stay for good; 0: none");

  const auto machine = group("Machine");
  machine("--device", f.direct.place.device, "cpu, or cuda: an NVIDIA GPU, of many ranks another one each");
  machine("--precision", f.direct.place.precision,
          "fp32, or bf16: products in bfloat16, weights and sums in fp32 (a GPU, or a CPU with AVX512-BF16)");
  machine("--threads", f.direct.place.threads, "Threads of the arithmetic; the same number gives the same bits");
  machine("--loader-threads", f.direct.loader.threads, "Threads that prepare batches");
  machine("--micro-batch-atoms", f.direct.loader.micro_batch_atoms,
          "Cut a batch into parts of at most so many atoms, to save memory; 0: don't");
  machine("--micro-batches", f.direct.loader.micro_batches, "Cut a batch into at least so many parts");

  verb.footer(
      "Examples:\n"
      "  moleblend pretrain --data molecules --output run --model small --steps 5000\n"
      "  moleblend pretrain --resume run                    (after a stop, a crash or a pre-emption)\n"
      "  moleblend pretrain --data pcqm --output paper --model base --preset released\n"
      "SIGTERM, SIGINT and SIGUSR1 end a run after the step it is in, with a checkpoint; the exit status is then 128 + "
      "the signal.");
}

PretrainFlags parse_pretrain(std::vector<std::string> arguments) {
  return parse_flags(add_pretrain_flags, std::move(arguments));
}

std::string to_toml(const PretrainSettings& s, const std::string& data) {
  TomlText toml(
      "Settings of this run. `moleblend pretrain --config config.toml --output …` starts another one with the same.");
  const auto add = [&toml](std::string_view key, const auto& value) { toml.add(key, value); };
  add("data", data);
  if (!s.init.empty()) add("init", s.init);
  toml.section("Network");
  add("model", s.model.name);
  add("layers", s.model.layers);
  add("width", s.model.width);
  add("heads", s.model.heads);
  add("ffn", s.model.ffn);
  add("kernels", s.model.kernels);
  add("distance-hidden", s.model.distance_hidden);
  add("attention-dropout", s.model.attention_dropout);
  add("activation-dropout", s.model.activation_dropout);
  add("hidden-dropout", s.model.hidden_dropout);
  add("drop-path", s.model.drop_path);
  add("init-values", s.reference_values ? "reference" : "default");
  toml.section("Objective");
  add("objective", s.objective.name);
  add("target", s.model.target == DistanceTarget::distance ? "distance" : "displacement");
  const Blend& b = s.objective.blend;
  add("blend", std::vector{b.pair_spd, b.pair_edge, b.pair_distance});
  add("atom-blend", std::vector{b.atom_2d, b.atom_3d});
  add("factors", std::vector{s.objective.spd_factor, s.objective.edge_factor, s.objective.distance_factor,
                             s.objective.denoise_factor});
  add("noise-scale", s.objective.noise_scale);
  toml.section("Training");
  add("steps", s.schedule.steps);
  add("batch-size", s.loader.batch_size);
  add("lr", s.schedule.peak);
  add("warmup", s.schedule.warmup);
  add("schedule", name_of(s.schedule.decay));
  add("final-lr", s.schedule.floor);
  add("clip", s.adam.clip_norm);
  add("weight-decay", s.adam.weight_decay);
  add("beta1", s.adam.beta1);
  add("beta2", s.adam.beta2);
  add("adam-epsilon", s.adam.epsilon);
  add("seed", s.loader.seed);
  add("skip-spikes", s.skip_spikes);
  add("without-positions", !s.loader.use_positions);
  add("first-conformer", !s.loader.random_conformer);
  toml.section("Watching and keeping");
  add("valid-fraction", s.valid_fraction);
  add("valid-every", s.valid_every);
  add("valid-molecules", s.valid_molecules);
  add("log-every", s.log_every);
  add("spike-z", s.spike_z);
  add("checkpoint-every", s.checkpoint_every);
  add("keep-last", s.keep_last);
  add("keep-every", s.keep_every);
  toml.section("Machine");
  add("device", s.place.device);
  add("precision", s.place.precision);
  add("threads", s.place.threads);
  add("loader-threads", s.loader.threads);
  add("micro-batch-atoms", s.loader.micro_batch_atoms);
  add("micro-batches", s.loader.micro_batches);
  return toml.text();
}

}  // namespace moleblend
