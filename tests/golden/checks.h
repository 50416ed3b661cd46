#pragma once
// A network on any device against the reference program's numbers: activations, losses, gradients and ten steps of training.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/atom_embedding/atom_embedding.h"
#include "kernels/linear/linear.h"
#include "tests/golden/golden.h"

namespace moleblend::testing {

/// An array in a device's memory.
template <class Device, class U>
class Array {
 public:
  Array(Device& device, std::size_t count)
      : device_(device), count_(count), data_(static_cast<U*>(block_.reserve(count * sizeof(U)))) {}
  U* data() const { return data_; }
  void set(const std::vector<U>& values) { device_.upload(data_, values.data(), static_cast<std::int64_t>(count_)); }
  std::vector<U> host() const {
    std::vector<U> values(count_);
    device_.download(values.data(), data_, static_cast<std::int64_t>(count_));
    return values;
  }

 private:
  Device& device_;
  std::size_t count_;
  typename Device::Block block_;
  U* data_;
};

/// `count` values of the device's memory.
template <class Device, class T, class U>
std::vector<U> fetch(Network<Device, T>& model, const U* from, std::int64_t count) {
  std::vector<U> values(static_cast<std::size_t>(count));
  model.device().download(values.data(), from, count);
  return values;
}

/// Largest |a − b| / (1 + largest |b|) of a tensor; NaN anywhere gives NaN. Relative to the tensor's own size, since
/// entries near zero carry the rounding of the large ones that they are differences of.
template <class A, class B>
double deviation(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return std::nan("");
  double largest = 0, difference = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    largest = std::max(largest, std::abs(static_cast<double>(b[k])));
    const double d = std::abs(static_cast<double>(to_float(a[k])) - static_cast<double>(b[k]));
    if (!(d <= difference)) difference = d;
    if (std::isnan(difference)) return difference;
  }
  return difference / (1 + largest);
}

/// NaN fails.
inline void expect_at_most(double value, double limit, const std::string& what) {
  if (!(value <= limit)) ADD_FAILURE() << what << ": deviation " << value << " above " << limit;
}

/// fp64 to 1e-9, tensors stored in fp32 to 1e-6. A network in float to three times what the reference's own fp32 run was seen to
/// deviate (final states 4e-6, losses 3e-7, gradients 1.2e-4 of their norm at worst), since another order of summation has a rounding of
/// its own.
struct Tolerance {
  double activation, stored_f32, loss, gradient, vanishing_gradient;
  // Of ten updates, which multiply a rounding difference: losses and norms (a factor of about ten over what one pass is allowed), parameters
  // at the end and their projections, and those of key biases, whose zero gradient's rounding Adam divides by itself.
  double training, parameters, projections, key_biases;
  // A gradient's difference is relative to its own norm, but at least to this share of the whole gradient's.
  double least_share = 0;
};
constexpr Tolerance kDouble{1e-9, 1e-6, 1e-9, 1e-7, 1e-12, 1e-8, 1e-7, 1e-6, 1e-7};
constexpr Tolerance kFloat{1.2e-5, 1.2e-5, 1e-6, 3.6e-4, 1e-6, 1e-5, 1e-5, 1e-3, 1e-3};
/// Operands of the products are rounded to 8 bits (2⁻⁹ = 2e-3 at most). About three times what was seen: activations 1.1e-2, losses 2e-3,
/// gradients 7e-2, ten updates 3.5e-2. Gradients that are sums of terms that cancel are only as exact as the terms.
constexpr Tolerance kBf16Products{3e-2, 3e-2, 6e-3, 0.2, 1e-6, 0.1, 1.2e-2, 0.12, 1e-3, 0.1};
/// Of a network on this device.
template <class T, class Device>
Tolerance tolerance_of(const Device& device) {
  if constexpr (requires { device.bf16_products(); })
    if (device.bf16_products()) return kBf16Products;
  return sizeof(T) == 8 ? kDouble : kFloat;
}

