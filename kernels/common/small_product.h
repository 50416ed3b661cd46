#pragma once
// Products of the small matrices of one head or one molecule (tens of rows, 16 to 64 columns), called inside one
// thread's work. At these sizes a matrix library spends its time on packing and dispatch; here the operands are read
// where they lie.

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/common/simd.h"
#include "kernels/common/wide.h"

namespace moleblend::simd {

/// Element (i, p) of the left operand lies at data[i · row + p · column]: plain, transposed, or a head's columns of a
/// wider matrix.
template <class T>
struct LeftOperand {
  const T* data;
  std::int64_t row, column;
};

/// A tile of R rows and V vectors of columns, held in registers over the whole sum. Not inlined: in larger functions the compiler has not
/// enough registers left for it, and keeps sums in memory.
template <int R, int V, class T>
[[gnu::noinline]] void product_tile(std::int64_t k, const LeftOperand<T>& a, const T* b, std::int64_t ldb, T* c,
                                    std::int64_t ldc, bool add) {
  Vector<T> sum[R][V] = {};
  const T* left = a.data;
  const std::int64_t row = a.row, column = a.column;
  for (std::int64_t p = 0; p < k; ++p, left += column, b += ldb) {
    Vector<T> right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = load(b + v * kLanes<T>);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i][v] += left[i * row] * right[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      T* out = c + i * ldc + v * kLanes<T>;
      store(out, add ? load(out) + sum[i][v] : sum[i][v]);
    }
  }
}

/// All rows of V vectors of columns.
template <int V, class T>
inline void product_panel(std::int64_t m, std::int64_t k, LeftOperand<T> a, const T* b, std::int64_t ldb, T* c,
                          std::int64_t ldc, bool add) {
  constexpr int kRows = V == 1 ? 8 : V == 2 ? 6 : 4;  // as many sums as 16 registers hold beside the operands
  while (m >= kRows) {
    product_tile<kRows, V>(k, a, b, ldb, c, ldc, add);
    a.data += kRows * a.row;
    c += kRows * ldc;
    m -= kRows;
  }
  switch (m) {
    case 7:
      return product_tile<std::min(7, kRows), V>(k, a, b, ldb, c, ldc, add);
    case 6:
      return product_tile<std::min(6, kRows), V>(k, a, b, ldb, c, ldc, add);
    case 5:
      return product_tile<std::min(5, kRows), V>(k, a, b, ldb, c, ldc, add);
    case 4:
      return product_tile<std::min(4, kRows), V>(k, a, b, ldb, c, ldc, add);
    case 3:
      return product_tile<3, V>(k, a, b, ldb, c, ldc, add);
    case 2:
      return product_tile<2, V>(k, a, b, ldb, c, ldc, add);
    case 1:
      return product_tile<1, V>(k, a, b, ldb, c, ldc, add);
    default:
      return;
  }
}

#if defined(__x86_64__)

/// product_tile() in vectors of 16 floats, and where N columns are no whole number of those, one of 8. With twice the registers tiles are
/// higher too. An element's arithmetic is the same.
template <int R, int N>
MOLEBLEND_AVX512 [[gnu::noinline]] void product_tile_avx512(std::int64_t k, const LeftOperand<float>& a, const float* b,
                                                            std::int64_t ldb, float* c, std::int64_t ldc, bool add) {
  using Vector16 [[gnu::vector_size(64)]] = float;
  constexpr int kWide = N / 16, kHalf = N % 16 / 8;
  Vector16 sum[R][kWide > 0 ? kWide : 1] = {};
  Vector<float> rest[R] = {};
  const float* left = a.data;
  const std::int64_t row = a.row, column = a.column;
  for (std::int64_t p = 0; p < k; ++p, left += column, b += ldb) {
    Vector16 right[kWide > 0 ? kWide : 1];
    Vector<float> last{};
#pragma GCC unroll 2
    for (int v = 0; v < kWide; ++v) std::memcpy(&right[v], b + 16 * v, sizeof right[v]);
    if (kHalf) last = load(b + 16 * kWide);
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kWide; ++v) sum[i][v] += left[i * row] * right[v];
      if (kHalf) rest[i] += left[i * row] * last;
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kWide; ++v) {
      float* out = c + i * ldc + 16 * v;
      Vector16 former{};
      if (add) std::memcpy(&former, out, sizeof former);
      if (add) sum[i][v] += former;
      std::memcpy(out, &sum[i][v], sizeof former);
    }
    float* out = c + i * ldc + 16 * kWide;
    if (kHalf) store(out, add ? load(out) + rest[i] : rest[i]);
  }
}

