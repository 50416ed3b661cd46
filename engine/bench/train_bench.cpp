#include "engine/bench/train_bench.h"

#include <fmt/format.h>
#include <malloc.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "engine/bench/timing.h"

namespace moleblend {
namespace {

constexpr double kLearningRate = 1e-4;

/// The most memory that this process has held since the last call of forget_peak(), in MiB; NaN where the system does not say.
double peak_memory_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  return std::nan("");
}
void forget_peak() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;
}

/// One update; returns the loss.
double train(Model& model, const Batch& batch, const Batch* next, std::int64_t step) {
  const Objective objective;
  const TargetCounts counts = count_targets(batch, objective);
  model.zero_gradients();
  const PretrainResult result =
      model.pretrain(batch, {.objective = &objective, .counts = counts, .upcoming = [next] { return next; }});
  model.update({}, kLearningRate, step);
  return result.total;
}

struct Check {
  double loss, gradient;  // relative differences
};

/// A few molecules through the network and through the one in double with the same parameters and draws.
Check check(const NetworkBenchOptions& o) {
  constexpr std::int64_t kMolecules = 8;
  const Batch batch = std::move(made_up_batches(o.size, kMolecules, 1)[0]);
  const Objective objective;
  const TargetCounts counts = count_targets(batch, objective);
  struct Found {
    double loss;
    std::vector<float> gradient;
  };
  const auto run = [&](Model& model) {
    initialise(model, 1, false);
    Found found{0, std::vector<float>(static_cast<std::size_t>(model.parameter_count()))};
    model.zero_gradients();
    found.loss = model.pretrain(batch, {.objective = &objective, .counts = counts}).total;
    model.read_gradient(found.gradient);
    return found;
  };
  const Found found = run(*make_model(o.config, o.place));
  const Found truth = run(*make_cpu_model(o.config, o.place.threads, true));
  double difference = 0, size = 0;
  for (std::size_t k = 0; k < truth.gradient.size(); ++k) {
    const double d = static_cast<double>(found.gradient[k]) - static_cast<double>(truth.gradient[k]);
    difference += d * d;
    size += static_cast<double>(truth.gradient[k]) * static_cast<double>(truth.gradient[k]);
  }
  return {std::abs(found.loss - truth.loss) / std::abs(truth.loss), std::sqrt(difference / size)};
}

}  // namespace

double step_flop(const ModelConfig& c, const Packed& packed) {
  const auto tokens = static_cast<double>(packed.tokens()), atoms = static_cast<double>(packed.atoms());
  const auto pairs = static_cast<double>(packed.pairs()), token_pairs = static_cast<double>(packed.token_pairs());
  const auto layers = static_cast<double>(c.layers), width = static_cast<double>(c.width),
             ffn = static_cast<double>(c.ffn), heads = static_cast<double>(c.heads),
             kernels = static_cast<double>(c.kernels), pair_width = static_cast<double>(kPairWidth);
  const double outputs = kSpdClasses + kPathHops * kEdgeClasses + (c.target == DistanceTarget::displacement ? 3 : 1);
  // Multiply-adds of the forward pass.
  const double encoder = layers * (tokens * (4 * width * width + 2 * width * ffn) + 2 * token_pairs * width);
  const double shown = Blend{}.pair_distance * pairs;
  const double distances = shown * kernels * (kernels + heads) + atoms * kernels * width;
  const double denoising = atoms * 3 * width * width + pairs * width;
  const double pair_heads = atoms * width * 6 * pair_width + outputs * pair_width * (atoms * pair_width + pairs);
  return 2 * 3 * (encoder + distances + denoising + pair_heads);
}

