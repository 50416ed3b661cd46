#pragma once
// The definitions behind kernel_cases.h, included only where they are instantiated for a device.

#include <fmt/format.h>

#include <cmath>
#include <deque>
#include <memory>
#include <type_traits>
#include <utility>

#include "engine/bench/kernel_cases.h"
#include "engine/bench/library_attention_cases.h"
#include "engine/model/batch_view.h"
#include "kernels/activation/activation.h"
#include "kernels/atom_embedding/atom_embedding.h"
#include "kernels/attention/attention.h"
#include "kernels/denoise_head/denoise_head.h"
#include "kernels/linear/linear.h"
#include "kernels/optimizer/optimizer.h"
#include "kernels/pair_head/pair_head.h"
#include "kernels/random/draws.h"
#include "kernels/relation_bias/relation_bias.h"
#include "kernels/residual_norm/residual_norm.h"

namespace moleblend {

template <class Device, class T>
class KernelCasesOn final : public KernelCases {
 public:
  using W = Wide<T>;

  KernelCasesOn(const ModelConfig& config, const Batch& batch, typename Device::Place place)
      : config_(config), device_(place), batch_(device_), view_(batch_.load(device_, batch)), packed_(view_.packed) {
    add_draws();
    add_relation_bias();
    add_atom_embedding();
    add_linear("qkv", config_.width, 3 * config_.width);
    add_linear("feed_forward", config_.width, config_.ffn);
    add_attention(batch);
    add_residual_norm();
    add_gelu();
    add_pair_maps();
    add_pair_losses();
    add_denoise_head();
    add_update();
  }

  std::string place() const override { return fmt::format("{}, {}", device_.name(), device_.template precision<T>()); }
  std::span<const KernelCase> cases() const override { return cases_; }
  void wait() override { device_.wait(); }

 private:
  // ---- arrays in the device's memory, which stay as long as the cases
  template <class U>
  U* empty(std::int64_t count) {
    return static_cast<U*>(blocks_.emplace_back().reserve(static_cast<std::size_t>(count) * sizeof(U)));
  }
  template <class U>
  U* zeros(std::int64_t count) {
    U* p = empty<U>(count);
    device_.zero(p, count);
    return p;
  }
  /// Uniform with mean 0 and standard deviation `scale`, + `mean`; rounded to bf16, so that they are the same in every precision.
  template <class U>
  const U* values(std::int64_t count, double scale, double mean = 0) {
    std::vector<U> v(static_cast<std::size_t>(count));
    const std::uint64_t key = molecule_key(1, 0, ++arrays_);
    for (std::size_t k = 0; k < v.size(); k += 4) {
      const PhiloxWords words = philox(key, static_cast<std::uint32_t>(k / 4), Draw::initial_value, 0);
      for (std::size_t w = 0; w < 4 && k + w < v.size(); ++w) {
        const double x = mean + scale * 1.7320508 * (2.0 * static_cast<double>(unit_float(words.word[w])) - 1);
        v[k + w] = narrow<U>(static_cast<Wide<U>>(to_float(to_bf16(static_cast<float>(x)))));
      }
    }
    U* p = empty<U>(count);
    device_.upload(p, v.data(), count);
    device_.wait();
    return p;
  }

  // ---- cases
  template <class U>
  KernelCase::Output output(std::string name, U* p, std::int64_t count) {
    return {std::move(name), [this, p, count] { device_.zero(p, count); },
            [this, p, count] {
              std::vector<U> v(static_cast<std::size_t>(count));
              device_.download(v.data(), p, count);
              std::vector<double> r(v.size());
              for (std::size_t k = 0; k < v.size(); ++k) {
                if constexpr (std::is_integral_v<U>)
                  r[k] = static_cast<double>(v[k]);
                else
                  r[k] = static_cast<double>(to_float(v[k]));
              }
              return r;
            }};
  }
  /// The sum of a loss, which the operation writes with other scores.
  template <class Result>
  KernelCase::Output loss_of(Result* p) {
    return {"loss", [this, p] { device_.zero(p, 1); },
            [this, p] {
              Result found;
              device_.download(&found, p, 1);
              return std::vector<double>{found.loss, static_cast<double>(found.count)};
            }};
  }
  void add(std::string name, double flop, double bytes, std::function<void()> run,
           std::vector<KernelCase::Output> outputs) {
    cases_.push_back({std::move(name), flop, bytes, std::move(run), std::move(outputs)});
  }

