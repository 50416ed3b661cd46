#include "engine/model/cpu_model.h"

#include <algorithm>
#include <cmath>

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

/// Points `pointer` at the next piece of the block.
template <class U>
void take(Carver& carver, U*& pointer, std::int64_t count) {
  pointer = carver.take<U>(count);
}
}  // namespace

template <class T>
CpuModel<T>::CpuModel(const ModelConfig& config, int threads) : config_(config), layout_(config), cpu_(threads) {
  config.check();
  for (auto& buffer : buffers_) buffer.assign(static_cast<std::size_t>(layout_.size()), T(0));
  gradient_.assign(static_cast<std::size_t>(layout_.size()), T(0));
  state_.layer.resize(static_cast<std::size_t>(config.layers));
}

template <class T>
void CpuModel<T>::read(int moment, std::span<float> out) const {
  const auto& from = buffers_[static_cast<std::size_t>(moment)];
  std::transform(from.begin(), from.end(), out.begin(), [](T v) { return static_cast<float>(v); });
}

template <class T>
void CpuModel<T>::write(int moment, std::span<const float> in) {
  auto& to = buffers_[static_cast<std::size_t>(moment)];
  std::transform(in.begin(), in.begin() + layout_.size(), to.begin(), [](float v) { return static_cast<T>(v); });
}

template <class T>
void CpuModel<T>::read_gradient(std::span<float> out) const {
  std::transform(gradient_.begin(), gradient_.end(), out.begin(), [](T v) { return static_cast<float>(v); });
}

template <class T>
void CpuModel<T>::zero_gradients() {
  cpu_.parallel([&](int t) {
    const Range part = even_part(layout_.size(), cpu_.threads(), t, 16);
    std::fill(gradient_.begin() + part.begin, gradient_.begin() + part.end, T(0));
  });
}

