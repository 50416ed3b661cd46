#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "kernels/attention/probabilities.h"
#include "kernels/common/small_product.h"
#include "kernels/denoise_head/denoise_head.h"
#include "kernels/pair_head/cosine_loss.h"

namespace moleblend {
namespace {

using namespace simd;

constexpr double kUnitEpsilon = 1e-5;  // of Δ / (r + ε), ångström

/// What a thread works with: a tile of rows i of one molecule, over all heads before the loss and again after it.
template <class T>
class Tiles {
 public:
  Tiles(Cpu& cpu, int thread, const DenoiseHead<T>& a, T* dforce_weight, double* dforce_bias)
      : a_(a), d_(a.width / a.heads), dforce_weight_(dforce_weight), dforce_bias_(dforce_bias) {
    std::int64_t tile = 0, longest = 0, rows = 0;
    for (std::int64_t b = 0; b < a.packed.molecules; ++b) {
      const std::int64_t n = a.packed.atoms_of(b);
      tile = std::max(tile, piece(tile_rows(n) * padded(n)));
      longest = std::max(longest, padded(n));
      rows = std::max(rows, piece(3 * tile_rows(n)));
    }
    T* at = cpu.scratch<T>(
        thread, static_cast<std::size_t>(7 * tile + 2 * piece(d_ * longest) + 3 * piece(3 * longest) + 2 * rows));
    const auto take = [&at](std::int64_t count) { return std::exchange(at, at + count); };
    p_ = take(tile);
    dropped_ = take(tile);
    factor_ = take(tile);
    dp_ = take(tile);
    unit_ = take(3 * tile);
    k_transposed_ = take(piece(d_ * longest));
    v_transposed_ = take(piece(d_ * longest));
    position_ = take(piece(3 * longest));
    s_ = take(piece(3 * longest));
    ds_ = take(piece(3 * longest));
    f_ = take(rows);
    df_ = take(rows);
  }

  DenoiseResult work_on(std::int64_t b) {
    b_ = b;
    atom_ = a_.packed.atom_offset[b];
    n_ = a_.packed.atoms_of(b);
    stride_ = padded(n_);
    vectors_ = (n_ + kLanes<T> - 1) / kLanes<T>;
    if (a_.dqkv) std::fill_n(a_.dqkv + atom_ * 3 * a_.width, n_ * 3 * a_.width, T(0));
    if (!a_.has_positions[b]) {
      if (a_.prediction) std::fill_n(a_.prediction + 3 * atom_, 3 * n_, T(0));
      return {};
    }
    transpose_padded(n_, 3, a_.positions + 3 * atom_, 3, position_);
    DenoiseResult result;
    const std::int64_t step = tile_rows(n_);
    for (first_ = 0; first_ < n_; first_ += step) {
      rows_ = std::min(step, n_ - first_);
      unit_displacements();
      forward();
      const std::int64_t counted = loss(result);
      if (a_.dqkv && counted > 0 && a_.loss_scale != 0) backward();
    }
    return result;
  }

 private:
  const T* q(std::int64_t h) const { return a_.qkv + atom_ * 3 * a_.width + h * d_; }
  const T* k(std::int64_t h) const { return q(h) + a_.width; }
  const T* v(std::int64_t h) const { return k(h) + a_.width; }
  /// Entry of atoms (row, 0) of head h in a bias of all tokens.
  std::int64_t bias_offset(std::int64_t h, std::int64_t row) const {
    return a_.heads * a_.packed.token_pair_offset[b_] + (h * (n_ + 1) + row + 1) * (n_ + 1) + 1;
  }

  /// unit [rows, 3, stride] of the tile: (x_j − x_i) / (r + ε).
  void unit_displacements() {
    constexpr int w = kLanes<T>;
    for (std::int64_t i = 0; i < rows_; ++i)
      for (std::int64_t at = 0; at < vectors_ * w; at += w) {
        Vector<T> delta[3], square{};
        for (int c = 0; c < 3; ++c) {
          delta[c] = load(position_ + c * stride_ + at) - position_[c * stride_ + first_ + i];
          square += delta[c] * delta[c];
        }
        Vector<T> by;
        for (int lane = 0; lane < w; ++lane) by[lane] = T(1) / (std::sqrt(square[lane]) + T(kUnitEpsilon));
        for (int c = 0; c < 3; ++c) store(unit_ + (3 * i + c) * stride_ + at, delta[c] * by);
      }
  }