  static double product(std::int64_t m, std::int64_t n, std::int64_t k) {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  }
  /// Bytes of arrays of activations (T) and of parameters and sums (W).
  static double bytes_of(std::int64_t activations, std::int64_t wide = 0) {
    return static_cast<double>(activations) * sizeof(T) + static_cast<double>(wide) * sizeof(W);
  }

  void add_draws() {
    const std::int64_t N = packed_.atoms(), P = packed_.pairs();
    pair_visible_ = empty<std::uint8_t>(P);
    atom_visible_ = empty<std::uint8_t>(N);
    noise_ = empty<float>(3 * N);
    positions_ = empty<W>(3 * N);
    const auto run = [this, N] {
      draw_modalities(device_, {.packed = packed_,
                                .molecule_key = view_.key,
                                .has_positions = view_.has_positions,
                                .blend = {},
                                .pair_visible = pair_visible_,
                                .atom_visible = atom_visible_});
      draw_noise(device_, {.packed = packed_,
                           .molecule_key = view_.key,
                           .has_positions = view_.has_positions,
                           .position_known = view_.position_known,
                           .scale = 0.2f,
                           .noise = noise_});
      add_noise<W>(device_, 3 * N, view_.positions, noise_, positions_);
    };
    run();  // the cases after this one read them
    add("draws", 0, static_cast<double>(P + N + 3 * N * 8) + bytes_of(0, 3 * N), run,
        {output("pair_visible", pair_visible_, P), output("atom_visible", atom_visible_, N),
         output("noise", noise_, 3 * N), output("positions", positions_, 3 * N)});
  }

