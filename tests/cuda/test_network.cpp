// The whole network on the GPU: the reference program's numbers, the CPU's draws and losses, and the same bytes twice.

#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/model/cpu_model.h"
#include "engine/model/gpu_batch.h"
#include "engine/model/network.h"
#include "tests/cuda/device.h"
#include "tests/cuda/plain_bf16.h"
#include "tests/engine/thread_ranks.h"
#include "tests/golden/checks.h"
#include "tests/model/random_batch.h"

namespace moleblend::testing {
namespace {

namespace fs = std::filesystem;

class CudaGolden : public CudaTest, public ::testing::WithParamInterface<fs::path> {};
TEST_P(CudaGolden, Float) {
  check<Gpu, float>(GetParam(), 0);
}

class CudaGoldenTraining : public CudaTest, public ::testing::WithParamInterface<fs::path> {};
TEST_P(CudaGoldenTraining, Float) {
  check_training<Gpu, float>(GoldenCase(GetParam()), 0);
}

/// All cases where a GPU is asked for; else those that the executor gets through in seconds, not a network of the paper's size.
std::vector<fs::path> in_reach(std::vector<fs::path> files) {
  if (std::getenv("MOLEBLEND_REQUIRE_GPU")) return files;
  std::erase_if(files, [](const fs::path& p) { return p.stem().string().starts_with("base"); });
  return files;
}
INSTANTIATE_TEST_SUITE_P(Cases, CudaGolden, ::testing::ValuesIn(in_reach(golden_files())), case_name);
INSTANTIATE_TEST_SUITE_P(Cases, CudaGoldenTraining, ::testing::ValuesIn(in_reach(training_files())), case_name);

/// A network with every dropout on, head width 24, and molecules on both sides of a warp.
ModelConfig config() {
  ModelConfig c = ModelConfig::named("tiny");
  c.width = 48, c.heads = 2, c.ffn = 32, c.kernels = 16, c.distance_hidden = 12;
  c.hidden_dropout = 0.1;
  c.drop_path = 0.3;
  return c;
}
Batch batch() {
  return batch_of({random_molecule(1, 1), random_molecule(7, 2), random_molecule(34, 5), random_molecule(4, 3, false),
                   random_molecule(9, 4)},
                  {0, 1, 2, 3, 4});
}

/// Larger than the usual start, so that every term is visible.
std::vector<float> random_parameters(const Model& model) {
  std::vector<float> values(static_cast<std::size_t>(model.parameter_count()));
  for (const ParameterInfo& p : model.parameters()) {
    const auto noise = random_values(static_cast<std::size_t>(p.count), static_cast<std::uint64_t>(p.offset) + 1, 0.1);
    const bool scale = p.kind == ParameterInfo::Kind::norm_weight || p.kind == ParameterInfo::Kind::gaussian_mul ||
                       p.kind == ParameterInfo::Kind::gaussian_std;
    for (std::size_t k = 0; k < noise.size(); ++k)
      values[static_cast<std::size_t>(p.offset) + k] = static_cast<float>(noise[k]) + (scale ? 1.f : 0.f);
    if (p.padding_row)
      for (std::int64_t k = 0; k < p.shape.back(); ++k) values[static_cast<std::size_t>(p.offset + k)] = 0;
  }
  return values;
}

/// One pass with gradients.
struct Pass {
  PretrainResult result;
  std::vector<double> gradient;
  std::vector<ParameterInfo> parameters;