template <class T>
void CpuModel<T>::carve(Carver& c, const Packed& packed, bool gradients) {
  const std::int64_t N = packed.atoms(), P = packed.pairs(), tokens = packed.tokens(), B = packed.molecules;
  const std::int64_t D = config_.width, F = config_.ffn, H = config_.heads, K = config_.kernels;
  State& s = state_;
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
  if (config_.tasks > 0) {
    take(c, s.dense, tokens * D);
    take(c, s.dense_activated, tokens * D);
    take(c, s.logits, tokens * config_.tasks);
    take(c, s.readout, B * std::max(D, config_.tasks));
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
  take(c, s.dwide, tokens * std::max({3 * D, F, config_.tasks}));
  take(c, s.dnarrow, tokens * D);
  take(c, s.dbias, H * packed.token_pairs());
  take(c, s.dgaussian_sum, N * K);
  take(c, s.dgaussian_term, N * D);
  if (config_.tasks == 0) {
    take(c, s.dpair_features, N * kPairColumns);
    take(c, s.ddistance_weight, 3 * kPairFeatures);
    take(c, s.ddistance_bias, 3);
  }
}

template <class T>
void CpuModel<T>::reserve(const Packed& packed, bool gradients) {
  Carver count;
  carve(count, packed, gradients);
  Carver carver(memory_.reserve(count.bytes()));
  carve(carver, packed, gradients);
}

template <class T>
void CpuModel<T>::linear(std::int64_t rows, std::int64_t in, std::int64_t out, ParameterLayout::Linear map, const T* x,
                         T* y) {
  linear_forward<T>(cpu_, {.rows = rows,
                           .in = in,
                           .out = out,
                           .x = x,
                           .weight = parameter(map.weight),
                           .bias = parameter(map.bias),
                           .y = y});
}

template <class T>
void CpuModel<T>::linear_gradients(std::int64_t rows, std::int64_t in, std::int64_t out, ParameterLayout::Linear map,
                                   const T* x, const T* dy, T* dx, bool add_to_dx) {
  linear_backward<T>(cpu_, {.rows = rows,
                            .in = in,
                            .out = out,
                            .x = x,
                            .weight = parameter(map.weight),
                            .dy = dy,
                            .dx = dx,
                            .add_to_dx = add_to_dx,
                            .dweight = gradient(map.weight),
                            .dbias = gradient(map.bias)});
}

template <class T>
RelationBiasInput<T> CpuModel<T>::relation_input(const Batch& batch) {
  return {.packed = batch.packed(),
          .heads = config_.heads,
          .kernels = config_.with_distance ? config_.kernels : 0,
          .spd = batch.spd.data(),
          .path = batch.path.data(),
          .atom_codes = batch.atom_codes.data(),
          .positions = state_.positions,
          .pair_visible = state_.pair_visible,
          .atom_visible = state_.atom_visible,
          .tables = layout_.relation_tables<const T>(buffers_[0].data())};
}

template <class T>
AttentionInput<T> CpuModel<T>::attention_input(const Batch& batch, std::size_t l, bool dropout) {
  return {.packed = batch.packed(),
          .heads = config_.heads,
          .width = config_.width,
          .qkv = state_.layer[l].qkv,
          .bias = state_.bias,
          .scale = static_cast<T>(1 / std::sqrt(static_cast<double>(config_.width / config_.heads))),
          .dropout = Dropout::of(dropout ? config_.attention_dropout : 0),
          .layer = static_cast<std::uint32_t>(l),
          .molecule_key = batch.key.data()};
}

/// Grows linearly with depth from 0 at the first layer to its full value at the last.
template <class T>
Dropout CpuModel<T>::drop_path(std::size_t l, bool dropout) const {
  if (!dropout || config_.layers < 2) return {};
  return Dropout::of(config_.drop_path * static_cast<double>(l) / static_cast<double>(config_.layers - 1));
}

template <class T>
void CpuModel<T>::draw(const Batch& batch, const PretrainStep& step) {
  State& s = state_;
  const Packed packed = batch.packed();
  if (step.draws) {
    std::copy(step.draws->pair_visible.begin(), step.draws->pair_visible.end(), s.pair_visible);
    std::copy(step.draws->atom_visible.begin(), step.draws->atom_visible.end(), s.atom_visible);
    std::copy(step.draws->noise.begin(), step.draws->noise.end(), s.noise);
  } else {
    draw_modalities(cpu_, {.packed = packed,
                           .molecule_key = batch.key.data(),
                           .has_positions = batch.has_positions.data(),
                           .blend = step.objective->blend,
                           .pair_visible = s.pair_visible,
                           .atom_visible = s.atom_visible});
    draw_noise(cpu_, {.packed = packed,
                      .molecule_key = batch.key.data(),
                      .has_positions = batch.has_positions.data(),
                      .position_known = batch.position_known.data(),
                      .scale = static_cast<float>(step.objective->noise_scale),
                      .noise = s.noise});
  }
  for (std::int64_t k = 0; k < 3 * packed.atoms(); ++k)
    s.positions[k] = static_cast<T>(batch.positions[static_cast<std::size_t>(k)]) + static_cast<T>(s.noise[k]);
}

template <class T>
void CpuModel<T>::encode(const Batch& batch, bool dropout) {
  State& s = state_;
  const Packed packed = batch.packed();
  const std::int64_t D = config_.width, F = config_.ffn, tokens = packed.tokens();
  relation_bias_forward<T>(
      cpu_,
      {.in = relation_input(batch), .bias = s.bias, .gaussian_sum = config_.with_distance ? s.gaussian_sum : nullptr});
  if (config_.with_distance)
    linear(packed.atoms(), config_.kernels, D, layout_.gaussian_projection, s.gaussian_sum, s.gaussian_term);
  atom_embedding_forward<T>(cpu_, {.packed = packed,
                                   .width = D,
                                   .atom_codes = batch.atom_codes.data(),
                                   .degree = batch.degree.data(),
                                   .atom_visible = s.atom_visible,
                                   .atom_table = parameter(layout_.atom_table),
                                   .in_degree_table = parameter(layout_.in_degree_table),
                                   .out_degree_table = parameter(layout_.out_degree_table),
                                   .graph_token = parameter(layout_.graph_token),
                                   .gaussian_term = config_.with_distance ? s.gaussian_term : nullptr,
                                   .x = s.embedded});
  const auto norm = [&](const T* x, const T* branch, ParameterLayout::Linear map, std::size_t l, std::uint32_t which,
                        T* y, T* normalised, T* rstd) {
    residual_norm_forward<T>(cpu_, {.packed = packed,
                                    .width = D,
                                    .x = x,
                                    .branch = branch,
                                    .weight = parameter(map.weight),
                                    .bias = parameter(map.bias),
                                    .hidden_dropout = Dropout::of(branch && dropout ? config_.hidden_dropout : 0),
                                    .drop_path = branch ? drop_path(l, dropout) : Dropout{},
                                    .layer = static_cast<std::uint32_t>(2 * l) + which,
                                    .molecule_key = batch.key.data(),
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
    attention_forward<T>(cpu_, {.in = attention_input(batch, l, dropout), .out = y.attended});
    linear(tokens, D, D, p.out, y.attended, s.branch);
    norm(x, s.branch, p.attention_norm, l, 0, y.mid, y.normalised1, y.rstd1);
    linear(tokens, D, F, p.fc1, y.mid, y.hidden);
    gelu_forward<T>(cpu_, {.packed = packed,
                           .rows = tokens,
                           .features = F,
                           .x = y.hidden,
                           .dropout = Dropout::of(dropout ? config_.activation_dropout : 0),
                           .layer = static_cast<std::uint32_t>(l),
                           .molecule_key = batch.key.data(),
                           .y = y.activated});
    linear(tokens, F, D, p.fc2, y.activated, s.branch);
    norm(y.mid, s.branch, p.final_norm, l, 1, y.out, y.normalised2, y.rstd2);
    x = y.out;
  }
}

template <class T>
void CpuModel<T>::encode_backward(const Batch& batch, bool dropout) {
  State& s = state_;
  const Packed packed = batch.packed();
  const std::int64_t D = config_.width, F = config_.ffn, tokens = packed.tokens();
  const auto norm_gradients = [&](ParameterLayout::Linear map, const T* normalised, const T* rstd, std::size_t l,
                                  std::uint32_t which, T* dbranch) {
    residual_norm_backward<T>(cpu_, {.packed = packed,
                                     .width = D,
                                     .dy = s.dx,
                                     .normalised = normalised,
                                     .rstd = rstd,
                                     .weight = parameter(map.weight),
                                     .hidden_dropout = Dropout::of(dbranch && dropout ? config_.hidden_dropout : 0),
                                     .drop_path = dbranch ? drop_path(l, dropout) : Dropout{},
                                     .layer = static_cast<std::uint32_t>(2 * l) + which,
                                     .molecule_key = batch.key.data(),
                                     .dx = s.dx,
                                     .dbranch = dbranch,
                                     .dweight = gradient(map.weight),
                                     .dbias = gradient(map.bias)});
  };
  // s.dx holds the gradient of the residual stream throughout: LayerNorm's backward replaces it in place, and each
  // branch adds its own.
  for (std::size_t l = s.layer.size(); l-- > 0;) {
    const LayerState& y = s.layer[l];
    const ParameterLayout::Layer& p = layout_.layers[l];
    norm_gradients(p.final_norm, y.normalised2, y.rstd2, l, 1, s.dbranch);
    linear_gradients(tokens, F, D, p.fc2, y.activated, s.dbranch, s.dwide, false);
    gelu_backward<T>(cpu_, {.packed = packed,
                            .rows = tokens,
                            .features = F,
                            .x = y.hidden,
                            .dropout = Dropout::of(dropout ? config_.activation_dropout : 0),
                            .layer = static_cast<std::uint32_t>(l),
                            .molecule_key = batch.key.data(),
                            .dy = s.dwide,
                            .dx = s.dwide});
    linear_gradients(tokens, D, F, p.fc1, y.mid, s.dwide, s.dx, true);
    norm_gradients(p.attention_norm, y.normalised1, y.rstd1, l, 0, s.dbranch);
    linear_gradients(tokens, D, D, p.out, y.attended, s.dbranch, s.dnarrow, false);
    attention_backward<T>(
        cpu_, {.in = attention_input(batch, l, dropout), .dout = s.dnarrow, .dqkv = s.dwide, .dbias = s.dbias});
    linear_gradients(tokens, D, 3 * D, p.qkv, l == 0 ? s.first : s.layer[l - 1].out, s.dwide, s.dx, true);
  }
  norm_gradients(layout_.embedding_norm, s.normalised, s.rstd, 0, 0, nullptr);
  atom_embedding_backward<T>(cpu_, {.packed = packed,
                                    .width = D,
                                    .atom_codes = batch.atom_codes.data(),
                                    .degree = batch.degree.data(),
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
  relation_bias_backward<T>(cpu_, {.in = relation_input(batch),
                                   .dbias = s.dbias,
                                   .dgaussian_sum = config_.with_distance ? s.dgaussian_sum : nullptr,
                                   .gradients = layout_.relation_tables(gradient_.data())});
}

template <class T>
PretrainResult CpuModel<T>::heads(const Batch& batch, const PretrainStep& step) {
  State& s = state_;
  const Packed packed = batch.packed();
  const std::int64_t D = config_.width, N = packed.atoms();
  const Objective& objective = *step.objective;
  const bool backward = step.gradients;
  const T* last = s.layer.back().out;
  gather_atoms<T>(cpu_, packed, D, last, s.atoms);

  linear(N, D, kPairColumns, layout_.pair_maps, s.atoms, s.pair_raw);
  pair_map_forward<T>(cpu_, {.rows = N,
                             .maps = kPairMaps,
                             .x = s.pair_raw,
                             .weight = parameter(layout_.pair_norm.weight),
                             .bias = parameter(layout_.pair_norm.bias),
                             .y = s.pair_features});
  // Head `k` (SPD, edge, 3D) reads its row map in block 2 k and its column map in block 2 k + 1.
  const auto bilinear = [&](std::int64_t k, std::int64_t outputs, const T* weight, const T* bias, T* dweight,
                            T* dbias) {
    return Bilinear<T>{.outputs = outputs,
                       .weight = weight,
                       .bias = bias,
                       .features = s.pair_features,
                       .stride = kPairColumns,
                       .row_column = 2 * k * kPairWidth,
                       .column_column = (2 * k + 1) * kPairWidth,
                       .dfeatures = backward ? s.dpair_features : nullptr,
                       .dweight = backward ? dweight : nullptr,
                       .dbias = backward ? dbias : nullptr};
  };
  const auto own_bilinear = [&](std::int64_t k, std::int64_t outputs, ParameterLayout::Linear map) {
    return bilinear(k, outputs, parameter(map.weight), parameter(map.bias), gradient(map.weight), gradient(map.bias));
  };
  const auto per = [](double factor, std::int64_t count) {
    return count > 0 ? factor / static_cast<double>(count) : 0;
  };

  PretrainResult r;
  r.spd_detail = spd_loss<T>(cpu_, {.packed = packed,
                                    .head = own_bilinear(0, kSpdClasses, layout_.spd_head),
                                    .spd = batch.spd.data(),
                                    .scale = per(objective.spd_factor, step.counts.spd_pairs),
                                    .logits = probe.spd_logits});
  r.edge_detail = edge_loss<T>(cpu_, {.packed = packed,
                                      .head = own_bilinear(1, kPathHops * kEdgeClasses, layout_.edge_head),
                                      .path = batch.path.data(),
                                      .scale = per(objective.edge_factor, step.counts.edge_hops),
                                      .logits = probe.edge_logits});

  const std::int64_t outputs = config_.target == DistanceTarget::displacement ? 3 : 1;
  const FactorisedMap<T> factors{.inputs = kPairFeatures,
                                 .hidden = config_.distance_hidden,
                                 .outputs = outputs,
                                 .inner = parameter(layout_.distance_inner.weight),
                                 .inner_bias = parameter(layout_.distance_inner.bias),
                                 .outer = parameter(layout_.distance_outer.weight),
                                 .outer_bias = parameter(layout_.distance_outer.bias)};
  multiply_out<T>(cpu_, factors, s.distance_weight, s.distance_bias);
  if (backward) {
    std::fill_n(s.ddistance_weight, outputs * kPairFeatures, T(0));
    std::fill_n(s.ddistance_bias, outputs, T(0));
  }
  r.distance_detail = distance_loss<T>(
      cpu_, {.packed = packed,
             .head = bilinear(2, outputs, s.distance_weight, s.distance_bias, s.ddistance_weight, s.ddistance_bias),
             .target = config_.target,
             .positions = batch.positions.data(),
             .has_positions = batch.has_positions.data(),
             .position_known = batch.position_known.data(),
             .scale = per(objective.distance_factor, step.counts.distance_molecules),
             .predictions = probe.distance_predictions});

  // Nothing to denoise (2D molecules only), or nothing asked of it: the head costs four products, so it is left out.
  const bool denoises = step.counts.denoise_atoms > 0 && (!backward || objective.denoise_factor > 0);
  DenoiseResult denoise;
  if (denoises) {
    linear(N, D, 3 * D, layout_.denoise_qkv, s.atoms, s.denoise_qkv);
    denoise = denoise_head<T>(
        cpu_, {.packed = packed,
               .heads = config_.heads,
               .width = D,
               .qkv = s.denoise_qkv,
               .bias = s.bias,
               .scale = static_cast<T>(1 / std::sqrt(static_cast<double>(D / config_.heads))),
               .dropout = Dropout::of(step.dropout ? 0.1 : 0),  // fixed in the method, whatever the other settings
               .molecule_key = batch.key.data(),
               .positions = s.positions,
               .noise = s.noise,
               .has_positions = batch.has_positions.data(),
               .position_known = batch.position_known.data(),
               .atom_visible = s.atom_visible,
               .force_weight = parameter(layout_.force.weight),
               .force_bias = parameter(layout_.force.bias),
               .loss_scale = per(objective.denoise_factor, step.counts.denoise_atoms),
               .prediction = probe.denoise_prediction,
               .dqkv = backward ? s.dwide : nullptr,
               .dbias = backward ? s.dbias : nullptr,
               .dforce_weight = backward ? gradient(layout_.force.weight) : nullptr,
               .dforce_bias = backward ? gradient(layout_.force.bias) : nullptr});
  }
  r.spd = per(r.spd_detail.loss, step.counts.spd_pairs);
  r.edge = per(r.edge_detail.loss, step.counts.edge_hops);
  r.distance = per(r.distance_detail.loss, step.counts.distance_molecules);
  r.denoise = per(denoise.loss, step.counts.denoise_atoms);
  r.denoise_atoms = denoise.count;
  r.denoise_cosine = static_cast<double>(denoise.count) - denoise.loss;
  r.total = objective.spd_factor * r.spd + objective.edge_factor * r.edge + objective.distance_factor * r.distance +
            objective.denoise_factor * r.denoise;
  if (!backward) return r;

  multiply_out_backward<T>(cpu_, factors, s.ddistance_weight, s.ddistance_bias,
                           {.inner = gradient(layout_.distance_inner.weight),
                            .inner_bias = gradient(layout_.distance_inner.bias),
                            .outer = gradient(layout_.distance_outer.weight),
                            .outer_bias = gradient(layout_.distance_outer.bias)});
  // dnarrow collects the gradient of the last layer's atoms.
  if (denoises) linear_gradients(N, D, 3 * D, layout_.denoise_qkv, s.atoms, s.dwide, s.dnarrow, false);
  pair_map_backward<T>(cpu_, {.rows = N,
                              .maps = kPairMaps,
                              .x = s.pair_raw,
                              .weight = parameter(layout_.pair_norm.weight),
                              .dy = s.dpair_features,
                              .dx = s.dpair_features,
                              .dweight = gradient(layout_.pair_norm.weight),
                              .dbias = gradient(layout_.pair_norm.bias)});
  linear_gradients(N, D, kPairColumns, layout_.pair_maps, s.atoms, s.dpair_features, s.dnarrow, denoises);
  scatter_atoms<T>(cpu_, packed, D, s.dnarrow, s.dx);
  return r;
}

template <class T>
PretrainResult CpuModel<T>::pretrain(const Batch& batch, const PretrainStep& step) {
  if (config_.tasks > 0)
    throw Error("a property model has no pretraining heads; use the pretrained checkpoint it came from");
  const Packed packed = batch.packed();
  reserve(packed, step.gradients);
  draw(batch, step);
  encode(batch, step.dropout);
  if (step.gradients) std::fill_n(state_.dbias, config_.heads * packed.token_pairs(), T(0));
  const PretrainResult result = heads(batch, step);
  if (step.gradients) encode_backward(batch, step.dropout);
  return result;
}

template <class T>
double CpuModel<T>::property(const Batch& batch, const PropertyStep& step, std::vector<double>* predictions) {
  if (config_.tasks == 0) throw Error("a pretraining model has no property head; fine-tune it first");
  State& s = state_;
  const Packed packed = batch.packed();
  const std::int64_t D = config_.width, B = packed.molecules, tasks = config_.tasks;
  reserve(packed, step.gradients);

  // Everything that is there and asked for is summed; a molecule without positions shows its graph.
  const bool show_3d = step.show_3d && config_.with_distance;
  for (std::int64_t b = 0; b < B; ++b) {
    const bool distance = show_3d && batch.has_positions[b], graph = step.show_2d || !distance;
    std::fill(s.pair_visible + packed.pair_offset[b], s.pair_visible + packed.pair_offset[b + 1],
              static_cast<std::uint8_t>((graph ? kShowSpd | kShowEdge : 0) | (distance ? kShowDistance : 0)));
    std::fill(s.atom_visible + packed.atom_offset[b], s.atom_visible + packed.atom_offset[b + 1],
              static_cast<std::uint8_t>((graph ? kShowDegree : 0) | (distance ? kShowGaussians : 0)));
  }
  std::transform(batch.positions.begin(), batch.positions.end(), s.positions,
                 [](float x) { return static_cast<T>(x); });
  encode(batch, step.dropout);

  // cls reads one token a molecule, so the head runs on those; mean and sum read the head's output on every atom.
  const bool cls = step.readout == Readout::cls;
  const T* last = s.layer.back().out;
  const std::int64_t rows = cls ? B : packed.tokens();
  if (cls) readout_forward<T>(cpu_, packed, step.readout, D, last, s.readout);
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
  gelu_forward<T>(cpu_, gelu);
  linear(rows, D, tasks, layout_.property_out, s.dense_activated, s.logits);
  T* logits = s.logits;
  if (!cls) {
    readout_forward<T>(cpu_, packed, step.readout, tasks, s.logits, s.readout);
    logits = s.readout;
  }
  if (predictions) {
    predictions->resize(static_cast<std::size_t>(B * tasks));
    for (std::int64_t k = 0; k < B * tasks; ++k) {
      const auto task = static_cast<std::size_t>(k % tasks);
      const double value = static_cast<double>(logits[k]);
      (*predictions)[static_cast<std::size_t>(k)] = step.task == PropertyTask::regression && !step.mean.empty()
                                                        ? value * step.std[task] + step.mean[task]
                                                        : value;
    }
  }
  if (step.labels.empty()) return 0;

  const double scale = step.label_count > 0 ? 1.0 / static_cast<double>(step.label_count) : 0;
  // The gradient of the logits: for cls it is the head's own; else it is spread over the atoms by the read-out.
  T* dlogits = step.gradients ? (cls ? s.dwide : s.dnarrow) : nullptr;
  const PropertyLossResult loss = property_loss<T>(cpu_, {.task = step.task,
                                                          .molecules = B,
                                                          .tasks = tasks,
                                                          .logits = logits,
                                                          .labels = step.labels.data(),
                                                          .mean = step.mean.data(),
                                                          .std = step.std.data(),
                                                          .scale = scale,
                                                          .dlogits = dlogits});
  if (step.gradients) {
    if (!cls) readout_backward<T>(cpu_, packed, step.readout, tasks, dlogits, s.dwide);
    linear_gradients(rows, D, tasks, layout_.property_out, s.dense_activated, s.dwide, s.dbranch, false);
    gelu_backward<T>(cpu_, {.packed = packed,
                            .rows = rows,
                            .features = D,
                            .x = s.dense,
                            .dropout = {},
                            .layer = 0,
                            .molecule_key = nullptr,
                            .dy = s.dbranch,
                            .dx = s.dbranch});
    T* dx = cls ? s.dnarrow : s.dx;
    linear_gradients(rows, D, D, layout_.property_dense, x, s.dbranch, dx, false);
    if (cls) readout_backward<T>(cpu_, packed, step.readout, D, dx, s.dx);
    std::fill_n(s.dbias, config_.heads * packed.token_pairs(), T(0));
    encode_backward(batch, step.dropout);
  }
  return loss.loss * scale;
}

template <class T>
double CpuModel<T>::update(const AdamSettings& settings, double learning_rate, std::int64_t step) {
  const double norm = global_norm<T>(cpu_, layout_.size(), gradient_.data());
  if (!std::isfinite(norm)) return norm;
  adam<T>(cpu_, {.count = layout_.size(),
                 .parameter = buffers_[0].data(),
                 .gradient = gradient_.data(),
                 .m = buffers_[1].data(),
                 .v = buffers_[2].data(),
                 .gradient_scale = clip_factor(norm, settings.clip_norm),
                 .learning_rate = learning_rate,
                 .beta1 = settings.beta1,
                 .beta2 = settings.beta2,
                 .epsilon = settings.epsilon,
                 .weight_decay = settings.weight_decay,
                 .step = step});
  return norm;
}

template class CpuModel<float>;
template class CpuModel<double>;

std::unique_ptr<Model> make_cpu_model(const ModelConfig& config, int threads, bool double_precision) {
  if (double_precision) return std::make_unique<CpuModel<double>>(config, threads);
  return std::make_unique<CpuModel<float>>(config, threads);
}

}  // namespace moleblend