/// Compares `value` with the tensor `name` if the case has it; counts what was compared.
template <class T>
class Comparison {
 public:
  Comparison(const GoldenCase& golden, Tolerance tolerance) : golden_(golden), tolerance_(tolerance) {}
  template <class U>
  void operator()(const std::string& name, const std::vector<U>& value) {
    const auto* tensor = golden_.file.find(name);
    if (!tensor) return;
    const double limit = tensor->type == TensorType::f64 ? tolerance_.activation : tolerance_.stored_f32;
    expect_at_most(deviation(value, golden_.file.values<double>(name)), limit, golden_.name + " " + name);
    ++compared;
  }
  void loss(const std::string& name, double value) {
    const double expected = golden_.file.values<double>(name).at(0);
    expect_at_most(std::abs(value - expected) / std::abs(expected), tolerance_.loss, golden_.name + " " + name);
    ++compared;
  }
  int compared = 0;

 private:
  const GoldenCase& golden_;
  const Tolerance tolerance_;
};

/// Bias [molecule][H, n+1, n+1] as the golden data have it: [pair, H] over token pairs, or over atom pairs only.
template <class T>
std::vector<T> pairs_first(const Packed& packed, std::int64_t heads, const std::vector<T>& bias, bool tokens) {
  std::vector<T> out;
  for (std::int64_t b = 0; b < packed.molecules; ++b) {
    const std::int64_t m = packed.atoms_of(b) + 1;
    const T* block = bias.data() + heads * packed.token_pair_offset[b];
    for (std::int64_t i = tokens ? 0 : 1; i < m; ++i)
      for (std::int64_t j = tokens ? 0 : 1; j < m; ++j)
        for (std::int64_t h = 0; h < heads; ++h) out.push_back(block[(h * m + i) * m + j]);
  }
  return out;
}

/// The encodings before blending, which no training step computes all of: each relation alone on every pair.
template <class Device, class T>
void compare_encodings(const GoldenCase& golden, Network<Device, T>& model, Comparison<T>& compare) {
  const Packed packed = golden.batch.packed();
  const ParameterLayout& layout = model.layout();
  const std::int64_t H = golden.config.heads, K = golden.config.kernels, D = golden.config.width, N = packed.atoms();
  Device& device = model.device();
  DeviceBatch<Device> holder(device);
  const BatchView batch = holder.load(device, golden.batch);
  const Wide<T>* p = model.values(0).data();
  Array<Device, T> bias(device, static_cast<std::size_t>(H * packed.token_pairs())),
      sum(device, static_cast<std::size_t>(N * K)), term(device, static_cast<std::size_t>(N * D)),
      embedded(device, static_cast<std::size_t>(packed.tokens() * D));
  Array<Device, std::uint8_t> pairs(device, static_cast<std::size_t>(packed.pairs())),
      atoms(device, static_cast<std::size_t>(N));
  const auto show_pairs = [&](std::uint8_t visible) {
    pairs.set(std::vector<std::uint8_t>(static_cast<std::size_t>(packed.pairs()), visible));
  };
  const auto show_atoms = [&](std::uint8_t visible) {
    atoms.set(std::vector<std::uint8_t>(static_cast<std::size_t>(N), visible));
  };
  const bool with_distance = golden.config.with_distance;
  const auto run = [&](std::uint8_t visible) {
    show_pairs(visible);
    relation_bias_forward<T>(device, {.in = {.packed = batch.packed,
                                             .heads = H,
                                             .kernels = with_distance ? K : 0,
                                             .spd = batch.spd,
                                             .path = batch.path,
                                             .atom_codes = batch.atom_codes,
                                             .positions = model.state().positions,
                                             .pair_visible = pairs.data(),
                                             .atom_visible = atoms.data(),
                                             .tables = layout.template relation_tables<const Wide<T>>(p)},
                                      .bias = bias.data(),
                                      .gaussian_sum = with_distance ? sum.data() : nullptr});
    return pairs_first<T>(packed, H, bias.host(), false);
  };
  show_atoms(with_distance ? kShowGaussians : 0);
  compare("act.spd_bias", run(kShowSpd));
  compare("act.edge_bias", run(kShowEdge));
  if (with_distance) {
    compare("act.bias_3d", run(kShowDistance));
    linear_forward<T>(device, {N, K, D, sum.data(), model.weight(layout.gaussian_projection.weight),
                               model.weight(layout.gaussian_projection.bias), term.data()});
    compare("act.merged3d", term.host());
  }
  const auto embed = [&](std::uint8_t visible) {
    show_atoms(visible);
    atom_embedding_forward<T>(device, {.packed = batch.packed,
                                       .width = D,
                                       .atom_codes = batch.atom_codes,
                                       .degree = batch.degree,
                                       .atom_visible = atoms.data(),
                                       .atom_table = p + layout.atom_table,
                                       .in_degree_table = p + layout.in_degree_table,
                                       .out_degree_table = p + layout.out_degree_table,
                                       .graph_token = p + layout.graph_token,
                                       .gaussian_term = nullptr,
                                       .x = embedded.data()});
    return embedded.host();
  };
  const std::vector<T> plain = embed(0), with_degree = embed(kShowDegree);
  compare("act.atom_emb", plain);
  std::vector<Wide<T>> degree;
  for (std::int64_t b = 0; b < packed.molecules; ++b)
    for (std::int64_t k = (packed.token_offset(b) + 1) * D; k < (packed.token_offset(b) + 1 + packed.atoms_of(b)) * D;
         ++k)
      degree.push_back(to_float(with_degree[static_cast<std::size_t>(k)]) -
                       to_float(plain[static_cast<std::size_t>(k)]));
  compare("act.degree_emb", degree);
}

