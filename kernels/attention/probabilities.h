#pragma once
// Rows of attention probabilities, shared by the encoder's attention and the denoising head.

#include <algorithm>
#include <limits>

#include "kernels/common/simd.h"

namespace moleblend::simd {

/// Rows of scores worked on at a time: a molecule's all up to 64 tokens, then as many as keep a tile within the
/// second-level cache. Multiples of 24 suit the 4-, 6- and 8-row blocks of small_product.
inline std::int64_t tile_rows(std::int64_t tokens) {
  return tokens <= 64 ? tokens : std::min(tokens, std::max<std::int64_t>(24, 4096 / tokens / 24 * 24));
}

/// Scores of a tile of rows, in place and padded to whole vectors, and what turns them into probabilities.
template <class T>
struct SoftmaxRows {
  std::int64_t rows, columns, stride;  // stride = padded(columns)
  T scale;                             // on the scores
  const T* bias;                       // [rows, columns] at `bias_stride`, or null
  std::int64_t bias_stride;
  const T* bias_end;  // end of the bias' memory: a row is read in whole vectors where that stays inside
  T* scores;          // [rows, stride] in: q · k; out: probabilities, zero in the padding
  const T* factor;    // [rows, stride] dropout factors, or null
  T* dropped;         // [rows, stride] probabilities times factors; may be `scores`; not written if `factor` is null
};

template <int V, class T>
inline void softmax_rows_of(const SoftmaxRows<T>& a, std::int64_t vectors) {
  constexpr int w = kLanes<T>;
  const auto last = V > 0 ? V - 1 : vectors - 1;
  const std::int64_t tail = a.columns - last * w;
  const Mask<T> real = first_lanes<T>(tail);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    T* row = a.scores + i * a.stride;
    const T* bias = a.bias ? a.bias + i * a.bias_stride : nullptr;
    Vector<T> held[V > 0 ? V : 1];  // a short row stays in registers
    const auto put = [&](auto v, Vector<T> x) {
      if constexpr (V > 0)
        held[v] = x;
      else
        store(row + v * w, x);
    };
    const auto get = [&](auto v) {
      if constexpr (V > 0)
        return held[v];
      else
        return load(row + v * w);
    };
    Vector<T> largest = all(-std::numeric_limits<T>::infinity());
    for_each_vector<V>(vectors, [&](auto v) {
      Vector<T> s = load(row + v * w) * a.scale;
      if (bias) s += v == last ? load_first(bias + v * w, tail, a.bias_end) : load(bias + v * w);
      if (v == last) s = real ? s : all(-std::numeric_limits<T>::infinity());
      put(v, s);
      largest = larger<T>(largest, s);
    });
    largest = max_over_lanes<T>(largest);
    Vector<T> sum{};
    for_each_vector<V>(vectors, [&](auto v) {
      const Vector<T> e = exp_nonpositive<T>(get(v) - largest);
      put(v, e);
      sum += e;
    });
    const Vector<T> inverse = T(1) / sum_over_lanes<T>(sum);
    for_each_vector<V>(vectors, [&](auto v) {
      Vector<T> p = get(v) * inverse;
      if (v == last) p = real ? p : Vector<T>{};
      store(row + v * w, p);
      if (a.factor) store(a.dropped + i * a.stride + v * w, p * load(a.factor + i * a.stride + v * w));
    });
  }
}

/// scores ← softmax over columns of (scale · scores + bias). NaN in a row makes the whole row NaN.
template <class T>
inline void softmax_rows(const SoftmaxRows<T>& a) {
  with_vector_count<T>(a.columns, [&](auto count, std::int64_t vectors) { softmax_rows_of<count>(a, vectors); });
}

/// A tile of probabilities with the gradients of what became of them.
template <class T>
struct ScoreGradientRows {
  std::int64_t rows, columns, stride;
  T scale;
  const T* p;       // [rows, stride]
  const T* factor;  // [rows, stride] dropout factors, or null
  T* dp;            // [rows, stride] in: gradient of the dropped probabilities; out: gradient of q · k
  T* dbias;         // [rows, columns] at `dbias_stride`; added to; or null
  std::int64_t dbias_stride;
  T* dbias_end;  // end of this head's part
};

template <int V, class T>
inline void score_gradient_rows_of(const ScoreGradientRows<T>& a, std::int64_t vectors) {
  constexpr int w = kLanes<T>;
  for (std::int64_t i = 0; i < a.rows; ++i) {
    const T* p = a.p + i * a.stride;
    T* dp = a.dp + i * a.stride;
    Vector<T> product{};
    for_each_vector<V>(vectors, [&](auto v) {
      Vector<T> g = load(dp + v * w);
      if (a.factor) g *= load(a.factor + i * a.stride + v * w);
      store(dp + v * w, g);
      product += g * load(p + v * w);
    });
    product = sum_over_lanes<T>(product);
    for_each_vector<V>(vectors, [&](auto v) {
      const Vector<T> ds = load(p + v * w) * (load(dp + v * w) - product);
      store(dp + v * w, ds * a.scale);
      if (!a.dbias) return;
      T* sum = a.dbias + i * a.dbias_stride + v * w;
      if (a.dbias_end - sum >= w) {
        // Lanes past the row add zeros to the next rows, which belong to the same head and so to this thread.
        store(sum, load(sum) + ds);
      } else {
        for (std::int64_t j = 0; j < a.columns - v * w; ++j) sum[j] += ds[j];
      }
    });
  }
}

/// With p the probabilities and dp their gradient: ds = p (dp − Σ p dp), dbias += ds, dp ← scale · ds.
template <class T>
inline void score_gradient_rows(const ScoreGradientRows<T>& a) {
  with_vector_count<T>(a.columns, [&](auto count, std::int64_t vectors) { score_gradient_rows_of<count>(a, vectors); });
}

}  // namespace moleblend::simd
