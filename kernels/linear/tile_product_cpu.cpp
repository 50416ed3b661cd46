// A thread's matrix product, after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS
// 34 (2008) 12: blocks of both operands are copied into panels that the innermost loop reads in order, so that
// transposes and ragged edges cost nothing there, and that loop keeps its piece of C in registers.

#include <algorithm>

#include "kernels/linear/linear.h"

namespace moleblend {
namespace {

/// Register tile of C: `rows` × `vectors` vectors of `bytes` bytes. Sized to fill the vector registers but three.
struct Tile {
  int rows, vectors, bytes;
};
constexpr Tile kAvx2{6, 2, 32}, kAvx512{12, 2, 64};

// Cache blocks: a panel of B (kDepth deep) stays in the first level, a block of A (kRows × kDepth) in the second, a
// block of B (kDepth × kColumns) in the third.
constexpr std::int64_t kRows = 96, kColumns = 1024, kDepth = 256;

/// c [tile rows, ldc] = Σ_p a[p, :] ⊗ b[p, :] + beta · c over a packed panel of each. Every element is one chain of fma
/// in the order of p, so that the result does not depend on the tile, hence not on the instruction set.
template <class T, Tile tile>
[[gnu::always_inline]] inline void multiply_panels(std::int64_t depth, const T* __restrict a, const T* __restrict b,
                                                   T beta, T* __restrict c, std::int64_t ldc) {
  using Vector [[gnu::vector_size(tile.bytes)]] = T;
  using Unaligned [[gnu::vector_size(tile.bytes), gnu::aligned(alignof(T)), gnu::may_alias]] = T;
  constexpr int kLanes = tile.bytes / static_cast<int>(sizeof(T));
  Vector sum[tile.rows][tile.vectors] = {};
  for (std::int64_t p = 0; p < depth; ++p) {
    Vector column[tile.vectors];
#pragma GCC unroll 4
    for (int v = 0; v < tile.vectors; ++v) column[v] = *reinterpret_cast<const Unaligned*>(b + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < tile.rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < tile.vectors; ++v) sum[i][v] += a[i] * column[v];
    }
    a += tile.rows;
    b += tile.vectors * kLanes;
  }
#pragma GCC unroll 16
  for (int i = 0; i < tile.rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < tile.vectors; ++v) {
      auto* out = reinterpret_cast<Unaligned*>(c + i * ldc + v * kLanes);
      if (beta == T(0)) {
        *out = sum[i][v];
      } else {
        *out = sum[i][v] + beta * *out;
      }
    }
  }
}

template <class T>
struct Kernel {
  std::int64_t rows, columns;  // of the register tile
  void (*multiply)(std::int64_t depth, const T* a, const T* b, T beta, T* c, std::int64_t ldc);
};

template <class T>
void multiply_baseline(std::int64_t depth, const T* a, const T* b, T beta, T* c, std::int64_t ldc) {
  multiply_panels<T, kAvx2>(depth, a, b, beta, c, ldc);
}
template <class T, Tile tile>
constexpr Kernel<T> kernel_of(decltype(Kernel<T>::multiply) multiply) {
  return {tile.rows, tile.vectors * tile.bytes / static_cast<std::int64_t>(sizeof(T)), multiply};
}

#if defined(__x86_64__)
template <class T>
[[gnu::target("avx512f")]] void multiply_avx512(std::int64_t depth, const T* a, const T* b, T beta, T* c,
                                                std::int64_t ldc) {
  multiply_panels<T, kAvx512>(depth, a, b, beta, c, ldc);
}
template <class T>
Kernel<T> best_kernel() {
  return __builtin_cpu_supports("avx512f") ? kernel_of<T, kAvx512>(multiply_avx512<T>)
                                           : kernel_of<T, kAvx2>(multiply_baseline<T>);
}
#else
template <class T>
Kernel<T> best_kernel() {
  return kernel_of<T, kAvx2>(multiply_baseline<T>);
}
#endif

/// A matrix as its rows and columns lie in memory: element (i, j) at data[i · row + j · column], one of the strides
/// being 1.
template <class T>
struct View {
  const T* data;
  std::int64_t row, column;
  const T* at(std::int64_t i, std::int64_t j) const { return data + i * row + j * column; }
};

