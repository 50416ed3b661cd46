#pragma once
// The definitions of network.h, included only where it is instantiated for a device.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/model/batch_too_large.h"
#include "engine/model/network.h"
#include "engine/ranks/gpu/gpu_gradient_sum.h"
#include "io/support/error.h"
#include "kernels/activation/activation.h"
#include "kernels/atom_embedding/atom_embedding.h"
#include "kernels/attention/attention.h"
#include "kernels/denoise_head/denoise_head.h"
#include "kernels/linear/linear.h"
#include "kernels/optimizer/optimizer.h"
#include "kernels/relation_bias/relation_bias.h"
#include "kernels/residual_norm/residual_norm.h"

namespace moleblend {

namespace {
constexpr std::int64_t kPairMaps = 6;                          // row and column of three heads
constexpr std::int64_t kPairColumns = kPairMaps * kPairWidth;  // 192
constexpr std::int64_t kPairFeatures = kPairWidth * kPairWidth;

/// factor / count, or 0 where there is nothing to average over.
inline double per(double factor, std::int64_t count) {
  return count > 0 ? factor / static_cast<double>(count) : 0;
}

/// Points `pointer` at the next piece of the block.
template <class U>
void take(Carver& carver, U*& pointer, std::int64_t count) {
  pointer = carver.take<U>(count);
}
}  // namespace

template <class Device, class T>
Network<Device, T>::Network(const ModelConfig& config, typename Device::Place place, bool learns)
    : config_(config), layout_(config), device_(place), batch_(device_) {
  config.check();
  const std::int64_t size = layout_.size();
  const auto lay_out = [&](Carver carver) {
    values_[0] = carver.take<W>(size);
    for (W** values : {&values_[1], &values_[2], &gradient_}) *values = learns ? carver.take<W>(size) : nullptr;
    shadow_ = std::is_same_v<T, W> ? nullptr : carver.take<T>(size);
    results_ = carver.take<Results>(1);
    return carver.bytes();
  };
  lay_out(Carver(parameters_.reserve(lay_out(Carver()))));
  for (W* values : {values_[0], values_[1], values_[2], gradient_})
    if (values) device_.zero(values, size);
  if (shadow_) device_.zero(shadow_, size);
  device_.zero(results_, 1);
  state_.layer.resize(static_cast<std::size_t>(config.layers));
}

template <class Device, class T>
void Network<Device, T>::read(int moment, std::span<float> out) const {
  read_from(values_[moment], out);
}

template <class Device, class T>
void Network<Device, T>::read_gradient(std::span<float> out) const {
  read_from(gradient_, out);
}

template <class Device, class T>
void Network<Device, T>::read_from(const W* from, std::span<float> out) const {
  if (!from) need_gradient();
  if constexpr (std::is_same_v<W, float>) {
    device_.download(out.data(), from, layout_.size());
  } else {
    std::vector<W> values(static_cast<std::size_t>(layout_.size()));
    device_.download(values.data(), from, layout_.size());
    std::transform(values.begin(), values.end(), out.begin(), [](W v) { return static_cast<float>(v); });
  }
}

template <class Device, class T>
void Network<Device, T>::write(int moment, std::span<const float> in) {
  if (moment > 0) need_gradient();
  const std::vector<W> values(in.begin(), in.begin() + layout_.size());
  device_.upload(values_[moment], values.data(), layout_.size());
  if constexpr (!std::is_same_v<T, W>) {
    std::vector<T> rounded(values.size());
    std::transform(values.begin(), values.end(), rounded.begin(), narrow<T>);
    if (moment == 0) device_.upload(shadow_, rounded.data(), layout_.size());
    device_.wait();
  }
}

template <class Device, class T>
std::string Network<Device, T>::join(Ranks& ranks) {
  if (ranks.size() == 1) return {};
  const std::span<W> gradient(gradient_, static_cast<std::size_t>(layout_.size()));
  std::string way = "between the hosts";
  if constexpr (std::is_same_v<Device, Gpu>)
    sum_ = make_gpu_gradient_sum(device_, ranks, gradient, way);
  else
    sum_ = make_gradient_sum(ranks, gradient);
  return way;
}

template <class Device, class T>
void Network<Device, T>::zero_gradients() {
  need_gradient();
  at(StepPart::zero).zero(gradient_, layout_.size());
}

template <class Device, class T>
void Network<Device, T>::carve(State& s, Carver& c, const ModelConfig& config, const Packed& packed, bool gradients) {
  const std::int64_t N = packed.atoms(), P = packed.pairs(), tokens = packed.tokens(), B = packed.molecules;
  const std::int64_t D = config.width, F = config.ffn, H = config.heads, K = config.kernels;
  take(c, s.pair_visible, P);
  take(c, s.atom_visible, N);
  take(c, s.noise, 3 * N);
  take(c, s.positions, 3 * N);
  take(c, s.bias, H * packed.token_pairs());
  take(c, s.gaussian_sum, N * K);
  take(c, s.gaussian_term, N * D);
  take(c, s.embedded, tokens * D);
  take(c, s.normalised, tokens * D);
  take(c, s.rstd, tokens);
  take(c, s.first, tokens * D);
  take(c, s.branch, tokens * D);
  for (std::size_t l = 0; l < s.layer.size(); ++l) {
    LayerState& y = s.layer[l];
    if (!gradients && l > 0) {
      // Nothing is kept for a backward pass: layers share their memory, and write `out` over the layer's input.
      y = s.layer[0];
      continue;
    }
    take(c, y.qkv, tokens * 3 * D);
    take(c, y.attended, tokens * D);
    take(c, y.normalised1, tokens * D);
    take(c, y.rstd1, tokens);
    take(c, y.mid, tokens * D);
    take(c, y.hidden, tokens * F);
    take(c, y.activated, tokens * F);
    take(c, y.normalised2, tokens * D);
    take(c, y.rstd2, tokens);
    take(c, y.out, tokens * D);
  }
  if (config.tasks > 0) {
    take(c, s.dense, tokens * D);
    take(c, s.dense_activated, tokens * D);
    take(c, s.logits, tokens * config.tasks);
    take(c, s.readout, B * std::max(D, config.tasks));
    take(c, s.labels, B * config.tasks);
    take(c, s.mean, config.tasks);
    take(c, s.std, config.tasks);
    take(c, s.positive_weight, config.tasks);
  } else {
    take(c, s.atoms, N * D);
    take(c, s.pair_raw, N * kPairColumns);
    take(c, s.pair_features, N * kPairColumns);
    take(c, s.distance_weight, 3 * kPairFeatures);
    take(c, s.distance_bias, 3);
    take(c, s.denoise_qkv, N * 3 * D);
  }
  if (!gradients) return;
  take(c, s.dx, tokens * D);
  take(c, s.dbranch, tokens * D);
  take(c, s.dwide, tokens * std::max({3 * D, F, config.tasks}));
  take(c, s.dnarrow, tokens * D);
  take(c, s.dbias, H * packed.token_pairs());
  take(c, s.dgaussian_sum, N * K);
  take(c, s.dgaussian_term, N * D);
  if (config.tasks == 0) {
    take(c, s.dpair_features, N * kPairColumns);
    take(c, s.ddistance_weight, 3 * kPairFeatures);
    take(c, s.ddistance_bias, 3);
  }
}

template <class Device, class T>
std::size_t Network<Device, T>::batch_bytes(const Packed& packed, bool gradients) const {
  State state;
  state.layer.resize(static_cast<std::size_t>(config_.layers));
  Carver count;
  carve(state, count, config_, packed, gradients);
  return count.bytes();
}

template <class Device, class T>
std::string Network<Device, T>::place() const {
  return fmt::format("{}, {}", device_.name(), device_.template precision<T>());
}

template <class Device, class T>
void Network<Device, T>::reserve(const Packed& packed, bool gradients) {
  if (gradients) need_gradient();
  const std::size_t bytes = batch_bytes(packed, gradients);
  try {
    Carver carver(memory_.reserve(bytes));
    carve(state_, carver, config_, packed, gradients);
  } catch (const GpuOutOfMemory& out) {
    // The block that was too small has been given back before the new one was asked for.
    const double share = 0.9 * static_cast<double>(out.free) / static_cast<double>(out.wanted);
    const double molecules = std::floor(share * static_cast<double>(packed.molecules)),
                 atoms = std::floor(share * static_cast<double>(packed.atoms()));
    throw BatchTooLarge(
        fmt::format("{}; a batch of {} molecules ({} atoms) needs {:.1f} GB beside the parameters, and "
                    "about {:.0f} such molecules fit",
                    out.what(), packed.molecules, packed.atoms(), 1e-9 * static_cast<double>(bytes), molecules),
        molecules, atoms);
  }
}

template <class Device, class T>
void Network<Device, T>::linear(std::int64_t rows, std::int64_t in, std::int64_t out, ParameterLayout::Linear map,
                                const T* x, T* y) {
  linear_forward<T>(
      at(StepPart::linear_forward),
      {.rows = rows, .in = in, .out = out, .x = x, .weight = weight(map.weight), .bias = weight(map.bias), .y = y});
}

template <class Device, class T>
void Network<Device, T>::linear_gradients(std::int64_t rows, std::int64_t in, std::int64_t out,
                                          ParameterLayout::Linear map, const T* x, const T* dy, T* dx, bool add_to_dx,
                                          bool with_bias) {
  linear_backward<T>(at(StepPart::linear_backward), {.rows = rows,
                                                     .in = in,
                                                     .out = out,
                                                     .x = x,
                                                     .weight = weight(map.weight),
                                                     .dy = dy,
                                                     .dx = dx,
                                                     .add_to_dx = add_to_dx,
                                                     .dweight = gradient(map.weight),
                                                     .dbias = with_bias ? gradient(map.bias) : nullptr});
}

template <class Device, class T>
RelationBiasInput<T> Network<Device, T>::relation_input(const BatchView& batch) {
  return {.packed = batch.packed,
          .heads = config_.heads,
          .kernels = config_.with_distance ? config_.kernels : 0,
          .spd = batch.spd,
          .path = batch.path,
          .atom_codes = batch.atom_codes,
          .positions = state_.positions,
          .pair_visible = state_.pair_visible,
          .atom_visible = state_.atom_visible,
          .tables = layout_.template relation_tables<const W>(values_[0])};
}

template <class Device, class T>
AttentionInput<T> Network<Device, T>::attention_input(const BatchView& batch, std::size_t l, bool dropout) {
  return {.packed = batch.packed,
          .heads = config_.heads,
          .width = config_.width,
          .qkv = state_.layer[l].qkv,
          .bias = state_.bias,
          .scale = static_cast<W>(1 / std::sqrt(static_cast<double>(config_.width / config_.heads))),
          .dropout = Dropout::of(dropout ? config_.attention_dropout : 0),
          .layer = static_cast<std::uint32_t>(l),
          .molecule_key = batch.key};
}

/// Grows linearly with depth from 0 at the first layer to its full value at the last.
template <class Device, class T>
Dropout Network<Device, T>::drop_path(std::size_t l, bool dropout) const {
  if (!dropout || config_.layers < 2) return {};
  return Dropout::of(config_.drop_path * static_cast<double>(l) / static_cast<double>(config_.layers - 1));
}

template <class Device, class T>
void Network<Device, T>::draw(const BatchView& batch, const PretrainStep& step) {
  State& s = state_;
  const Packed packed = batch.packed;
  if (step.draws) {
    device_.upload(s.pair_visible, step.draws->pair_visible.data(), packed.pairs());
    device_.upload(s.atom_visible, step.draws->atom_visible.data(), packed.atoms());
    device_.upload(s.noise, step.draws->noise.data(), 3 * packed.atoms());
  } else {
    draw_modalities(at(StepPart::draws), {.packed = packed,
                                          .molecule_key = batch.key,
                                          .has_positions = batch.has_positions,
                                          .blend = step.objective->blend,
                                          .pair_visible = s.pair_visible,
                                          .atom_visible = s.atom_visible});
    draw_noise(at(StepPart::draws), {.packed = packed,
                                     .molecule_key = batch.key,
                                     .has_positions = batch.has_positions,
                                     .position_known = batch.position_known,
                                     .scale = static_cast<float>(step.objective->noise_scale),
                                     .noise = s.noise});
  }
  add_noise<W>(at(StepPart::draws), 3 * packed.atoms(), batch.positions, s.noise, s.positions);
}

template <class Device, class T>
void Network<Device, T>::encode(const BatchView& batch, bool dropout) {
  State& s = state_;
  const Packed packed = batch.packed;
  const std::int64_t D = config_.width, F = config_.ffn, tokens = packed.tokens();
  relation_bias_forward<T>(
      at(StepPart::relation_bias_forward),
      {.in = relation_input(batch), .bias = s.bias, .gaussian_sum = config_.with_distance ? s.gaussian_sum : nullptr});
  if (config_.with_distance)
    linear(packed.atoms(), config_.kernels, D, layout_.gaussian_projection, s.gaussian_sum, s.gaussian_term);
  atom_embedding_forward<T>(at(StepPart::atom_embedding_forward),
                            {.packed = packed,
                             .width = D,
                             .atom_codes = batch.atom_codes,
                             .degree = batch.degree,
                             .atom_visible = s.atom_visible,
                             .atom_table = parameter(layout_.atom_table),
                             .in_degree_table = parameter(layout_.in_degree_table),
                             .out_degree_table = parameter(layout_.out_degree_table),
                             .graph_token = parameter(layout_.graph_token),
                             .gaussian_term = config_.with_distance ? s.gaussian_term : nullptr,
                             .x = s.embedded});
  const auto norm = [&](const T* x, const T* branch, ParameterLayout::Linear map, std::size_t l, std::uint32_t which,
                        T* y, T* normalised, W* rstd) {
    residual_norm_forward<T>(at(StepPart::residual_norm_forward),
                             {.packed = packed,
                              .width = D,
                              .x = x,
                              .branch = branch,
                              .weight = parameter(map.weight),
                              .bias = parameter(map.bias),
                              .hidden_dropout = Dropout::of(branch && dropout ? config_.hidden_dropout : 0),
                              .drop_path = branch ? drop_path(l, dropout) : Dropout{},
                              .layer = static_cast<std::uint32_t>(2 * l) + which,
                              .molecule_key = batch.key,
                              .y = y,
                              .normalised = normalised,
                              .rstd = rstd});
  };
  norm(s.embedded, nullptr, layout_.embedding_norm, 0, 0, s.first, s.normalised, s.rstd);

  const T* x = s.first;
  for (std::size_t l = 0; l < s.layer.size(); ++l) {
    LayerState& y = s.layer[l];
    const ParameterLayout::Layer& p = layout_.layers[l];
    linear(tokens, D, 3 * D, p.qkv, x, y.qkv);
    attention_forward<T>(at(StepPart::attention_forward),
                         {.in = attention_input(batch, l, dropout), .out = y.attended});
    linear(tokens, D, D, p.out, y.attended, s.branch);
    norm(x, s.branch, p.attention_norm, l, 0, y.mid, y.normalised1, y.rstd1);
    linear(tokens, D, F, p.fc1, y.mid, y.hidden);
    gelu_forward<T>(at(StepPart::gelu_forward), {.packed = packed,
                                                 .rows = tokens,
                                                 .features = F,
                                                 .x = y.hidden,
                                                 .dropout = Dropout::of(dropout ? config_.activation_dropout : 0),
                                                 .layer = static_cast<std::uint32_t>(l),
                                                 .molecule_key = batch.key,
                                                 .y = y.activated});
    linear(tokens, F, D, p.fc2, y.activated, s.branch);
    norm(y.mid, s.branch, p.final_norm, l, 1, y.out, y.normalised2, y.rstd2);
    x = y.out;
  }
}

template <class Device, class T>
void Network<Device, T>::encode_backward(const BatchView& batch, bool dropout, bool last) {
  State& s = state_;
  const Packed packed = batch.packed;
  const std::int64_t D = config_.width, F = config_.ffn, tokens = packed.tokens();
  // Of a map whose dy LayerNorm or gelu makes, the bias' gradient comes from there if not on the way of the product.
  constexpr bool on_the_way = kBiasGradientOnTheWay<Device>;
  const auto sum_for = [&](ParameterLayout::Linear map) { return on_the_way ? nullptr : gradient(map.bias); };
  const auto norm_gradients = [&](ParameterLayout::Linear map, const T* normalised, const W* rstd, std::size_t l,
                                  std::uint32_t which, T* dbranch, W* dbranch_sum) {
    residual_norm_backward<T>(at(StepPart::residual_norm_backward),
                              {.packed = packed,
                               .width = D,
                               .dy = s.dx,
                               .normalised = normalised,
                               .rstd = rstd,
                               .weight = parameter(map.weight),
                               .hidden_dropout = Dropout::of(dbranch && dropout ? config_.hidden_dropout : 0),
                               .drop_path = dbranch ? drop_path(l, dropout) : Dropout{},
                               .layer = static_cast<std::uint32_t>(2 * l) + which,
                               .molecule_key = batch.key,
                               .dx = s.dx,
                               .dbranch = dbranch,
                               .dweight = gradient(map.weight),
                               .dbias = gradient(map.bias),
                               .dbranch_sum = dbranch_sum});
  };
  // s.dx holds the gradient of the residual stream throughout: LayerNorm's backward replaces it in place, and each
  // branch adds its own.
  for (std::size_t l = s.layer.size(); l-- > 0;) {
    const LayerState& y = s.layer[l];
    const ParameterLayout::Layer& p = layout_.layers[l];
    norm_gradients(p.final_norm, y.normalised2, y.rstd2, l, 1, s.dbranch, sum_for(p.fc2));
    linear_gradients(tokens, F, D, p.fc2, y.activated, s.dbranch, s.dwide, false, on_the_way);
    gelu_backward<T>(at(StepPart::gelu_backward), {.packed = packed,
                                                   .rows = tokens,
                                                   .features = F,
                                                   .x = y.hidden,
                                                   .dropout = Dropout::of(dropout ? config_.activation_dropout : 0),
                                                   .layer = static_cast<std::uint32_t>(l),
                                                   .molecule_key = batch.key,
                                                   .dy = s.dwide,
                                                   .dx = s.dwide,
                                                   .dx_sum = sum_for(p.fc1)});
    linear_gradients(tokens, D, F, p.fc1, y.mid, s.dwide, s.dx, true, on_the_way);
    norm_gradients(p.attention_norm, y.normalised1, y.rstd1, l, 0, s.dbranch, sum_for(p.out));
    linear_gradients(tokens, D, D, p.out, y.attended, s.dbranch, s.dnarrow, false, on_the_way);
    attention_backward<T>(
        at(StepPart::attention_backward),
        {.in = attention_input(batch, l, dropout), .dout = s.dnarrow, .dqkv = s.dwide, .dbias = s.dbias});
    linear_gradients(tokens, D, 3 * D, p.qkv, l == 0 ? s.first : s.layer[l - 1].out, s.dwide, s.dx, true);
    // Parameters lie in the order of the forward pass: heads, whose gradients are final by now, after the layers.
    if (last && sum_) sum_->ready(p.qkv.weight);
  }
  norm_gradients(layout_.embedding_norm, s.normalised, s.rstd, 0, 0, nullptr, nullptr);
  atom_embedding_backward<T>(at(StepPart::atom_embedding_backward),
                             {.packed = packed,
                              .width = D,
                              .atom_codes = batch.atom_codes,
                              .degree = batch.degree,
                              .atom_visible = s.atom_visible,
                              .dx = s.dx,
                              .datom_table = gradient(layout_.atom_table),
                              .din_degree_table = gradient(layout_.in_degree_table),
                              .dout_degree_table = gradient(layout_.out_degree_table),
                              .dgraph_token = gradient(layout_.graph_token),
                              .dgaussian_term = config_.with_distance ? s.dgaussian_term : nullptr});
  if (config_.with_distance)
    linear_gradients(packed.atoms(), config_.kernels, D, layout_.gaussian_projection, s.gaussian_sum, s.dgaussian_term,
                     s.dgaussian_sum, false);
  relation_bias_backward<T>(at(StepPart::relation_bias_backward),
                            {.in = relation_input(batch),
                             .dbias = s.dbias,
                             .dgaussian_sum = config_.with_distance ? s.dgaussian_sum : nullptr,
                             .gradients = layout_.relation_tables(gradient_)});
}

template <class Device, class T>
bool Network<Device, T>::heads(const BatchView& batch, const PretrainStep& step) {
  State& s = state_;
  const Packed packed = batch.packed;
  const std::int64_t D = config_.width, N = packed.atoms();
  const Objective& objective = *step.objective;
  const bool backward = step.gradients;
  const T* last = s.layer.back().out;
  gather_atoms<T>(at(StepPart::atom_embedding_forward), packed, D, last, s.atoms);

  linear(N, D, kPairColumns, layout_.pair_maps, s.atoms, s.pair_raw);
  pair_map_forward<T>(at(StepPart::pair_maps), {.rows = N,
                                                .maps = kPairMaps,
                                                .x = s.pair_raw,
                                                .weight = parameter(layout_.pair_norm.weight),
                                                .bias = parameter(layout_.pair_norm.bias),
                                                .y = s.pair_features});
  // Head `k` (SPD, edge, 3D) reads its row map in block 2 k and its column map in block 2 k + 1.
  const auto bilinear = [&](std::int64_t k, std::int64_t outputs, const T* map, const W* bias, W* dmap, W* dbias) {
    return Bilinear<T>{.outputs = outputs,
                       .weight = map,
                       .bias = bias,
                       .features = s.pair_features,
                       .stride = kPairColumns,
                       .row_column = 2 * k * kPairWidth,
                       .column_column = (2 * k + 1) * kPairWidth,
                       .dfeatures = backward ? s.dpair_features : nullptr,
                       .dweight = backward ? dmap : nullptr,
                       .dbias = backward ? dbias : nullptr};
  };
  const auto own_bilinear = [&](std::int64_t k, std::int64_t outputs, ParameterLayout::Linear map) {
    return bilinear(k, outputs, weight(map.weight), parameter(map.bias), gradient(map.weight), gradient(map.bias));
  };
  spd_loss<T>(at(StepPart::spd_loss), {.packed = packed,
                                       .head = own_bilinear(0, kSpdClasses, layout_.spd_head),
                                       .spd = batch.spd,
                                       .scale = per(objective.spd_factor, step.counts.spd_pairs),
                                       .logits = probe.spd_logits,
                                       .result = &results_->spd});
  edge_loss<T>(at(StepPart::edge_loss), {.packed = packed,
                                         .head = own_bilinear(1, kPathHops * kEdgeClasses, layout_.edge_head),
                                         .path = batch.path,
                                         .scale = per(objective.edge_factor, step.counts.edge_hops),
                                         .logits = probe.edge_logits,
                                         .result = &results_->edge});

  const std::int64_t outputs = config_.target == DistanceTarget::displacement ? 3 : 1;
  const FactorisedMap<T> factors{.inputs = kPairFeatures,
                                 .hidden = config_.distance_hidden,
                                 .outputs = outputs,
                                 .inner = parameter(layout_.distance_inner.weight),
                                 .inner_bias = parameter(layout_.distance_inner.bias),
                                 .outer = parameter(layout_.distance_outer.weight),
                                 .outer_bias = parameter(layout_.distance_outer.bias)};
  multiply_out<T>(at(StepPart::distance_loss), factors, s.distance_weight, s.distance_bias);
  if (backward) {
    device_.zero(s.ddistance_weight, outputs * kPairFeatures);
    device_.zero(s.ddistance_bias, outputs);
  }
  distance_loss<T>(
      at(StepPart::distance_loss),
      {.packed = packed,
       .head = bilinear(2, outputs, s.distance_weight, s.distance_bias, s.ddistance_weight, s.ddistance_bias),
       .target = config_.target,
       .positions = batch.positions,
       .has_positions = batch.has_positions,
       .position_known = batch.position_known,
       .scale = per(objective.distance_factor, step.counts.distance_molecules),
       .predictions = probe.distance_predictions,
       .result = &results_->distance});

  // Nothing to denoise (2D molecules only), or nothing asked of it: the head costs four products, so it is left out.
  const bool denoises = step.counts.denoise_atoms > 0 && (!backward || objective.denoise_factor > 0);
  if (denoises) {
    linear(N, D, 3 * D, layout_.denoise_qkv, s.atoms, s.denoise_qkv);
    denoise_head<T>(
        at(StepPart::denoise_head),
        {.packed = packed,
         .heads = config_.heads,
         .width = D,
         .qkv = s.denoise_qkv,
         .bias = s.bias,
         .scale = static_cast<W>(1 / std::sqrt(static_cast<double>(D / config_.heads))),
         .dropout = Dropout::of(step.dropout ? 0.1 : 0),  // fixed in the method, whatever the other settings
         .molecule_key = batch.key,
         .positions = s.positions,
         .noise = s.noise,
         .has_positions = batch.has_positions,
         .position_known = batch.position_known,
         .atom_visible = s.atom_visible,
         .force_weight = parameter(layout_.force.weight),
         .force_bias = parameter(layout_.force.bias),
         .loss_scale = per(objective.denoise_factor, step.counts.denoise_atoms),
         .prediction = probe.denoise_prediction,
         .dqkv = backward ? s.dwide : nullptr,
         .dbias = backward ? s.dbias : nullptr,
         .dforce_weight = backward ? gradient(layout_.force.weight) : nullptr,
         .dforce_bias = backward ? gradient(layout_.force.bias) : nullptr,
         .result = &results_->denoise});
  }
  if (!backward) return denoises;

  multiply_out_backward<T>(at(StepPart::distance_loss), factors, s.ddistance_weight, s.ddistance_bias,
                           {.inner = gradient(layout_.distance_inner.weight),
                            .inner_bias = gradient(layout_.distance_inner.bias),
                            .outer = gradient(layout_.distance_outer.weight),
                            .outer_bias = gradient(layout_.distance_outer.bias)});
  // dnarrow collects the gradient of the last layer's atoms.
  if (denoises) linear_gradients(N, D, 3 * D, layout_.denoise_qkv, s.atoms, s.dwide, s.dnarrow, false);
  pair_map_backward<T>(at(StepPart::pair_maps), {.rows = N,
                                                 .maps = kPairMaps,
                                                 .x = s.pair_raw,
                                                 .weight = parameter(layout_.pair_norm.weight),
                                                 .dy = s.dpair_features,
                                                 .dx = s.dpair_features,
                                                 .dweight = gradient(layout_.pair_norm.weight),
                                                 .dbias = gradient(layout_.pair_norm.bias)});
  linear_gradients(N, D, kPairColumns, layout_.pair_maps, s.atoms, s.dpair_features, s.dnarrow, denoises);
  scatter_atoms<T>(at(StepPart::atom_embedding_backward), packed, D, s.dnarrow, s.dx);
  return denoises;
}

template <class Device, class T>
PretrainResult Network<Device, T>::pretrain(const Batch& host_batch, const PretrainStep& step) {
  if (config_.tasks > 0)
    throw Error("a property model has no pretraining heads; use the pretrained checkpoint it came from");
  const Packed packed = host_batch.packed();
  reserve(packed, step.gradients);
  const BatchView batch = batch_.load(device_, host_batch);
  draw(batch, step);
  encode(batch, step.dropout);
  if (step.gradients) at(StepPart::zero).zero(state_.dbias, config_.heads * packed.token_pairs());
  const bool denoises = heads(batch, step);
  if (step.gradients) encode_backward(batch, step.dropout, step.last);
  // All is queued: the next batch can be on its way while the device works.
  at(StepPart::other);
  if (step.upcoming) {
    if (const Batch* next = step.upcoming()) batch_.stage(*next);
  }
  return collect(step, denoises);
}

template <class Device, class T>
PretrainResult Network<Device, T>::collect(const PretrainStep& step, bool denoises) {
  Results found;
  device_.download(&found, results_, 1);
  if (!denoises) found.denoise = {};
  const Objective& objective = *step.objective;
  PretrainResult r;
  r.spd_detail = found.spd;
  r.edge_detail = found.edge;
  r.distance_detail = found.distance;
  r.denoise_atoms = found.denoise.count;
  r.denoise_cosine = static_cast<double>(found.denoise.count) - found.denoise.loss;
  r.spd = per(found.spd.loss, step.counts.spd_pairs);
  r.edge = per(found.edge.loss, step.counts.edge_hops);
  r.distance = per(found.distance.loss, step.counts.distance_molecules);
  r.denoise = per(found.denoise.loss, step.counts.denoise_atoms);
  r.total = objective.spd_factor * r.spd + objective.edge_factor * r.edge + objective.distance_factor * r.distance +
            objective.denoise_factor * r.denoise;
  return r;
}

template <class Device, class T>
void Network<Device, T>::show(const BatchView& batch, bool graph, bool distance) {
  show_relations(at(StepPart::draws), {.packed = batch.packed,
                                       .has_positions = batch.has_positions,
                                       .graph = graph,
                                       .distance = distance && config_.with_distance,
                                       .pair_visible = state_.pair_visible,
                                       .atom_visible = state_.atom_visible});
  add_noise<W>(at(StepPart::draws), 3 * batch.packed.atoms(), batch.positions, nullptr, state_.positions);
}

template <class Device, class T>
double Network<Device, T>::property(const Batch& host_batch, const PropertyStep& step,
                                    std::vector<double>* predictions) {
  if (config_.tasks == 0) throw Error("a pretraining model has no property head; fine-tune it first");
  State& s = state_;
  reserve(host_batch.packed(), step.gradients);
  const BatchView batch = batch_.load(device_, host_batch);
  const Packed packed = batch.packed;
  const std::int64_t D = config_.width, B = packed.molecules, tasks = config_.tasks;
  show(batch, step.show_2d, step.show_3d);
  encode(batch, step.dropout);

  // cls reads one token a molecule, so the head runs on those; mean and sum read the head's output on every atom.
  const bool cls = step.readout == Readout::cls;
  const T* last = s.layer.back().out;
  const std::int64_t rows = cls ? B : packed.tokens();
  if (cls) readout_forward<T>(at(StepPart::property_head), packed, step.readout, D, last, s.readout);
  const T* x = cls ? s.readout : last;
  linear(rows, D, D, layout_.property_dense, x, s.dense);
  const GeluForward<T> gelu{.packed = packed,
                            .rows = rows,
                            .features = D,
                            .x = s.dense,
                            .dropout = {},
                            .layer = 0,
                            .molecule_key = nullptr,
                            .y = s.dense_activated};
  gelu_forward<T>(at(StepPart::gelu_forward), gelu);
  linear(rows, D, tasks, layout_.property_out, s.dense_activated, s.logits);
  T* logits = s.logits;
  if (!cls) {
    readout_forward<T>(at(StepPart::property_head), packed, step.readout, tasks, s.logits, s.readout);
    logits = s.readout;
  }
  if (predictions) {
    std::vector<T> raw(static_cast<std::size_t>(B * tasks));
    device_.download(raw.data(), logits, B * tasks);
    predictions->resize(raw.size());
    for (std::size_t k = 0; k < raw.size(); ++k) {
      const std::size_t task = k % static_cast<std::size_t>(tasks);
      const auto value = static_cast<double>(to_float(raw[k]));
      (*predictions)[k] = step.task == PropertyTask::regression && !step.mean.empty()
                              ? value * step.std[task] + step.mean[task]
                              : value;
    }
  }
  if (step.labels.empty()) return 0;

  const double scale = per(1, step.label_count);
  device_.upload(s.labels, step.labels.data(), B * tasks);
  if (step.task == PropertyTask::regression) {
    device_.upload(s.mean, step.mean.data(), tasks);
    device_.upload(s.std, step.std.data(), tasks);
  } else if (!step.positive_weight.empty()) {
    device_.upload(s.positive_weight, step.positive_weight.data(), tasks);
  }
  // The gradient of the logits: for cls it is the head's own; else it is spread over the atoms by the read-out.
  T* dlogits = step.gradients ? (cls ? s.dwide : s.dnarrow) : nullptr;
  property_loss<T>(at(StepPart::property_head),
                   {.task = step.task,
                    .molecules = B,
                    .tasks = tasks,
                    .logits = logits,
                    .labels = s.labels,
                    .mean = s.mean,
                    .std = s.std,
                    .positive_weight = step.positive_weight.empty() ? nullptr : s.positive_weight,
                    .scale = scale,
                    .dlogits = dlogits,
                    .result = &results_->property});
  if (step.gradients) {
    if (!cls) readout_backward<T>(at(StepPart::property_head), packed, step.readout, tasks, dlogits, s.dwide);
    linear_gradients(rows, D, tasks, layout_.property_out, s.dense_activated, s.dwide, s.dbranch, false);
    gelu_backward<T>(at(StepPart::gelu_backward), {.packed = packed,
                                                   .rows = rows,
                                                   .features = D,
                                                   .x = s.dense,
                                                   .dropout = {},
                                                   .layer = 0,
                                                   .molecule_key = nullptr,
                                                   .dy = s.dbranch,
                                                   .dx = s.dbranch});
    T* dx = cls ? s.dnarrow : s.dx;
    linear_gradients(rows, D, D, layout_.property_dense, x, s.dbranch, step.freeze_encoder ? nullptr : dx, false);
    if (!step.freeze_encoder) {
      if (cls) readout_backward<T>(at(StepPart::property_head), packed, step.readout, D, dx, s.dx);
      device_.zero(s.dbias, config_.heads * packed.token_pairs());
      encode_backward(batch, step.dropout, step.last);
    }
  }
  Results found;
  device_.download(&found, results_, 1);
  return found.property.loss * scale;
}

template <class Device, class T>
void Network<Device, T>::encode(const Batch& host_batch, const EncodeStep& step, std::vector<float>& rows) {
  State& s = state_;
  reserve(host_batch.packed(), false);
  const BatchView batch = batch_.load(device_, host_batch);
  const Packed packed = batch.packed;
  show(batch, step.show_2d, step.show_3d);
  encode(batch, false);

  const T* last = s.layer.back().out;
  T* wanted = s.branch;  // free after the last layer, and as large as all tokens
  if (step.readout)
    readout_forward<T>(at(StepPart::property_head), packed, *step.readout, config_.width, last, wanted);
  else
    gather_atoms<T>(at(StepPart::property_head), packed, config_.width, last, wanted);
  const std::int64_t count = (step.readout ? packed.molecules : packed.atoms()) * config_.width;
  rows.resize(static_cast<std::size_t>(count));
  if constexpr (std::is_same_v<T, float>) {
    device_.download(rows.data(), wanted, count);
  } else {
    std::vector<T> values(rows.size());
    device_.download(values.data(), wanted, count);
    std::transform(values.begin(), values.end(), rows.begin(), [](T v) { return static_cast<float>(to_float(v)); });
  }
}

template <class Device, class T>
void Network<Device, T>::sum_gradients() {
  if (!sum_) return;
  at(StepPart::gradient_sum);
  sum_->finish();
}

template <class Device, class T>
double Network<Device, T>::gradient_norm() {
  need_gradient();
  global_norm<W>(at(StepPart::update), layout_.size(), gradient_, &results_->norm);
  double norm;
  device_.download(&norm, &results_->norm, 1);
  return norm;
}

template <class Device, class T>
double Network<Device, T>::update(const AdamSettings& settings, double learning_rate, std::int64_t step) {
  need_gradient();
  global_norm<W>(at(StepPart::update), layout_.size(), gradient_, &results_->norm);
  bf16* shadow = nullptr;
  if constexpr (std::is_same_v<T, bf16>) shadow = shadow_;
  const RateRange whole{0, layout_.size(), 1};
  for (const RateRange& range : settings.ranges.empty() ? std::span(&whole, 1) : std::span(settings.ranges)) {
    adam<W>(at(StepPart::update), {.count = range.end - range.begin,
                                   .parameter = values_[0] + range.begin,
                                   .gradient = gradient_ + range.begin,
                                   .m = values_[1] + range.begin,
                                   .v = values_[2] + range.begin,
                                   .shadow = shadow ? shadow + range.begin : nullptr,
                                   .norm = &results_->norm,
                                   .clip_norm = settings.clip_norm,
                                   .learning_rate = range.factor * learning_rate,
                                   .beta1 = settings.beta1,
                                   .beta2 = settings.beta2,
                                   .epsilon = settings.epsilon,
                                   .weight_decay = settings.weight_decay,
                                   .step = step});
  }
  at(StepPart::other);
  double norm;
  device_.download(&norm, &results_->norm, 1);
  return norm;
}

template <class Device, class T>
void Network<Device, T>::watch() {
  marks_.emplace(device_);
  at(StepPart::other);
}

template <class Device, class T>
std::vector<PartTime> Network<Device, T>::part_times() {
  std::array<double, kStepPartNames.size()> seconds{};
  if (marks_) marks_->collect(seconds);
  std::vector<PartTime> times;
  for (std::size_t part = 0; part < seconds.size(); ++part) times.push_back({kStepPartNames[part], seconds[part]});
  return times;
}

}  // namespace moleblend