template <class Device, class T>
void compare_encoder(const GoldenCase& golden, Network<Device, T>& model, Comparison<T>& compare) {
  const Packed packed = golden.batch.packed();
  const auto& s = model.state();
  const std::int64_t D = golden.config.width, width = packed.tokens() * D, H = golden.config.heads;
  compare("act.attn_bias", pairs_first<T>(packed, H, fetch(model, s.bias, H * packed.token_pairs()), true));
  compare("act.emb_pre_ln", fetch(model, s.embedded, width));
  compare("act.emb", fetch(model, s.first, width));
  Array<Device, T> branch(model.device(), static_cast<std::size_t>(width));
  for (std::size_t l = 0; l < s.layer.size(); ++l) {
    const std::string name = "act.layer" + std::to_string(l);
    const ParameterLayout::Linear out = model.layout().layers[l].out;
    linear_forward<T>(model.device(), {packed.tokens(), D, D, s.layer[l].attended, model.weight(out.weight),
                                       model.weight(out.bias), branch.data()});
    compare(name + ".attn_out", branch.host());
    compare(name + ".post_attn_ln", fetch(model, s.layer[l].mid, width));
    compare(name, fetch(model, s.layer[l].out, width));
  }
  compare("act.final", fetch(model, s.layer.back().out, width));
}