  void add_relation_bias() {
    const std::int64_t N = packed_.atoms(), P = packed_.pairs(), H = config_.heads, K = config_.kernels;
    const std::int64_t count = H * packed_.token_pairs();
    const RelationTables<const W> tables{.spd_table = values<W>(512 * H, 0.5),
                                         .edge_table = values<W>(1537 * H, 0.5),
                                         .edge_hop = values<W>(128 * H * H, 0.2),
                                         .graph_token = values<W>(H, 0.5),
                                         .gaussian_mul = values<W>(1536, 0.1, 1),
                                         .gaussian_bias = values<W>(1536, 0.1),
                                         .gaussian_mean = values<W>(K, 1, 1.5),
                                         .gaussian_std = values<W>(K, 0.3, 1),
                                         .distance_w1 = values<W>(K * K, 1 / std::sqrt(static_cast<double>(K))),
                                         .distance_b1 = values<W>(K, 0.1),
                                         .distance_w2 = values<W>(H * K, 1 / std::sqrt(static_cast<double>(K))),
                                         .distance_b2 = values<W>(H, 0.1)};
    const RelationBiasInput<T> in{.packed = packed_,
                                  .heads = H,
                                  .kernels = K,
                                  .spd = view_.spd,
                                  .path = view_.path,
                                  .atom_codes = view_.atom_codes,
                                  .positions = positions_,
                                  .pair_visible = pair_visible_,
                                  .atom_visible = atom_visible_,
                                  .tables = tables};
    T* bias = empty<T>(count);
    T* gaussian_sum = empty<T>(N * K);
    // Three pairs in five show their distance in the default blend; the rest costs next to nothing.
    const auto shown = static_cast<std::int64_t>(0.6 * static_cast<double>(P));
    const double flop = product(shown, K, K) + product(shown, H, K);
    const double inputs = static_cast<double>(P) * (2 + 5 + 1) + bytes_of(0, 3 * N + K * (K + H));
    add("relation_bias.forward", flop, inputs + bytes_of(count + N * K),
        [=, this] { relation_bias_forward<T>(device_, {.in = in, .bias = bias, .gaussian_sum = gaussian_sum}); },
        {output("bias", bias, count), output("gaussian_sum", gaussian_sum, N * K)});

    const W* dbias = values<W>(count, 1);
    const T* dgaussian_sum = values<T>(N * K, 0.1);
    const RelationTables<W> gradients{.spd_table = zeros<W>(512 * H),
                                      .edge_table = zeros<W>(1537 * H),
                                      .edge_hop = zeros<W>(128 * H * H),
                                      .graph_token = zeros<W>(H),
                                      .gaussian_mul = zeros<W>(1536),
                                      .gaussian_bias = zeros<W>(1536),
                                      .gaussian_mean = zeros<W>(K),
                                      .gaussian_std = zeros<W>(K),
                                      .distance_w1 = zeros<W>(K * K),
                                      .distance_b1 = zeros<W>(K),
                                      .distance_w2 = zeros<W>(H * K),
                                      .distance_b2 = zeros<W>(H)};
    add("relation_bias.backward", 3 * flop, inputs + bytes_of(N * K, count),
        [=, this] {
          relation_bias_backward<T>(device_,
                                    {.in = in, .dbias = dbias, .dgaussian_sum = dgaussian_sum, .gradients = gradients});
        },
        {output("spd_table", gradients.spd_table, 512 * H), output("edge_table", gradients.edge_table, 1537 * H),
         output("edge_hop", gradients.edge_hop, 5 * H * H), output("graph_token", gradients.graph_token, H),
         output("gaussian_mul", gradients.gaussian_mul, 1536), output("gaussian_bias", gradients.gaussian_bias, 1536),
         output("gaussian_mean", gradients.gaussian_mean, K), output("gaussian_std", gradients.gaussian_std, K),
         output("distance_w1", gradients.distance_w1, K * K), output("distance_b1", gradients.distance_b1, K),
         output("distance_w2", gradients.distance_w2, H * K), output("distance_b2", gradients.distance_b2, H)});
  }

  void add_atom_embedding() {
    const std::int64_t N = packed_.atoms(), tokens = packed_.tokens(), D = config_.width, rows = 9 * 512 + 1;
    const T* gaussian_term = values<T>(N * D, 1);
    T* x = empty<T>(tokens * D);
    add("atom_embedding.forward", 0, bytes_of(tokens * D + N * D, 11 * N * D),
        [=, this, atom_table = values<W>(rows * D, 0.02), in_degree = values<W>(512 * D, 0.02),
         out_degree = values<W>(512 * D, 0.02), graph_token = values<W>(D, 0.02)] {
          atom_embedding_forward<T>(device_, {.packed = packed_,
                                              .width = D,
                                              .atom_codes = view_.atom_codes,
                                              .degree = view_.degree,
                                              .atom_visible = atom_visible_,
                                              .atom_table = atom_table,
                                              .in_degree_table = in_degree,
                                              .out_degree_table = out_degree,
                                              .graph_token = graph_token,
                                              .gaussian_term = gaussian_term,
                                              .x = x});
        },
        {output("x", x, tokens * D)});
    const T* dx = values<T>(tokens * D, 1);
    W *datom = zeros<W>(rows * D), *din = zeros<W>(512 * D), *dout = zeros<W>(512 * D), *dtoken = zeros<W>(D);
    T* dgaussian = empty<T>(N * D);
    add("atom_embedding.backward", 0, bytes_of(tokens * D + N * D, 2 * 11 * N * D),
        [=, this] {
          atom_embedding_backward<T>(device_, {.packed = packed_,
                                               .width = D,
                                               .atom_codes = view_.atom_codes,
                                               .degree = view_.degree,
                                               .atom_visible = atom_visible_,
                                               .dx = dx,
                                               .datom_table = datom,
                                               .din_degree_table = din,
                                               .dout_degree_table = dout,
                                               .dgraph_token = dtoken,
                                               .dgaussian_term = dgaussian});
        },
        {output("atom_table", datom, rows * D), output("in_degree_table", din, 512 * D),
         output("out_degree_table", dout, 512 * D), output("graph_token", dtoken, D),
         output("gaussian_term", dgaussian, N * D)});
  }

