#include "kernels/linear/panels_cpu.h"

#include <stdexcept>

#include "kernels/common/small_product.h"

namespace moleblend::panels {
namespace {

/// Register tile of C: `rows` × `vectors` vectors of `bytes` bytes. Sized to fill the vector registers but three.
struct Tile {
  int rows, vectors, bytes;
};
constexpr Tile kAvx2{6, 2, 32}, kAvx512{12, 2, 64};

template <class T, Tile tile>
[[gnu::always_inline]] inline void multiply_panels(std::int64_t depth, const View<T>& view, const T* __restrict b,
                                                   const Start<T>& start, T* __restrict c, std::int64_t ldc) {
  using Vector [[gnu::vector_size(tile.bytes)]] = T;
  using Unaligned [[gnu::vector_size(tile.bytes), gnu::aligned(alignof(T)), gnu::may_alias]] = T;
  constexpr int kLanes = tile.bytes / static_cast<int>(sizeof(T));
  // C is wanted after the loop, which is about as long as fetching it from memory takes.
  for (int i = 0; i < tile.rows; ++i) {
    __builtin_prefetch(c + i * ldc, 1);
    __builtin_prefetch(c + i * ldc + tile.vectors * kLanes - 1, 1);
  }
  Vector sum[tile.rows][tile.vectors] = {};
  const T* __restrict a = view.data;
  const std::int64_t row = view.row, column_step = view.column;
  for (std::int64_t p = 0; p < depth; ++p) {
    Vector column[tile.vectors];
#pragma GCC unroll 4
    for (int v = 0; v < tile.vectors; ++v) column[v] = *reinterpret_cast<const Unaligned*>(b + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < tile.rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < tile.vectors; ++v) sum[i][v] += a[i * row] * column[v];
    }
    a += column_step;
    b += tile.vectors * kLanes;
  }
#pragma GCC unroll 16
  for (int i = 0; i < tile.rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < tile.vectors; ++v) {
      auto* out = reinterpret_cast<Unaligned*>(c + i * ldc + v * kLanes);
      if (start.row) {
        *out = sum[i][v] + *reinterpret_cast<const Unaligned*>(start.row + v * kLanes);
      } else if (start.beta == T(0)) {
        *out = sum[i][v];
      } else {
        *out = sum[i][v] + start.beta * *out;
      }
    }
  }
}

template <class T>
void multiply_baseline(std::int64_t depth, const View<T>& a, const T* b, const Start<T>& start, T* c,
                       std::int64_t ldc) {
  multiply_panels<T, kAvx2>(depth, a, b, start, c, ldc);
}
template <class T, Tile tile>
constexpr Kernel<T> kernel_of(decltype(Kernel<T>::multiply) multiply) {
  return {tile.rows, tile.vectors * tile.bytes / static_cast<std::int64_t>(sizeof(T)), multiply};
}