/// Every gradient that the case has: whole tensors, norms, projections. `file` has grad., gradnorm., gradproj. …
/// entries.
template <class Device, class T>
void compare_gradients(const GoldenCase& golden, Network<Device, T>& model, const Safetensors& file) {
  // Softmax is shift invariant: the gradient of a key's bias is exactly zero in theory, rounding in practice; so
  // compare absolutely.
  const auto vanishes = [](const std::string& name) { return name.ends_with("k_proj.bias"); };
  const Tolerance tolerance = tolerance_of<T>(model.device());
  double whole = 0;
  for (const Wide<T> g : fetch(model, model.gradient().data(), model.parameter_count()))
    whole += static_cast<double>(g) * static_cast<double>(g);
  const double least = std::max(1e-6, tolerance.least_share * std::sqrt(whole));
  std::size_t compared = 0;
  for (const ParameterInfo& p : model.parameters()) {
    const auto gradient = fetch(model, model.gradient().data() + p.offset, p.count);
    const std::vector<double> ours(gradient.begin(), gradient.end());
    double norm = 0;
    for (const double g : ours) norm += g * g;
    norm = std::sqrt(norm);
    const std::string what = golden.name + " gradient of " + p.name;
    if (vanishes(p.name)) {
      expect_at_most(norm, tolerance.vanishing_gradient, what);
      ++compared;
      continue;
    }
    const auto expect_norm_of_difference = [&](const std::vector<double>& expected, double scale) {
      double difference = 0;
      for (std::size_t k = 0; k < ours.size(); ++k) difference += (ours[k] - expected[k]) * (ours[k] - expected[k]);
      expect_at_most(std::sqrt(difference) / scale, tolerance.gradient, what);
      ++compared;
    };
    const double expected_norm =
        file.find("gradnorm." + p.name) ? file.values<double>("gradnorm." + p.name).at(0) : norm;
    // Norms far below the loss's own size are sums of terms that cancel.
    const double scale = std::max(expected_norm, least);
    if (file.find("gradnorm." + p.name)) {
      expect_at_most(std::abs(norm - expected_norm) / scale, tolerance.gradient, what + " (norm)");
      ++compared;
    }
    if (file.find("grad." + p.name)) {
      expect_norm_of_difference(file.values<double>("grad." + p.name), scale);
    } else if (file.find("grad." + p.name + ".rows")) {
      const auto rows = file.values<std::int32_t>("grad." + p.name + ".rows");
      const auto values = file.values<double>("grad." + p.name + ".values");
      const auto columns = static_cast<std::size_t>(p.shape.at(1));
      std::vector<double> expected(ours.size());
      for (std::size_t r = 0; r < rows.size(); ++r)
        std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(r * columns), columns,
                    expected.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(rows[r]) * columns));
      expect_norm_of_difference(expected, scale);
    }
    if (file.find("gradproj." + p.name)) {
      // A projection on values in [-1, 1) adds up differences of all entries.
      const double expected = file.values<double>("gradproj." + p.name).at(0);
      expect_at_most(std::abs(GoldenCase::projection(p.name, ours) - expected) / scale, 2 * tolerance.gradient,
                     what + " (projection)");
      ++compared;
    }
    if (file.find("gradhead." + p.name)) {
      const auto expected = file.values<double>("gradhead." + p.name);
      std::size_t first = 0;  // of the first row that is not zero
      const auto columns = p.shape.size() > 1 ? static_cast<std::size_t>(p.shape[1]) : ours.size();
      if (p.name.ends_with("atom_encoder.weight"))
        while (first + columns < ours.size() && std::all_of(ours.begin() + static_cast<std::ptrdiff_t>(first),
                                                            ours.begin() + static_cast<std::ptrdiff_t>(first + columns),
                                                            [](double g) { return g == 0; }))
          first += columns;
      for (std::size_t k = 0; k < expected.size() && first + k < ours.size(); ++k)
        expect_at_most(std::abs(ours[first + k] - expected[k]) / scale, tolerance.gradient,
                       what + " [" + std::to_string(first + k) + "]");
    }
  }
  EXPECT_GE(compared, model.parameters().size())
      << golden.name << ": every parameter's gradient must be compared with something";
}

inline PretrainStep step_of(const GoldenCase& golden, const FixedDraws& draws, const Objective& objective) {
  return {.objective = &objective, .counts = golden.counts, .dropout = false, .gradients = true, .draws = &draws};
}

inline FixedDraws draws_of(const GoldenCase& golden) {
  return {golden.pair_visible, golden.atom_visible, golden.noise};
}