/// Panels of `width` rows of v [count, depth], each panel as [depth, width], the last filled up with zeros.
template <class T>
void pack(const View<T>& v, std::int64_t count, std::int64_t depth, std::int64_t width, T* __restrict out) {
  for (std::int64_t first = 0; first < count; first += width, out += width * depth) {
    const std::int64_t here = std::min(width, count - first);
    if (here < width) std::fill_n(out, width * depth, T(0));
    if (v.row == 1) {
      for (std::int64_t p = 0; p < depth; ++p) std::copy_n(v.at(first, p), here, out + p * width);
    } else {
      // Reads along rows, writes in strides of a panel: of the two the reads miss the cache more dearly.
      for (std::int64_t i = 0; i < here; ++i) {
        const T* source = v.at(first + i, 0);
        for (std::int64_t p = 0; p < depth; ++p) out[p * width + i] = source[p];
      }
    }
  }
}

}  // namespace

template <class T>
void tile_product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
                  std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  static const Kernel<T> kernel = best_kernel<T>();
  constexpr std::int64_t kLargestTile =
      kAvx512.rows * kAvx512.vectors * kAvx512.bytes / static_cast<std::int64_t>(sizeof(T));
  thread_local ScratchBlock memory;
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) c[i * ldc + j] = beta == T(0) ? T(0) : beta * c[i * ldc + j];
    }
    return;
  }
  const View<T> rows_of_a = transpose_a ? View<T>{a, 1, lda} : View<T>{a, lda, 1};
  const View<T> columns_of_b = transpose_b ? View<T>{b, ldb, 1} : View<T>{b, 1, ldb};
  const auto round_up = [](std::int64_t x, std::int64_t multiple) { return (x + multiple - 1) / multiple * multiple; };
  const std::int64_t depth_block = std::min(k, kDepth);
  const std::int64_t a_size = round_up(std::min(m, kRows), kernel.rows) * depth_block;
  const std::int64_t b_size = round_up(std::min(n, kColumns), kernel.columns) * depth_block;
  // Each part of the scratch starts on a cache line.
  const std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(T));
  T* const packed_b = static_cast<T*>(memory.reserve(
      static_cast<std::size_t>(round_up(b_size, line) + round_up(a_size, line) + kLargestTile) * sizeof(T)));
  T* const packed_a = packed_b + round_up(b_size, line);
  T* const edge = packed_a + round_up(a_size, line);

  for (std::int64_t p0 = 0; p0 < k; p0 += kDepth) {
    const std::int64_t depth = std::min(kDepth, k - p0);
    const T block_beta = p0 == 0 ? beta : T(1);
    for (std::int64_t j0 = 0; j0 < n; j0 += kColumns) {
      const std::int64_t columns = std::min(kColumns, n - j0);
      pack(View<T>{columns_of_b.at(j0, p0), columns_of_b.row, columns_of_b.column}, columns, depth, kernel.columns,
           packed_b);
      for (std::int64_t i0 = 0; i0 < m; i0 += kRows) {
        const std::int64_t rows = std::min(kRows, m - i0);
        pack(View<T>{rows_of_a.at(i0, p0), rows_of_a.row, rows_of_a.column}, rows, depth, kernel.rows, packed_a);
        for (std::int64_t j = 0; j < columns; j += kernel.columns) {
          for (std::int64_t i = 0; i < rows; i += kernel.rows) {
            const T* panel_a = packed_a + i * depth;
            const T* panel_b = packed_b + j * depth;
            T* out = c + (i0 + i) * ldc + j0 + j;
            const std::int64_t tile_rows = std::min(kernel.rows, rows - i),
                               tile_columns = std::min(kernel.columns, columns - j);
            if (tile_rows == kernel.rows && tile_columns == kernel.columns) {
              kernel.multiply(depth, panel_a, panel_b, block_beta, out, ldc);
              continue;
            }
            kernel.multiply(depth, panel_a, panel_b, T(0), edge, kernel.columns);
            for (std::int64_t r = 0; r < tile_rows; ++r) {
              for (std::int64_t s = 0; s < tile_columns; ++s) {
                T& o = out[r * ldc + s];
                o = block_beta == T(0) ? edge[r * kernel.columns + s] : edge[r * kernel.columns + s] + block_beta * o;
              }
            }
          }
        }
      }
    }
  }
}

template void tile_product(bool, bool, std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                           const float*, std::int64_t, float, float*, std::int64_t);
template void tile_product(bool, bool, std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                           const double*, std::int64_t, double, double*, std::int64_t);

}  // namespace moleblend