/// All rows of N columns, in tiles of about the same height.
template <int N>
inline void product_panel_avx512(std::int64_t m, std::int64_t k, LeftOperand<float> a, const float* b, std::int64_t ldb,
                                 float* c, std::int64_t ldc, bool add) {
  constexpr int kRows = N <= 16 ? 12 : 8;
  using Tile =
      void (*)(std::int64_t, const LeftOperand<float>&, const float*, std::int64_t, float*, std::int64_t, bool);
  static constexpr auto kTiles = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array<Tile, kRows>{product_tile_avx512<R + 1, N>...};
  }
  (std::make_integer_sequence<int, kRows>());
  for (std::int64_t tiles = (m + kRows - 1) / kRows; tiles > 0; --tiles) {
    const std::int64_t rows = (m + tiles - 1) / tiles;
    kTiles[static_cast<std::size_t>(rows - 1)](k, a, b, ldb, c, ldc, add);
    a.data += rows * a.row;
    c += rows * ldc;
    m -= rows;
  }
}

/// The first columns of small_product(), whole vectors of 8 floats; returns how many.
inline std::int64_t product_columns_avx512(std::int64_t m, std::int64_t n, std::int64_t k, const LeftOperand<float>& a,
                                           const float* b, std::int64_t ldb, float* c, std::int64_t ldc, bool add) {
  std::int64_t j = 0;
  for (std::int64_t left = n / 8; left > 0;) {
    const std::int64_t take = left == 5 ? 3 : std::min<std::int64_t>(left, 4);
    if (take == 4) product_panel_avx512<32>(m, k, a, b + j, ldb, c + j, ldc, add);
    if (take == 3) product_panel_avx512<24>(m, k, a, b + j, ldb, c + j, ldc, add);
    if (take == 2) product_panel_avx512<16>(m, k, a, b + j, ldb, c + j, ldc, add);
    if (take == 1) product_panel_avx512<8>(m, k, a, b + j, ldb, c + j, ldc, add);
    left -= take;
    j += 8 * take;
  }
  return j;
}

#endif

/// C [m, n] = A [m, k] · B [k, n], or added to C; B and C row-major with leading dimensions. Each element's sum runs
/// over k in order, so that it does not depend on m or n.
template <class T>
inline void small_product(std::int64_t m, std::int64_t n, std::int64_t k, const LeftOperand<T>& a, const T* b,
                          std::int64_t ldb, T* c, std::int64_t ldc, bool add = false) {
  constexpr std::int64_t w = kLanes<T>;
  std::int64_t j = 0;
#if defined(__x86_64__)
  if constexpr (std::is_same_v<T, float>)
    if (has_avx512()) j = product_columns_avx512(m, n, k, a, b, ldb, c, ldc, add);
#endif
  while (n - j >= w) {
    // Four vectors are two panels of two, not three and one: a lone vector leaves half of the multiply-adds idle.
    const std::int64_t left = (n - j) / w;
    const std::int64_t take = left == 4 || left == 2 ? 2 : std::min<std::int64_t>(left, 3);
    if (take == 3) product_panel<3>(m, k, a, b + j, ldb, c + j, ldc, add);
    if (take == 2) product_panel<2>(m, k, a, b + j, ldb, c + j, ldc, add);
    if (take == 1) product_panel<1>(m, k, a, b + j, ldb, c + j, ldc, add);
    j += take * w;
  }
  if (j == n) return;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t column = j; column < n; ++column) {
      T sum = add ? c[i * ldc + column] : T(0);
      for (std::int64_t p = 0; p < k; ++p) sum += a.data[i * a.row + p * a.column] * b[p * ldb + column];
      c[i * ldc + column] = sum;
    }
}