  void add_linear(const std::string& name, std::int64_t in, std::int64_t out) {
    const std::int64_t rows = packed_.tokens();
    const T *x = values<T>(rows * in, 1), *dy = values<T>(rows * out, 1), *bias = values<T>(out, 1);
    const T* weight = values<T>(out * in, 1 / std::sqrt(static_cast<double>(in)));
    T *y = empty<T>(rows * out), *dx = empty<T>(rows * in);
    W *dweight = zeros<W>(out * in), *dbias = zeros<W>(out);
    const double flop = product(rows, out, in);
    add("linear." + name + ".forward", flop, bytes_of(rows * (in + out) + out * in + out),
        [=, this] {
          linear_forward<T>(device_,
                            {.rows = rows, .in = in, .out = out, .x = x, .weight = weight, .bias = bias, .y = y});
        },
        {output("y", y, rows * out)});
    add("linear." + name + ".backward", 2 * flop, bytes_of(2 * rows * (in + out) + out * in, 2 * (out * in + out)),
        [=, this] {
          linear_backward<T>(device_, {.rows = rows,
                                       .in = in,
                                       .out = out,
                                       .x = x,
                                       .weight = weight,
                                       .dy = dy,
                                       .dx = dx,
                                       .add_to_dx = false,
                                       .dweight = dweight,
                                       .dbias = dbias});
        },
        {output("dx", dx, rows * in), output("weight", dweight, out * in), output("bias", dbias, out)});
  }

  void add_attention(const Batch& batch) {
    const std::int64_t D = config_.width, H = config_.heads, tokens = packed_.tokens(), pairs = packed_.token_pairs();
    AttentionBackward<T> a{.in = {.packed = packed_,
                                  .heads = H,
                                  .width = D,
                                  .qkv = values<T>(tokens * 3 * D, 1),
                                  .bias = values<T>(H * pairs, 1),
                                  .scale = static_cast<W>(1 / std::sqrt(static_cast<double>(D / H))),
                                  .dropout = Dropout::of(config_.attention_dropout),
                                  .layer = 3,
                                  .molecule_key = view_.key},
                           .dout = values<T>(tokens * D, 1),
                           .dqkv = empty<T>(tokens * 3 * D),
                           .dbias = zeros<W>(H * pairs)};
    T* out = empty<T>(tokens * D);
    add_attention("attention", a, out);
    // As in evaluation, and as other libraries can be compared with it: their dropout draws other numbers.
    a.in.dropout = {};
    add_attention("attention.no_dropout", a, out);
    // No library that has attention with a bias takes fp32.
    if constexpr (std::is_same_v<Device, Gpu> && std::is_same_v<T, bf16>) {
      const auto library =
          std::make_shared<LibraryAttentionCases>(device_, batch.packed(), a, cases_.end()[-2], cases_.back());
      cases_.insert(cases_.end(), library->cases().begin(), library->cases().end());
      library_ = library;
    }
  }
  void add_attention(const std::string& name, const AttentionBackward<T>& a, T* out) {
    const std::int64_t D = config_.width, H = config_.heads, tokens = packed_.tokens(), pairs = packed_.token_pairs();
    const double flop = 2 * product(pairs, D, 1);
    add(name + ".forward", flop, bytes_of(4 * tokens * D + H * pairs),
        [=, this] { attention_forward<T>(device_, {.in = a.in, .out = out}); }, {output("out", out, tokens * D)});
    // Scores are computed again: five products.
    add(name + ".backward", 2.5 * flop, bytes_of(7 * tokens * D + H * pairs, 2 * H * pairs),
        [=, this] { attention_backward<T>(device_, a); },
        {output("dqkv", a.dqkv, tokens * 3 * D), output("dbias", a.dbias, H * pairs)});
  }