  /// Probabilities of the tile and of head h, with dropout in `dropped`; and s [3, stride].
  const T* probabilities(std::int64_t h) {
    const std::int64_t ld = 3 * a_.width;
    transpose_padded(n_, d_, k(h), ld, k_transposed_);
    transpose_padded(n_, d_, v(h), ld, v_transposed_);
    small_product(3, stride_, d_, {a_.force_weight + h * d_, a_.width, 1}, v_transposed_, stride_, s_, stride_);
    small_product(rows_, stride_, d_, {q(h) + first_ * ld, ld, 1}, k_transposed_, stride_, p_, stride_);
    const bool drop = a_.dropout.active();
    if (drop) {
      dropout_factors(a_.molecule_key[b_], Draw::denoise_dropout, 0,
                      static_cast<std::uint64_t>((h * n_ + first_) * stride_), rows_ * stride_, a_.dropout, factor_);
    }
    softmax_rows<T>({rows_, n_, stride_, a_.scale, a_.bias + bias_offset(h, first_), n_ + 1,
                     a_.bias + a_.heads * a_.packed.token_pairs(), p_, drop ? factor_ : nullptr, dropped_});
    return drop ? dropped_ : p_;
  }

  void forward() {
    constexpr int w = kLanes<T>;
    for (std::int64_t i = 0; i < rows_; ++i) std::copy_n(a_.force_bias, 3, f_ + 3 * i);
    for (std::int64_t h = 0; h < a_.heads; ++h) {
      const T* dropped = probabilities(h);
      for (std::int64_t i = 0; i < rows_; ++i) {
        Vector<T> sum[3] = {};
        for (std::int64_t at = 0; at < vectors_ * w; at += w) {
          const Vector<T> p = load(dropped + i * stride_ + at);
          for (int c = 0; c < 3; ++c)
            sum[c] += p * load(unit_ + (3 * i + c) * stride_ + at) * load(s_ + c * stride_ + at);
        }
        for (int c = 0; c < 3; ++c) f_[3 * i + c] += sum_over_lanes<T>(sum[c])[0];
      }
    }
    if (a_.prediction) std::copy_n(f_, 3 * rows_, a_.prediction + 3 * (atom_ + first_));
  }

  /// Adds the tile's atoms to the result and sets df; returns how many of them count.
  std::int64_t loss(DenoiseResult& result) {
    std::int64_t counted = 0;
    for (std::int64_t i = 0; i < rows_; ++i) {
      const std::int64_t atom = atom_ + first_ + i;
      std::fill_n(df_ + 3 * i, 3, T(0));
      if (!asks_for_noise(n_, a_.atom_visible[atom], !a_.position_known || a_.position_known[atom])) continue;
      double f[3], noise[3];
      for (int c = 0; c < 3; ++c) {
        f[c] = static_cast<double>(f_[3 * i + c]);
        noise[c] = static_cast<double>(a_.noise[3 * atom + c]);
      }
      const CosineLoss cosine = cosine_loss(f, noise);
      result.loss += 1 - cosine.cosine;
      ++result.count;
      ++counted;
      for (int c = 0; c < 3; ++c) {
        const double gradient = a_.loss_scale * cosine.gradient[c];
        df_[3 * i + c] = static_cast<T>(gradient);
        if (dforce_bias_) dforce_bias_[c] += gradient;
      }
    }
    return counted;
  }