/// One forward and backward pass of a pretraining case.
template <class Device, class T>
void check_pretraining(const GoldenCase& golden, typename Device::Place place) {
  Network<Device, T> model(golden.config, place);
  golden.write_parameters(model);
  const Packed packed = golden.batch.packed();
  const auto P = static_cast<std::size_t>(packed.pairs()), N = static_cast<std::size_t>(packed.atoms());
  using Output = Array<Device, Wide<T>>;
  Output spd(model.device(), P * kSpdClasses), edge(model.device(), P * kPathHops * kEdgeClasses),
      displacement(model.device(), P * 3), denoised(model.device(), N * 3);
  model.probe = {spd.data(), edge.data(), displacement.data(), denoised.data()};
  const FixedDraws draws = draws_of(golden);
  const PretrainResult result = model.pretrain(golden.batch, step_of(golden, draws, golden.objective));

  Comparison<T> compare(golden, tolerance_of<T>(model.device()));
  compare.loss("loss.spd", result.spd);
  compare.loss("loss.edge", result.edge);
  compare.loss("loss.3d", result.distance);
  compare.loss("loss.denoise", result.denoise);
  compare.loss("loss.total", result.total);
  compare("act.spd_logits", spd.host());
  compare("act.edge_logits", edge.host());
  compare("act.pred_3d", displacement.host());
  compare("act.denoise_pred", denoised.host());
  compare_encoder(golden, model, compare);
  compare_encodings(golden, model, compare);
  EXPECT_GE(compare.compared, 6) << "losses and final states must be there";
  ASSERT_TRUE(golden.gradients) << "a case comes with its gradients";
  compare_gradients(golden, model, *golden.gradients);

  // Each loss alone.
  const std::pair<const char*, double Objective::*> parts[] = {{"spd", &Objective::spd_factor},
                                                               {"edge", &Objective::edge_factor},
                                                               {"3d", &Objective::distance_factor},
                                                               {"denoise", &Objective::denoise_factor}};
  for (const auto& [part, factor] : parts) {
    const std::string prefix = std::string("gradnorm_") + part + ".";
    const auto& tensors = golden.gradients->tensors();
    if (std::none_of(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name.starts_with(prefix); }))
      continue;
    Objective alone = golden.objective;
    alone.spd_factor = alone.edge_factor = alone.distance_factor = alone.denoise_factor = 0;
    alone.*factor = 1;
    model.zero_gradients();
    model.pretrain(golden.batch, step_of(golden, draws, alone));
    for (const ParameterInfo& p : model.parameters()) {
      if (!golden.gradients->find(prefix + p.name)) continue;
      double norm = 0;
      for (const Wide<T> g : fetch(model, model.gradient().data() + p.offset, p.count))
        norm += static_cast<double>(g) * static_cast<double>(g);
      const double expected = golden.gradients->values<double>(prefix + p.name).at(0);
      expect_at_most(std::abs(std::sqrt(norm) - expected) / std::max(expected, 1e-2),
                     tolerance_of<T>(model.device()).gradient, prefix + p.name);
    }
  }
}

/// One forward and backward pass of a fine-tuning case.
template <class Device, class T>
void check_finetuning(const GoldenCase& golden, typename Device::Place place) {
  Network<Device, T> model(golden.config, place);
  golden.write_parameters(model);
  const auto stored = golden.file.values<double>("in.labels");
  const bool classification = golden.file.find("in.weights") != nullptr && golden.file.find("in.std") == nullptr;
  std::vector<double> labels = stored;
  if (classification) {
    const auto weights = golden.file.values<double>("in.weights");
    for (std::size_t k = 0; k < labels.size(); ++k)
      if (weights[k] == 0) labels[k] = std::nan("");
  }
  const std::vector<double> mean = classification ? std::vector<double>{} : golden.file.values<double>("in.mean");
  const std::vector<double> std = classification ? std::vector<double>{} : golden.file.values<double>("in.std");
  PropertyStep step{.task = classification ? PropertyTask::classification : PropertyTask::regression,
                    .readout = Readout::sum,
                    .show_2d = true,
                    .show_3d = golden.config.with_distance,
                    .labels = labels,
                    .mean = mean,
                    .std = std,
                    .label_count = std::count_if(labels.begin(), labels.end(), [](double l) { return !std::isnan(l); }),
                    .dropout = false,
                    .gradients = true};
  Comparison<T> compare(golden, tolerance_of<T>(model.device()));
  compare.loss("loss.sum", model.property(golden.batch, step, nullptr));
  const Packed packed = golden.batch.packed();
  const std::int64_t tasks = golden.config.tasks;
  const std::vector<T> logits = fetch(model, model.state().logits, packed.tokens() * tasks);
  compare("act.token_logits", logits);

  // The reference's mean divides by the padded atom count of the batch; ours by the molecule's own. From the same
  // logits:
  std::int64_t padded = 0;
  for (std::int64_t b = 0; b < packed.molecules; ++b) padded = std::max(padded, packed.atoms_of(b));
  std::vector<double> means(static_cast<std::size_t>(packed.molecules * tasks));
  for (std::int64_t b = 0; b < packed.molecules; ++b)
    for (std::int64_t i = 1; i <= packed.atoms_of(b); ++i)
      for (std::int64_t t = 0; t < tasks; ++t)
        means[static_cast<std::size_t>(b * tasks + t)] +=
            static_cast<double>(to_float(logits[static_cast<std::size_t>((packed.token_offset(b) + i) * tasks + t)])) /
            static_cast<double>(padded);
  PropertyLossResult by_padded;
  Cpu cpu(1);
  property_loss<double>(cpu, {step.task, packed.molecules, tasks, means.data(), labels.data(), mean.data(), std.data(),
                              nullptr, 1, nullptr, &by_padded});
  compare.loss("loss.mean", by_padded.loss / static_cast<double>(step.label_count));

  step.readout = Readout::cls;
  model.zero_gradients();
  compare.loss("loss.cls", model.property(golden.batch, step, nullptr));
  compare_encoder(golden, model, compare);
  compare_encodings(golden, model, compare);
  EXPECT_GE(compare.compared, 4) << "losses and final states must be there";
  ASSERT_TRUE(golden.gradients) << "a case comes with its gradients";
  compare_gradients(golden, model, *golden.gradients);
}