  void add_residual_norm() {
    const std::int64_t D = config_.width, tokens = packed_.tokens();
    const Dropout drop_path = Dropout::of(config_.drop_path), hidden = Dropout::of(config_.hidden_dropout);
    const T *x = values<T>(tokens * D, 1), *branch = values<T>(tokens * D, 1);
    const W *weight = values<W>(D, 0.2, 1), *bias = values<W>(D, 0.2);
    T *y = empty<T>(tokens * D), *normalised = empty<T>(tokens * D);
    W* rstd = empty<W>(tokens);
    add("residual_norm.forward", 0, bytes_of(4 * tokens * D, tokens),
        [=, this] {
          residual_norm_forward<T>(device_, {.packed = packed_,
                                             .width = D,
                                             .x = x,
                                             .branch = branch,
                                             .weight = weight,
                                             .bias = bias,
                                             .hidden_dropout = hidden,
                                             .drop_path = drop_path,
                                             .layer = 3,
                                             .molecule_key = view_.key,
                                             .y = y,
                                             .normalised = normalised,
                                             .rstd = rstd});
        },
        {output("y", y, tokens * D), output("normalised", normalised, tokens * D), output("rstd", rstd, tokens)});
    const T *dy = values<T>(tokens * D, 1), *x_hat = values<T>(tokens * D, 1);
    const W* inverse = values<W>(tokens, 0.1, 1);
    T *dx = empty<T>(tokens * D), *dbranch = empty<T>(tokens * D);
    W *dweight = zeros<W>(D), *dbias = zeros<W>(D), *sum = kBiasGradientOnTheWay<Device> ? nullptr : zeros<W>(D);
    add("residual_norm.backward", 0, bytes_of(4 * tokens * D, tokens),
        [=, this] {
          residual_norm_backward<T>(device_, {.packed = packed_,
                                              .width = D,
                                              .dy = dy,
                                              .normalised = x_hat,
                                              .rstd = inverse,
                                              .weight = weight,
                                              .hidden_dropout = hidden,
                                              .drop_path = drop_path,
                                              .layer = 3,
                                              .molecule_key = view_.key,
                                              .dx = dx,
                                              .dbranch = dbranch,
                                              .dweight = dweight,
                                              .dbias = dbias,
                                              .dbranch_sum = sum});
        },
        {output("dx", dx, tokens * D), output("dbranch", dbranch, tokens * D), output("weight", dweight, D),
         output("bias", dbias, D)});
  }

  void add_gelu() {
    const std::int64_t F = config_.ffn, rows = packed_.tokens();
    const T *x = values<T>(rows * F, 1), *dy = values<T>(rows * F, 1);
    T *y = empty<T>(rows * F), *dx = empty<T>(rows * F);
    W* sum = kBiasGradientOnTheWay<Device> ? nullptr : zeros<W>(F);
    const Dropout dropout = Dropout::of(config_.activation_dropout);
    add("gelu.forward", 0, bytes_of(2 * rows * F),
        [=, this] {
          gelu_forward<T>(device_, {.packed = packed_,
                                    .rows = rows,
                                    .features = F,
                                    .x = x,
                                    .dropout = dropout,
                                    .layer = 3,
                                    .molecule_key = view_.key,
                                    .y = y});
        },
        {output("y", y, rows * F)});
    add("gelu.backward", 0, bytes_of(3 * rows * F),
        [=, this] {
          gelu_backward<T>(device_, {.packed = packed_,
                                     .rows = rows,
                                     .features = F,
                                     .x = x,
                                     .dropout = dropout,
                                     .layer = 3,
                                     .molecule_key = view_.key,
                                     .dy = dy,
                                     .dx = dx,
                                     .dx_sum = sum});
        },
        {output("dx", dx, rows * F)});
  }

  static constexpr std::int64_t kMaps = 6, kColumns = kMaps * kPairWidth;