  void backward() {
    constexpr int w = kLanes<T>;
    const std::int64_t ld = 3 * a_.width;
    for (std::int64_t h = 0; h < a_.heads; ++h) {
      const T* dropped = probabilities(h);
      std::fill_n(ds_, 3 * stride_, T(0));
      for (std::int64_t i = 0; i < rows_; ++i)
        for (std::int64_t at = 0; at < vectors_ * w; at += w) {
          const Vector<T> p = load(dropped + i * stride_ + at);
          Vector<T> dp{};
          for (int c = 0; c < 3; ++c) {
            const Vector<T> along = load(unit_ + (3 * i + c) * stride_ + at) * df_[3 * i + c];
            dp += along * load(s_ + c * stride_ + at);
            T* ds = ds_ + c * stride_ + at;
            store(ds, load(ds) + p * along);
          }
          store(dp_ + i * stride_ + at, dp);
        }
      T* dbias_block = a_.dbias ? a_.dbias + bias_offset(h, -1) - 1 : nullptr;  // of the head, graph token included
      score_gradient_rows<T>({rows_, n_, stride_, a_.scale, p_, a_.dropout.active() ? factor_ : nullptr, dp_,
                              a_.dbias ? a_.dbias + bias_offset(h, first_) : nullptr, n_ + 1,
                              a_.dbias ? dbias_block + (n_ + 1) * (n_ + 1) : nullptr});
      T* dq = a_.dqkv + (q(h) - a_.qkv);
      T* dk = dq + a_.width;
      T* dv = dk + a_.width;
      small_product(rows_, d_, n_, {dp_, stride_, 1}, k(h), ld, dq + first_ * ld, ld);
      small_product(n_, d_, rows_, {dp_, 1, stride_}, q(h) + first_ * ld, ld, dk, ld, true);
      small_product(n_, d_, 3, {ds_, 1, stride_}, a_.force_weight + h * d_, a_.width, dv, ld, true);
      small_product(3, d_, n_, {ds_, stride_, 1}, v(h), ld, dforce_weight_ + h * d_, a_.width, true);
    }
  }

  const DenoiseHead<T>& a_;
  const std::int64_t d_;
  T* const dforce_weight_;     // [3, D] this thread's part
  double* const dforce_bias_;  // [3] this thread's part, or null
  // The molecule, and the tile's rows in it.
  std::int64_t b_ = 0, atom_ = 0, n_ = 0, stride_ = 0, vectors_ = 0, first_ = 0, rows_ = 0;
  // Scratch: [rows, stride] tiles, [rows, 3, stride] unit displacements, [d, stride] and [3, stride] of a head, [rows, 3].
  T *p_, *dropped_, *factor_, *dp_, *unit_, *k_transposed_, *v_transposed_, *position_, *s_, *ds_, *f_, *df_;
};

}  // namespace

template <class T>
void denoise_head(Cpu& cpu, const DenoiseHead<T>& a) {
  const std::int64_t weights = piece(3 * a.width), molecules = a.packed.molecules;
  const auto bytes = [](std::int64_t count, std::size_t size) {
    return (static_cast<std::size_t>(count) * size + 63) / 64 * 64;
  };
  const std::size_t result_bytes = bytes(molecules, sizeof(DenoiseResult));
  const std::size_t bias_bytes = bytes(3 * cpu.threads(), sizeof(double));
  std::byte* shared = cpu.shared<std::byte>(result_bytes + bias_bytes + bytes(weights * cpu.threads(), sizeof(T)));
  auto* results = reinterpret_cast<DenoiseResult*>(shared);                        // [B]
  auto* dforce_bias = reinterpret_cast<double*>(shared + result_bytes);            // [threads, 3]
  auto* dforce_weight = reinterpret_cast<T*>(shared + result_bytes + bias_bytes);  // [threads, 3 D]
  cpu.parallel([&](int thread) {
    const Range part = cost_part(a.packed.token_pair_offset, molecules, cpu.threads(), thread);
    T* own_weight = dforce_weight + thread * weights;
    double* own_bias = dforce_bias + 3 * thread;
    std::fill_n(own_weight, weights, T(0));
    std::fill_n(own_bias, 3, 0.0);
    Tiles<T> tiles(cpu, thread, a, own_weight, a.dforce_bias ? own_bias : nullptr);
    for (std::int64_t b = part.begin; b < part.end; ++b) results[b] = tiles.work_on(b);
  });
  if (a.dqkv) {
    for (int thread = 0; thread < cpu.threads(); ++thread)
      for (std::int64_t k = 0; k < 3 * a.width; ++k) a.dforce_weight[k] += dforce_weight[thread * weights + k];
    for (int c = 0; c < 3; ++c) {
      double sum = 0;
      for (int thread = 0; thread < cpu.threads(); ++thread) sum += dforce_bias[3 * thread + c];
      a.dforce_bias[c] += static_cast<T>(sum);
    }
  }
  DenoiseResult total;
  for (std::int64_t b = 0; b < molecules; ++b) {
    total.loss += results[b].loss;
    total.count += results[b].count;
  }
  *a.result = total;
}

template void denoise_head(Cpu&, const DenoiseHead<float>&);
template void denoise_head(Cpu&, const DenoiseHead<double>&);

}  // namespace moleblend