#if defined(__x86_64__)
template <class T>
[[gnu::target("avx512f")]] void multiply_avx512(std::int64_t depth, const View<T>& a, const T* b, const Start<T>& start,
                                                T* c, std::int64_t ldc) {
  multiply_panels<T, kAvx512>(depth, a, b, start, c, ldc);
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

/// pack() where a row of the panel's lies along memory: squares of vectors are transposed in registers. Where the width is no whole
/// number of vectors, the last one reaches into the place of the next column, which is written after it.
template <std::int64_t width, class T>
void pack_along_depth(const View<T>& v, std::int64_t count, std::int64_t depth, T* out) {
  constexpr int w = simd::kLanes<T>;
  for (std::int64_t first = 0; first < count; first += width, out += width * depth) {
    const std::int64_t here = std::min(width, count - first);
    std::int64_t p = 0;
    for (; p + w <= depth; p += w) {
      for (std::int64_t r = (width - 1) / w * w; r >= 0; r -= w) {
        simd::Vector<T> block[w];
        for (int k = 0; k < w; ++k)
          block[k] = r + k < here ? simd::load(v.data + (first + r + k) * v.row + p) : simd::Vector<T>{};
        simd::transpose_block(block);
        for (int k = 0; k < w; ++k) simd::store(out + (p + k) * width + r, block[k]);
      }
    }
    for (; p < depth; ++p) {
      for (std::int64_t r = 0; r < width; ++r) out[p * width + r] = r < here ? v.data[(first + r) * v.row + p] : T(0);
    }
  }
}

/// pack() where what lies side by side in the panel does so in memory. Several panels go together, so that the lines they share are
/// read once. The last column is copied by elements: a whole vector could reach past the matrix, and into the next panel.
template <std::int64_t width, bool summed, class T>
void pack_across(const View<T>& v, std::int64_t count, std::int64_t depth, T* out, T* sums) {
  constexpr int w = simd::kLanes<T>;
  constexpr std::int64_t kPanels = 16, kVectors = (width + w - 1) / w, kAhead = 8;
  const std::int64_t whole = count / width;
  for (std::int64_t panel = 0; panel < whole; panel += kPanels) {
    const std::int64_t panels = std::min(kPanels, whole - panel);
    const T* from = v.data + panel * width;
    T* to = out + panel * depth * width;
    for (std::int64_t first = 0; first + 1 < depth; first += kSumRows) {
      simd::Vector<T> partial[kPanels][kVectors] = {};
      const std::int64_t end = std::min(depth - 1, first + kSumRows);
      for (std::int64_t p = first; p < end; ++p, from += v.column, to += width) {
        for (std::int64_t q = 0; q < panels; ++q) {
          __builtin_prefetch(from + kAhead * v.column + q * width);
          for (std::int64_t k = 0; k < kVectors; ++k) {
            const simd::Vector<T> x = simd::load(from + q * width + k * w);
            simd::store(to + q * width * depth + k * w, x);
            if (summed) partial[q][k] += x;
          }
        }
      }
      for (std::int64_t i = 0; summed && i < panels * width; ++i)
        sums[panel * width + i] += partial[i / width][i % width / w][i % width % w];
    }
    for (std::int64_t q = 0; q < panels; ++q) std::copy_n(from + q * width, width, to + q * width * depth);
    for (std::int64_t i = 0; summed && i < panels * width; ++i) sums[panel * width + i] += from[i];
  }
  if (const std::int64_t rest = count - whole * width; rest > 0) {
    T* to = out + whole * width * depth;
    const T* from = v.data + whole * width;
    for (std::int64_t p = 0; p < depth; ++p) {
      for (std::int64_t r = 0; r < width; ++r) to[p * width + r] = r < rest ? from[p * v.column + r] : T(0);
    }
    for (std::int64_t r = 0; summed && r < rest; ++r) {
      for (std::int64_t first = 0; first + 1 < depth; first += kSumRows) {
        T partial = 0;
        for (std::int64_t p = first; p < std::min(depth - 1, first + kSumRows); ++p) partial += from[p * v.column + r];
        sums[whole * width + r] += partial;
      }
      sums[whole * width + r] += from[(depth - 1) * v.column + r];
    }
  }
}

template <std::int64_t width, class T>
void pack_panels(const View<T>& v, std::int64_t count, std::int64_t depth, T* out, T* sums) {
  if (v.row != 1)
    pack_along_depth<width>(v, count, depth, out);
  else if (sums)
    pack_across<width, true>(v, count, depth, out, sums);
  else
    pack_across<width, false>(v, count, depth, out, sums);
}

/// Elements of P that the largest register tile of any kernel takes.
template <class P>
constexpr std::int64_t kLargestTile = kAvx512.rows* kAvx512.vectors* kAvx512.bytes / std::int64_t{sizeof(P)};

}  // namespace

template <class T>
const Kernel<T>& kernel() {
  static const Kernel<T> best = best_kernel<T>();
  return best;
}

template <class T>
void pack(const View<Wide<T>>& v, std::int64_t count, std::int64_t depth, std::int64_t width, T* out, Wide<T>* sums) {
  switch (width) {
    case kAvx2.rows:
      return pack_panels<kAvx2.rows>(v, count, depth, out, sums);
    case kAvx512.rows:
      return pack_panels<kAvx512.rows>(v, count, depth, out, sums);
    case 8:
      return pack_panels<8>(v, count, depth, out, sums);
    case 16:
      return pack_panels<16>(v, count, depth, out, sums);
    case 32:
      return pack_panels<32>(v, count, depth, out, sums);
    default:
      throw std::logic_error("no kernel has panels of this width");
  }
}

template <class P>
std::int64_t scratch_size(std::int64_t rows, std::int64_t depth) {
  return kLargestTile<P> + packed_size(rows, depth, kernel<P>().rows);
}