/// A square block of vectors turned over its diagonal, in registers.
inline void transpose_block(Vector<float> (&r)[8]) {
  Vector<float> column[2][4];  // of rows 0-3 and 4-7: columns c in the lower half, c + 4 in the upper
  for (int half = 0; half < 2; ++half) {
    const Vector<float>* x = r + 4 * half;
    const auto low01 = __builtin_shufflevector(x[0], x[1], 0, 8, 1, 9, 4, 12, 5, 13);
    const auto high01 = __builtin_shufflevector(x[0], x[1], 2, 10, 3, 11, 6, 14, 7, 15);
    const auto low23 = __builtin_shufflevector(x[2], x[3], 0, 8, 1, 9, 4, 12, 5, 13);
    const auto high23 = __builtin_shufflevector(x[2], x[3], 2, 10, 3, 11, 6, 14, 7, 15);
    column[half][0] = __builtin_shufflevector(low01, low23, 0, 1, 8, 9, 4, 5, 12, 13);
    column[half][1] = __builtin_shufflevector(low01, low23, 2, 3, 10, 11, 6, 7, 14, 15);
    column[half][2] = __builtin_shufflevector(high01, high23, 0, 1, 8, 9, 4, 5, 12, 13);
    column[half][3] = __builtin_shufflevector(high01, high23, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int c = 0; c < 4; ++c) {
    r[c] = __builtin_shufflevector(column[0][c], column[1][c], 0, 1, 2, 3, 8, 9, 10, 11);
    r[c + 4] = __builtin_shufflevector(column[0][c], column[1][c], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}
inline void transpose_block(Vector<double> (&r)[4]) {
  const auto even01 = __builtin_shufflevector(r[0], r[1], 0, 4, 2, 6),
             odd01 = __builtin_shufflevector(r[0], r[1], 1, 5, 3, 7);
  const auto even23 = __builtin_shufflevector(r[2], r[3], 0, 4, 2, 6),
             odd23 = __builtin_shufflevector(r[2], r[3], 1, 5, 3, 7);
  r[0] = __builtin_shufflevector(even01, even23, 0, 1, 4, 5);
  r[1] = __builtin_shufflevector(odd01, odd23, 0, 1, 4, 5);
  r[2] = __builtin_shufflevector(even01, even23, 2, 3, 6, 7);
  r[3] = __builtin_shufflevector(odd01, odd23, 2, 3, 6, 7);
}

/// to [columns, padded(rows)] = fromᵀ, from [rows, columns]; the columns of padding are zero.
template <class T>
inline void transpose_padded(std::int64_t rows, std::int64_t columns, const T* from, std::int64_t ld, T* to) {
  constexpr int w = kLanes<T>;
  const std::int64_t stride = padded(rows), whole = columns / w * w;
  for (std::int64_t r = 0; r < stride; r += w) {
    const std::int64_t present = std::clamp<std::int64_t>(rows - r, 0, w);
    for (std::int64_t c = 0; c < whole; c += w) {
      Vector<T> block[w];
      for (int k = 0; k < w; ++k) block[k] = k < present ? load(from + (r + k) * ld + c) : Vector<T>{};
      transpose_block(block);
      for (int k = 0; k < w; ++k) store(to + (c + k) * stride + r, block[k]);
    }
    for (std::int64_t c = whole; c < columns; ++c)
      for (int k = 0; k < w; ++k) to[c * stride + r + k] = k < present ? from[(r + k) * ld + c] : T(0);
  }
}

}  // namespace moleblend::simd