  void add_pair_maps() {
    const std::int64_t N = packed_.atoms();
    const T *x = values<T>(N * kColumns, 1), *dy = values<T>(N * kColumns, 1);
    const W *weight = values<W>(kColumns, 0.2, 1), *bias = values<W>(kColumns, 0.2);
    T *y = empty<T>(N * kColumns), *dx = empty<T>(N * kColumns);
    W *dweight = zeros<W>(kColumns), *dbias = zeros<W>(kColumns);
    add("pair_map.forward", 0, bytes_of(2 * N * kColumns),
        [=, this] {
          pair_map_forward<T>(device_, {.rows = N, .maps = kMaps, .x = x, .weight = weight, .bias = bias, .y = y});
        },
        {output("y", y, N * kColumns)});
    add("pair_map.backward", 0, bytes_of(3 * N * kColumns),
        [=, this] {
          pair_map_backward<T>(device_, {.rows = N,
                                         .maps = kMaps,
                                         .x = x,
                                         .weight = weight,
                                         .dy = dy,
                                         .dx = dx,
                                         .dweight = dweight,
                                         .dbias = dbias});
        },
        {output("dx", dx, N * kColumns), output("weight", dweight, kColumns), output("bias", dbias, kColumns)});
  }

  /// A head of `outputs` numbers a pair with its gradients.
  Bilinear<T> bilinear(std::int64_t outputs) {
    const std::int64_t N = packed_.atoms(), weights = outputs * kPairWidth * kPairWidth;
    return {.outputs = outputs,
            .weight = values<T>(weights, 1.0 / 32),
            .bias = values<W>(outputs, 0.2),
            .features = values<T>(N * 2 * kPairWidth, 1),
            .stride = 2 * kPairWidth,
            .row_column = 0,
            .column_column = kPairWidth,
            .dfeatures = empty<T>(N * 2 * kPairWidth),
            .dweight = zeros<W>(weights),
            .dbias = zeros<W>(outputs)};
  }
  template <class Loss>
  void add_pair_loss(const std::string& name, double input_bytes, const Loss& loss,
                     void (*operation)(Device&, const Loss&)) {
    const Bilinear<T>& head = loss.head;
    const std::int64_t N = packed_.atoms(), P = packed_.pairs(), C = head.outputs;
    // r_iᵀ M once an atom, its product with c_j once a pair; twice as much for the gradients of either.
    const double flop = 3 * (product(N, C * kPairWidth, kPairWidth) + product(P, C, kPairWidth));
    add(name, flop,
        input_bytes + bytes_of(4 * N * kPairWidth + C * kPairWidth * kPairWidth, 2 * C * kPairWidth * kPairWidth),
        [=, this] { operation(device_, loss); },
        {loss_of(loss.result), output("dfeatures", head.dfeatures, N * 2 * kPairWidth),
         output("weight", head.dweight, C * kPairWidth * kPairWidth), output("bias", head.dbias, C)});
  }
  void add_pair_losses() {
    const double P = static_cast<double>(packed_.pairs());
    add_pair_loss<SpdLoss<T>>("spd_loss", 2 * P,
                              {.packed = packed_,
                               .head = bilinear(kSpdClasses),
                               .spd = view_.spd,
                               .scale = 1 / P,
                               .logits = nullptr,
                               .result = empty<PairLossResult>(1)},
                              spd_loss<T>);
    add_pair_loss<EdgeLoss<T>>("edge_loss", 5 * P,
                               {.packed = packed_,
                                .head = bilinear(kPathHops * kEdgeClasses),
                                .path = view_.path,
                                .scale = 1 / P,
                                .logits = nullptr,
                                .result = empty<PairLossResult>(1)},
                               edge_loss<T>);
    const bool displacement = config_.target == DistanceTarget::displacement;
    add_pair_loss<DistanceLoss<T>>("distance_loss", 12.0 * static_cast<double>(packed_.atoms()),
                                   {.packed = packed_,
                                    .head = bilinear(displacement ? 3 : 1),
                                    .target = config_.target,
                                    .positions = view_.positions,
                                    .has_positions = view_.has_positions,
                                    .position_known = view_.position_known,
                                    .scale = 1.0 / static_cast<double>(packed_.molecules),
                                    .predictions = nullptr,
                                    .result = empty<PairLossResult>(1)},
                                   distance_loss<T>);
  }