  double gradient_error(const Pass& truth, const ParameterInfo& p) const {
    double sum = 0;
    for (std::int64_t k = p.offset; k < p.offset + p.count; ++k) {
      const double d = gradient[static_cast<std::size_t>(k)] - truth.gradient[static_cast<std::size_t>(k)];
      sum += d * d;
    }
    return std::sqrt(sum);
  }
  double gradient_norm(const ParameterInfo& p) const {
    double sum = 0;
    for (std::int64_t k = p.offset; k < p.offset + p.count; ++k)
      sum += gradient[static_cast<std::size_t>(k)] * gradient[static_cast<std::size_t>(k)];
    return std::sqrt(sum);
  }
};

template <class Device, class T>
Pass pretrain_once(const ModelConfig& c, int device) {
  Network<Device, T> model(c, device);
  model.write(0, random_parameters(model));
  const Batch b = batch();
  const Objective objective;
  Pass pass;
  pass.result = model.pretrain(b, {.objective = &objective, .counts = count_targets(b, objective)});
  const auto gradient = fetch(model, model.gradient().data(), model.parameter_count());
  pass.gradient.assign(gradient.begin(), gradient.end());
  pass.parameters = model.parameters();
  return pass;
}

class CudaNetwork : public CudaTest {};

TEST_F(CudaNetwork, DrawsAreTheCpusBitForBit) {
  const Batch b = batch();
  const Objective objective;
  const PretrainStep step{.objective = &objective, .counts = count_targets(b, objective), .gradients = false};
  CpuModel<float> on_cpu(config(), 1);
  Network<Gpu, float> on_gpu(config(), 0);
  on_cpu.write(0, random_parameters(on_cpu));
  on_gpu.write(0, random_parameters(on_gpu));
  on_cpu.pretrain(b, step);
  on_gpu.pretrain(b, step);
  const Packed p = b.packed();
  const auto compare = [&](const auto* cpu_values, const auto* gpu_values, std::int64_t count, const char* what) {
    EXPECT_EQ(fetch(on_cpu, cpu_values, count), fetch(on_gpu, gpu_values, count)) << what;
  };
  compare(on_cpu.state().pair_visible, on_gpu.state().pair_visible, p.pairs(), "pairs");
  compare(on_cpu.state().atom_visible, on_gpu.state().atom_visible, p.atoms(), "atoms");
  compare(on_cpu.state().noise, on_gpu.state().noise, 3 * p.atoms(), "noise");
}

TEST_F(CudaNetwork, FloatIsTheFp64NetworkToRounding) {
  for (const DistanceTarget target : {DistanceTarget::distance, DistanceTarget::displacement}) {
    ModelConfig c = config();
    c.target = target;
    const Pass truth = pretrain_once<Cpu, double>(c, 1), ours = pretrain_once<Gpu, float>(c, 0);
    // As the golden data's tolerance for float: losses of order one with rounding of 6e-8 through four sub-layers.
    EXPECT_NEAR(ours.result.total, truth.result.total, 2e-5 * truth.result.total);
    EXPECT_NEAR(ours.result.denoise, truth.result.denoise, 2e-5);
    EXPECT_EQ(ours.result.spd_detail.count, truth.result.spd_detail.count);
    EXPECT_EQ(ours.result.edge_detail.count, truth.result.edge_detail.count);
    EXPECT_EQ(ours.result.distance_detail.pairs, truth.result.distance_detail.pairs);
    EXPECT_EQ(ours.result.denoise_atoms, truth.result.denoise_atoms);
    for (const ParameterInfo& p : ours.parameters) {
      // The gradient of a key's bias is zero in theory and rounding in practice.
      const double scale = std::max(truth.gradient_norm(p), 1e-3);
      expect_at_most(ours.gradient_error(truth, p) / scale, 3.6e-4, "gradient of " + p.name);
    }
  }
}

TEST_F(CudaNetwork, Bf16CostsNoMoreThanAPlainBf16Program) {
  const Pass truth = pretrain_once<Cpu, double>(config(), 1), ours = pretrain_once<Gpu, bf16>(config(), 0);
  Pass plain = pretrain_once<PlainBf16, float>(config(), 1);
  for (double& g : plain.gradient) g = to_float(to_bf16(static_cast<float>(g)));  // kept in bf16 as all else
  const auto loss_error = [&](const Pass& p) { return std::abs(p.result.total - truth.result.total); };
  // One number may be lucky in the plain program: the rounding of bf16 itself (2⁻⁸ of the loss) is allowed.
  expect_at_most(loss_error(ours), std::max(2 * loss_error(plain), truth.result.total * 0x1p-8), "loss");
  double all_ours = 0, all_plain = 0;
  for (const ParameterInfo& p : ours.parameters) {
    const double error = ours.gradient_error(truth, p), plain_error = plain.gradient_error(truth, p);
    all_ours += error * error, all_plain += plain_error * plain_error;
    EXPECT_GT(plain_error, 0) << p.name;
    expect_at_most(error / plain_error, 3, "gradient of " + p.name);
  }
  expect_at_most(std::sqrt(all_ours / all_plain), 3, "all gradients");
}

template <class T>
void expect_same_bytes(const ModelConfig& c) {
  const Pass first = pretrain_once<Gpu, T>(c, 0), second = pretrain_once<Gpu, T>(c, 0);
  EXPECT_EQ(first.result.total, second.result.total);
  EXPECT_EQ(first.gradient, second.gradient);
}
TEST_F(CudaNetwork, SameBytesTwice) {
  expect_same_bytes<float>(config());
  expect_same_bytes<bf16>(config());
}

TEST_F(CudaNetwork, BatchStagedAheadIsTheBatch) {
  const Objective objective;
  const Batch first = batch(), second = batch_of({random_molecule(5, 8), random_molecule(12, 9)}, {0, 1}, 3);
  const auto step_of_batch = [&](const Batch& b) {
    return PretrainStep{.objective = &objective, .counts = count_targets(b, objective)};
  };
  Network<Gpu, float> plain(config(), 0), staged(config(), 0);
  plain.write(0, random_parameters(plain));
  staged.write(0, random_parameters(staged));
  int asked = 0;
  PretrainStep ahead = step_of_batch(first);
  ahead.upcoming = [&] {
    ++asked;
    return &second;
  };
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(plain.pretrain(first, step_of_batch(first)).total, staged.pretrain(first, ahead).total);
    EXPECT_EQ(plain.pretrain(second, step_of_batch(second)).total,
              staged.pretrain(second, step_of_batch(second)).total);
    // Another batch than the one announced.
    EXPECT_EQ(plain.pretrain(first, step_of_batch(first)).total, staged.pretrain(first, ahead).total);
    EXPECT_EQ(plain.pretrain(first, step_of_batch(first)).total, staged.pretrain(first, step_of_batch(first)).total);
  }
  EXPECT_EQ(asked, 4);
}

TEST_F(CudaNetwork, PropertyHeadIsTheCpus) {
  ModelConfig c = config();
  c.tasks = 3;
  const Batch b = batch();
  const std::vector<double> mean{0.5, -1, 2}, std{2, 0.5, 1};
  for (const PropertyTask task : {PropertyTask::regression, PropertyTask::classification})
    for (const Readout readout : {Readout::cls, Readout::mean, Readout::sum})
      for (const bool show_3d : {false, true}) {
        std::vector<double> labels = random_values(static_cast<std::size_t>(3 * b.molecules()), 4);
        for (std::size_t k = 0; k < labels.size(); ++k) {
          if (task == PropertyTask::classification) labels[k] = labels[k] > 0;
          if (k % 4 == 1) labels[k] = std::nan("");
        }
        const PropertyStep step{.task = task,
                                .readout = readout,
                                .show_2d = !show_3d || readout == Readout::sum,
                                .show_3d = show_3d,
                                .labels = labels,
                                .mean = mean,
                                .std = std,
                                .label_count = 11};
        CpuModel<double> on_cpu(c, 1);
        Network<Gpu, float> on_gpu(c, 0);
        on_cpu.write(0, random_parameters(on_cpu));
        on_gpu.write(0, random_parameters(on_gpu));
        std::vector<double> expected, logits;
        const double expected_loss = on_cpu.property(b, step, &expected), loss = on_gpu.property(b, step, &logits);
        EXPECT_NEAR(loss, expected_loss, 2e-5 * std::abs(expected_loss));
        expect_close<double, double>(logits, expected, 2e-5, 1, "logits");
        const auto gradient = fetch(on_gpu, on_gpu.gradient().data(), on_gpu.parameter_count());
        double difference = 0, norm = 0;
        for (std::size_t k = 0; k < gradient.size(); ++k) {
          const double g = on_cpu.gradient()[k];
          difference += (static_cast<double>(gradient[k]) - g) * (static_cast<double>(gradient[k]) - g);
          norm += g * g;
        }
        expect_at_most(std::sqrt(difference / norm), 3.6e-4, "gradient");
      }
}

TEST_F(CudaNetwork, EncodedRowsAreTheCpus) {
  const Batch b = batch();
  CpuModel<double> on_cpu(config(), 1);
  Network<Gpu, float> on_gpu(config(), 0);
  on_cpu.write(0, random_parameters(on_cpu));
  on_gpu.write(0, random_parameters(on_gpu));
  for (const std::optional<Readout> readout :
       {std::optional(Readout::cls), std::optional(Readout::mean), std::optional<Readout>()}) {
    const EncodeStep step{.show_2d = true, .show_3d = readout != Readout::cls, .readout = readout};
    std::vector<float> expected, rows;
    on_cpu.encode(b, step, expected);
    on_gpu.encode(b, step, rows);
    ASSERT_EQ(rows.size(), static_cast<std::size_t>((readout ? b.molecules() : b.atoms()) * config().width));
    // As the property head's predictions, above.
    expect_close<float, float>(rows, expected, 2e-5, 1, "rows");
  }
}

TEST_F(CudaNetwork, UpdateIsTheCpus) {
  CpuModel<double> on_cpu(config(), 1);
  Network<Gpu, float> on_gpu(config(), 0);
  on_cpu.write(0, random_parameters(on_cpu));
  on_gpu.write(0, random_parameters(on_gpu));
  const Batch b = batch();
  const Objective objective;
  const PretrainStep step{.objective = &objective, .counts = count_targets(b, objective)};
  for (std::int64_t t = 1; t <= 3; ++t) {
    on_cpu.zero_gradients();
    on_gpu.zero_gradients();
    on_cpu.pretrain(b, step);
    on_gpu.pretrain(b, step);
    const double expected = on_cpu.update({}, 1e-3, t), norm = on_gpu.update({}, 1e-3, t);
    EXPECT_NEAR(norm, expected, 1e-4 * expected);
  }
  std::vector<float> expected(static_cast<std::size_t>(on_cpu.parameter_count())), ours = expected;
  for (const int moment : {1, 2}) {
    on_cpu.read(moment, expected);
    on_gpu.read(moment, ours);
    double difference = 0, norm = 0;
    for (std::size_t k = 0; k < ours.size(); ++k) {
      difference += std::pow(static_cast<double>(ours[k]) - static_cast<double>(expected[k]), 2);
      norm += std::pow(static_cast<double>(expected[k]), 2);
    }
    expect_at_most(std::sqrt(difference / norm), 1e-3, "moment " + std::to_string(moment));
  }
}

TEST_F(CudaNetwork, RanksTogetherAreOne) {
  const Batch parts[] = {batch(), batch_of({random_molecule(5, 8), random_molecule(12, 9)}, {0, 1}, 3)};
  const Objective objective;
  TargetCounts counts = count_targets(parts[0], objective);
  counts += count_targets(parts[1], objective);
  const auto gradient_of = [](const Network<Gpu, float>& model) {
    std::vector<float> values(static_cast<std::size_t>(model.parameter_count()));
    model.read_gradient(values);
    return values;
  };
  Network<Gpu, float> one(config(), 0);
  one.write(0, random_parameters(one));
  one.zero_gradients();
  for (const Batch& part : parts) one.pretrain(part, {.objective = &objective, .counts = counts});
  const std::vector<float> expected = gradient_of(one);
  const double norm = one.update({}, 1e-3, 1);

  std::vector<float> found[2];
  std::mutex turn;  // the executor's kernels run for one thread at a time
  run_ranks(2, [&](ThreadRanks& ranks) {
    const auto rank = static_cast<std::size_t>(ranks.rank());
    std::unique_lock lock(turn);
    Network<Gpu, float> model(config(), 0);
    lock.unlock();
    const std::string way = model.join(ranks);
    // A GPU of its own for each in the executor; on a machine with GPUs both have the first.
    EXPECT_TRUE(way.starts_with("by NCCL ") || way.find("because") != std::string::npos) << way;
    lock.lock();
    model.write(0, random_parameters(model));
    model.zero_gradients();
    model.pretrain(parts[rank], {.objective = &objective, .counts = counts, .last = true});
    lock.unlock();
    model.sum_gradients();
    lock.lock();
    found[rank] = gradient_of(model);
    // The same bits on both ranks; against one that adds up the same terms, another order of 1,000 roundings to float.
    EXPECT_NEAR(model.update({}, 1e-3, 1), norm, 1e-5 * norm);
  });
  EXPECT_EQ(found[0], found[1]);
  double difference = 0, all = 0;
  for (std::size_t k = 0; k < expected.size(); ++k) {
    difference += std::pow(static_cast<double>(found[0][k]) - static_cast<double>(expected[k]), 2);
    all += std::pow(static_cast<double>(expected[k]), 2);
  }
  expect_at_most(std::sqrt(difference / all), 1e-5, "gradient");
}

}  // namespace
}  // namespace moleblend::testing