void bench_training(const NetworkBenchOptions& o, const BenchSink& sink) {
  constexpr std::int64_t kBatches = 4;
  constexpr int kParts = 4;
  forget_peak();
  const std::vector<Batch> batches = made_up_batches(o.size, o.batch_size, kBatches);
  const std::unique_ptr<Model> model = make_model(o.config, o.place);
  initialise(*model, 1, false);

  std::int64_t steps = 0;
  bool finite = true;
  std::vector<std::vector<double>> times(kBatches);
  const auto step = [&] {
    using Clock = std::chrono::steady_clock;
    const auto k = static_cast<std::size_t>(steps % kBatches);
    const Clock::time_point begin = Clock::now();
    finite &= std::isfinite(train(*model, batches[k], &batches[(k + 1) % kBatches], ++steps));
    times[k].push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    return times[k].back();
  };
  const auto each_batch = [&] {
    double seconds = 0;
    for (std::int64_t k = 0; k < kBatches; ++k) seconds += step();
    return seconds;
  };
  each_batch();  // memory grows to its size
  const double peak = peak_memory_mib();
  for (auto& t : times) t.clear();
  // On a shared machine both the step and the ceiling change from second to second: the one is measured in between the other.
  std::vector<double> ceilings{o.ceilings.flop_per_s};
  for (int part = 1; part <= kParts; ++part) {
    for (double spent = 0; spent < o.seconds / kParts || times[0].empty();) spent += each_batch();
    ceilings.push_back(measure_product_ceiling(o.place));
  }
  const double ceiling = median(ceilings);
  for (double& c : ceilings) c *= 1e-9;  // for the reader

  double seconds = 0, flop = 0, molecules = 0, atoms = 0, pairs = 0;
  std::size_t bytes = 0;
  for (std::size_t k = 0; k < batches.size(); ++k) {
    const Packed packed = batches[k].packed();
    seconds += median(times[k]);
    flop += step_flop(o.config, packed);
    molecules += static_cast<double>(packed.molecules);
    atoms += static_cast<double>(packed.atoms());
    pairs += static_cast<double>(packed.pairs());
    bytes = std::max(bytes, model->batch_bytes(packed, true));
  }
  model->watch();
  each_batch();
  nlohmann::ordered_json shares = nlohmann::ordered_json::object();
  const std::vector<PartTime> parts = model->part_times();
  double all = 0;
  for (const PartTime& part : parts) all += part.seconds;
  for (const PartTime& part : parts)
    if (part.seconds > 0) shares[std::string(part.name)] = part.seconds / all;

  // The gradient goes through as many roundings one after another as the network is deep: a few times 1e-6 in fp32 at twelve layers. bf16
  // rounds what is multiplied to 8 bits, and on a GPU every activation.
  const bool bf16 = o.place.precision == "bf16";
  const Check found = check(o);
  BenchRow row{.name = fmt::format("train.{}.{}.{}", o.config.name, o.place.precision, o.size.name),
               .value = molecules / seconds,
               .unit = "molecules/s",
               .correct = finite && found.loss <= (bf16 ? 1e-2 : 1e-5) && found.gradient <= (bf16 ? 5e-2 : 1e-4),
               .share_of_floor = flop / seconds / ceiling};
  row.detail = {{"place", model->place()},
                {"batch", o.batch_size},
                {"ms", 1e3 * seconds / kBatches},
                {"atoms_per_molecule", atoms / molecules},
                {"atoms_per_s", atoms / seconds},
                {"pairs_per_s", pairs / seconds},
                {"gflop_per_molecule", 1e-9 * flop / molecules},
                {"gflop_per_s", 1e-9 * flop / seconds},
                {"ceilings_gflop_per_s", ceilings},
                {"activations_mib", static_cast<double>(bytes) / 1048576},
                {"loss_error", found.loss},
                {"gradient_error", found.gradient},
                {"shares", shares}};
  sink(std::move(row));
  if (o.with_memory && o.place.device == "cpu" && !std::isnan(peak)) {
    sink({.name = fmt::format("train.{}.memory.{}.b{}", o.config.name, o.size.name, o.batch_size),
          .value = peak,
          .unit = "MiB"});
  }
}

}  // namespace moleblend