/// `place`: what a network on it takes (see Network).
template <class Device, class T>
void check(const std::filesystem::path& path, typename Device::Place place) {
  const GoldenCase golden(path);
  golden.finetuning ? check_finetuning<Device, T>(golden, place) : check_pretraining<Device, T>(golden, place);
}

/// Ten updates with the reference's learning rates: losses before each, norms, and where the parameters end.
template <class Device, class T>
void check_training(const GoldenCase& golden, typename Device::Place place) {
  Network<Device, T> model(golden.config, place);
  golden.write_parameters(model);
  const Safetensors& expected = *golden.training;
  const auto lr = expected.values<double>("train.lr"), norms = expected.values<double>("train.grad_norm");
  const FixedDraws draws = draws_of(golden);
  const AdamSettings adam;
  const Tolerance tolerance = tolerance_of<T>(model.device());
  const auto expect = [&](const char* name, std::size_t step, double value) {
    const double want = expected.values<double>(name).at(step);
    expect_at_most(std::abs(value - want) / std::abs(want), tolerance.training,
                   name + (" of step " + std::to_string(step)));
  };
  for (std::size_t t = 0; t < lr.size(); ++t) {
    model.zero_gradients();
    const PretrainResult r = model.pretrain(golden.batch, step_of(golden, draws, golden.objective));
    expect("train.loss_spd", t, r.spd);
    expect("train.loss_edge", t, r.edge);
    expect("train.loss_3d", t, r.distance);
    expect("train.loss_denoise", t, r.denoise);
    expect("train.loss_total", t, r.total);
    expect("train.grad_norm", t, model.update(adam, lr[t], static_cast<std::int64_t>(t) + 1));
  }
  std::size_t compared = 0;
  for (const ParameterInfo& p : model.parameters()) {
    const auto values = fetch(model, model.values(0).data() + p.offset, p.count);
    const std::vector<double> end(values.begin(), values.end());
    std::vector<double> want;
    const std::string name = "final." + p.name;
    if (expected.find(name)) {
      want = expected.values<double>(name);
    } else if (expected.find(name + ".rows")) {
      const std::vector<float> start = golden.parameter(p);
      want.assign(start.begin(), start.end());
      const auto rows = expected.values<std::int32_t>(name + ".rows");
      const auto changed = expected.values<double>(name + ".values");
      const auto columns = static_cast<std::size_t>(p.shape.at(1));
      for (std::size_t k = 0; k < changed.size(); ++k)
        want[static_cast<std::size_t>(rows[k / columns]) * columns + k % columns] = changed[k];
    } else if (expected.find("finalproj." + p.name)) {
      expect_at_most(
          std::abs(GoldenCase::projection(p.name, end) - expected.values<double>("finalproj." + p.name).at(0)),
          p.name.ends_with("k_proj.bias") ? 10 * tolerance.key_biases : tolerance.projections,
          "final " + p.name + " (projection)");
      ++compared;
      continue;
    } else {
      continue;
    }
    const double limit = p.name.ends_with("k_proj.bias") ? tolerance.key_biases : tolerance.parameters;
    expect_at_most(deviation(end, want), limit, name);
    ++compared;
  }
  EXPECT_GT(compared, 50u) << "final parameters must be there";
}

}  // namespace moleblend::testing