template <class P>
BlockOfA<P> block_of_a(std::int64_t rows, std::int64_t columns, std::int64_t depth, const View<Wide<P>>& a, P* scratch,
                       Wide<P>* sums) {
  // Packing costs about one and a half percent of a product with 256 columns; reading in place two percent of any.
  constexpr std::int64_t kFewColumns = 512;
  const std::int64_t tile_rows = kernel<P>().rows;
  P* const packed = scratch + kLargestTile<P>;
  BlockOfA<P> block{rows, depth, 0, {}, {packed, kTogether<P>, kTogether<P> * tile_rows}};
  const bool along = a.row != 1;
  if constexpr (std::is_same_v<P, bf16>) {
    // Rows that lie along the depth stay rows: rounding them is all that they need, and a broadcast takes two of their elements.
    if (along) {
      block.packed = {packed, panel_depth<P>(depth), kTogether<P>};
      round_rows(a, rows, depth, round_up(rows, tile_rows), packed);
    } else {
      pack<P>(a, rows, depth, tile_rows, packed, sums);
    }
  } else {
    // Rows that no tile is full of are packed in any case: the kernel would read past them.
    if (along && columns <= kFewColumns) block.in_place = rows / tile_rows * tile_rows;
    block.where_it_lies = a;
    if (block.in_place < rows)
      pack<P>(a.from(block.in_place, 0), rows - block.in_place, depth, tile_rows, packed, sums);
  }
  return block;
}

template <class P>
void multiply_block(const BlockOfA<P>& a, std::int64_t columns, const P* packed_b, Start<Wide<P>> start, Wide<P>* c,
                    std::int64_t ldc, P* scratch, bool more) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(P));
  const Kernel<P>& k = kernel<P>();
  auto* const edge = reinterpret_cast<Wide<P>*>(scratch);
  const std::int64_t rows = a.rows, deep = panel_depth<P>(a.depth);
  const auto tile_of_a = [&](std::int64_t i) -> View<P> {
    if (i < a.in_place) return a.where_it_lies.from(i, 0);
    return {a.packed.data + (i - a.in_place) * deep, a.packed.row, a.packed.column};
  };
  // While a panel of B is worked on, a tile at a time, as large a piece of the next one is fetched.
  const std::int64_t panel = k.columns * deep, tiles = (rows + k.rows - 1) / k.rows,
                     piece = (panel + tiles - 1) / tiles;
  for (std::int64_t j = 0; j < columns; j += k.columns) {
    const std::int64_t tile_columns = std::min(k.columns, columns - j);
    const P* const panel_b = packed_b + j * deep;
    const P* ahead = panel_b + panel;
    const P* const ahead_end = more || j + k.columns < columns ? ahead + panel : ahead;
    for (std::int64_t i = 0; i < rows; i += k.rows) {
      for (const P* piece_end = std::min(ahead + piece, ahead_end); ahead < piece_end; ahead += kLine)
        __builtin_prefetch(ahead, 0, 2);
      const std::int64_t tile_rows = std::min(k.rows, rows - i);
      Wide<P>* out = c + i * ldc + j;
      if (tile_rows == k.rows && tile_columns == k.columns) {
        k.multiply(deep, tile_of_a(i), panel_b, start.columns_from(j), out, ldc);
        continue;
      }
      k.multiply(deep, tile_of_a(i), panel_b, {0, nullptr}, edge, k.columns);
      for (std::int64_t r = 0; r < tile_rows; ++r) {
        for (std::int64_t s = 0; s < tile_columns; ++s) {
          Wide<P>& o = out[r * ldc + s];
          o = (start.row ? start.row[j + s] : start.beta == 0 ? Wide<P>(0) : start.beta * o) + edge[r * k.columns + s];
        }
      }
    }
  }
}

template const Kernel<float>& kernel();
template const Kernel<double>& kernel();
template void pack(const View<float>&, std::int64_t, std::int64_t, std::int64_t, float*, float*);
template void pack(const View<double>&, std::int64_t, std::int64_t, std::int64_t, double*, double*);
template std::int64_t scratch_size<float>(std::int64_t, std::int64_t);
template std::int64_t scratch_size<double>(std::int64_t, std::int64_t);
template std::int64_t scratch_size<bf16>(std::int64_t, std::int64_t);
template BlockOfA<float> block_of_a(std::int64_t, std::int64_t, std::int64_t, const View<float>&, float*, float*);
template BlockOfA<double> block_of_a(std::int64_t, std::int64_t, std::int64_t, const View<double>&, double*, double*);
template BlockOfA<bf16> block_of_a(std::int64_t, std::int64_t, std::int64_t, const View<float>&, bf16*, float*);
template void multiply_block(const BlockOfA<float>&, std::int64_t, const float*, Start<float>, float*, std::int64_t,
                             float*, bool);
template void multiply_block(const BlockOfA<double>&, std::int64_t, const double*, Start<double>, double*, std::int64_t,
                             double*, bool);
template void multiply_block(const BlockOfA<bf16>&, std::int64_t, const bf16*, Start<float>, float*, std::int64_t,
                             bf16*, bool);

}  // namespace moleblend::panels