  void add_denoise_head() {
    const std::int64_t N = packed_.atoms(), D = config_.width, H = config_.heads, pairs = packed_.token_pairs();
    T* dqkv = empty<T>(N * 3 * D);
    W *dbias = zeros<W>(H * pairs), *dweight = zeros<W>(3 * D), *dforce_bias = zeros<W>(3);
    auto* result = empty<DenoiseResult>(1);
    const DenoiseHead<T> head{.packed = packed_,
                              .heads = H,
                              .width = D,
                              .qkv = values<T>(N * 3 * D, 1),
                              .bias = values<T>(H * pairs, 1),
                              .scale = static_cast<W>(1 / std::sqrt(static_cast<double>(D / H))),
                              .dropout = Dropout::of(0.1),
                              .molecule_key = view_.key,
                              .positions = positions_,
                              .noise = noise_,
                              .has_positions = view_.has_positions,
                              .position_known = view_.position_known,
                              .atom_visible = atom_visible_,
                              .force_weight = values<W>(3 * D, 1 / std::sqrt(static_cast<double>(D))),
                              .force_bias = values<W>(3, 0.1),
                              .loss_scale = 1 / static_cast<double>(N),
                              .prediction = nullptr,
                              .dqkv = dqkv,
                              .dbias = dbias,
                              .dforce_weight = dweight,
                              .dforce_bias = dforce_bias,
                              .result = result};
    // q · k, and the three products of its gradients.
    add("denoise_head", 4 * product(packed_.pairs(), D, 1) + product(N, 3, D) * 3,
        bytes_of(6 * N * D + H * pairs, 2 * H * pairs), [=, this] { denoise_head<T>(device_, head); },
        {loss_of(result), output("dqkv", dqkv, N * 3 * D), output("dbias", dbias, H * pairs),
         output("force_weight", dweight, 3 * D), output("force_bias", dforce_bias, 3)});
  }

  /// Norm, clipping and Adam over as many parameters as a layer has.
  void add_update() {
    const std::int64_t D = config_.width, count = 4 * D * D + 2 * D * config_.ffn;
    const W* gradient = values<W>(count, 0.1);
    W *parameter = zeros<W>(count), *m = zeros<W>(count), *v = zeros<W>(count);
    bf16* shadow = std::is_same_v<T, bf16> ? empty<bf16>(count) : nullptr;
    auto* norm = empty<double>(1);
    add("update", 0, bytes_of(0, 8 * count) + (shadow ? 2.0 * static_cast<double>(count) : 0),
        [=, this] {
          global_norm<W>(device_, count, gradient, norm);
          adam<W>(device_, {.count = count,
                            .parameter = parameter,
                            .gradient = gradient,
                            .m = m,
                            .v = v,
                            .shadow = shadow,
                            .norm = norm,
                            .clip_norm = 5,
                            .learning_rate = 1e-3,
                            .weight_decay = 0.01,
                            .step = 10});
        },
        {output("parameter", parameter, count), output("m", m, count), output("v", v, count), output("norm", norm, 1)});
  }

  ModelConfig config_;
  Device device_;
  std::deque<typename Device::Block> blocks_;
  std::uint64_t arrays_ = 0;
  DeviceBatch<Device> batch_;
  BatchView view_;
  Packed packed_;
  std::vector<KernelCase> cases_;
  // What the first case draws, and others read.
  std::uint8_t *pair_visible_ = nullptr, *atom_visible_ = nullptr;
  float* noise_ = nullptr;
  W* positions_ = nullptr;
  std::shared_ptr<void> library_;  // another library's cases; a CPU has none
};

}  // namespace moleblend
