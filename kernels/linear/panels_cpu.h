#pragma once
// The parts of a matrix product on the CPU, after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM
// TOMS 34 (2008) 12: blocks of both operands are copied into panels that the innermost loop reads in order, so that transposes and
// ragged edges cost nothing there, and that loop keeps its piece of C in registers.
//
// P is what panels hold: float, double, or bf16. Both operands and C are Wide<P> in memory; panels of bf16 hold floats rounded to it, whose
// products are summed in float.
//
// Every element of C is one chain of sums in the order of k, broken at the cache blocks only: it does not depend on how rows and columns
// are shared out to threads, and for float and double, where it is a chain of fma, neither on the size of the register tile, hence not on
// the instruction set.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/common/precision.h"

namespace moleblend::panels {

// Cache blocks: a panel of B (kDepth deep) stays in the first level or, in bf16, comes from the second, where a block of A
// (kRows × kDepth) stays.
// In bf16 there are half the bytes, and half the time in which C and panels of B have to come and go.
template <class P>
inline constexpr std::int64_t kRows = std::is_same_v<P, bf16> ? 384 : 192;
template <class P>
inline constexpr std::int64_t kDepth = std::is_same_v<P, bf16> ? 768 : 256;

/// Depths that lie side by side in a panel, and that a kernel takes at once: [depth / kTogether, width, kTogether].
template <class P>
inline constexpr std::int64_t kTogether = std::is_same_v<P, bf16> ? 2 : 1;

constexpr std::int64_t round_up(std::int64_t x, std::int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

/// Length of the blocks that k is cut into: at most kDepth, and as equal as multiples of 8 (bf16: of 32, a
/// vector) allow.
template <class P>
constexpr std::int64_t depth_block(std::int64_t k) {
  const std::int64_t blocks = (k + kDepth<P> - 1) / kDepth<P>;
  return blocks == 0 ? 0 : round_up((k + blocks - 1) / blocks, kTogether<P> == 1 ? 8 : 32);
}
/// Depth of a panel of `depth`: what is missing to whole groups of kTogether is filled up with zeros.
template <class P>
constexpr std::int64_t panel_depth(std::int64_t depth) {
  return round_up(depth, kTogether<P>);
}

/// Height of the blocks that a number of rows is cut into: at most kRows (a multiple of every kernel's), and as equal as whole tiles
/// allow, for every block reads all of B.
template <class P>
constexpr std::int64_t row_block(std::int64_t rows, std::int64_t tile_rows) {
  const std::int64_t blocks = (rows + kRows<P> - 1) / kRows<P>;
  return blocks == 0 ? 0 : round_up((rows + blocks - 1) / blocks, tile_rows);
}

/// What C starts from: the former C times beta, or a row that all its rows start from. Not both.
template <class T>
struct Start {
  T beta;
  const T* row;  // [n], or null
  Start columns_from(std::int64_t j) const { return {beta, row ? row + j : nullptr}; }
};

/// A matrix as its rows and columns lie in memory: element (i, j) at data[i · row + j · column], one of the strides being 1. For a kernel
/// of bf16 `column` is the way from one pair of columns to the next; the two of a pair are neighbours.
template <class T>
struct View {
  const T* data;
  std::int64_t row, column;
  View from(std::int64_t i, std::int64_t j) const { return {data + i * row + j * column, row, column}; }
};

/// A register tile of C: c [rows, columns] = start + Σ_p a(:, p) ⊗ b[p, :], b a panel. `depth` is a panel's.
template <class P>
struct Kernel {
  std::int64_t rows, columns;
  void (*multiply)(std::int64_t depth, const View<P>& a, const P* b, const Start<Wide<P>>& start, Wide<P>* c,
                   std::int64_t ldc);
};
/// The widest that this machine can run. Of bf16 only where has_bf16_products().
template <class P>
const Kernel<P>& kernel();

/// Panels of `width` rows of v [count, depth], each as [panel_depth, width], the last filled up with zeros. `out` has room for
/// packed_size(count, depth, width): a little more than the panels, which is overwritten too unless a vector divides the width.
/// `width` is that of a kernel's rows or columns.
///
/// `sums` [count] += Σ_p v(:, p) on the way, unless it is null; for a v with v.row = 1 only. Every kSumRows rows are added up by themselves,
/// which keeps the rounding error of long float sums small, and the last row by itself: one order for all widths.
template <class P>
void pack(const View<Wide<P>>& v, std::int64_t count, std::int64_t depth, std::int64_t width, P* out,
          Wide<P>* sums = nullptr);
inline constexpr std::int64_t kSumRows = 64;
template <>
const Kernel<bf16>& kernel();
template <>
void pack(const View<float>& v, std::int64_t count, std::int64_t depth, std::int64_t width, bf16* out, float* sums);
/// Rows [count, depth] of v, which lie along memory, rounded to bf16 into out [out_rows, panel_depth]; the rest of it zero.
void round_rows(const View<float>& v, std::int64_t count, std::int64_t depth, std::int64_t out_rows, bf16* out);
constexpr std::int64_t packed_size(std::int64_t count, std::int64_t depth, std::int64_t width) {
  return round_up(round_up(count, width) * round_up(depth, 2) + 8, 32);
}

/// A block of A, [rows, depth] with rows <= kRows<P>, as kernels take it: its first rows may be read where they lie, the others are packed.
template <class P>
struct BlockOfA {
  std::int64_t rows, depth;
  std::int64_t in_place;  // rows; a multiple of the kernel's
  View<P> where_it_lies, packed;
};

/// Room that the two functions below need together: what is packed of `rows` rows of a depth, and a tile that is not full.
template <class P>
std::int64_t scratch_size(std::int64_t rows, std::int64_t depth);

/// Rows [rows, depth] of a, to be multiplied with `columns` columns: packed into `scratch`, unless they can be read in place and serve few
/// columns only. `sums` as of pack(a).
template <class P>
BlockOfA<P> block_of_a(std::int64_t rows, std::int64_t columns, std::int64_t depth, const View<Wide<P>>& a, P* scratch,
                       Wide<P>* sums = nullptr);

/// c [rows, columns] = start + a · b, b in panels. `scratch` is the calling thread's, which need not be the one that packed a. `more`: another
/// panel lies behind these and is wanted next.
template <class P>
void multiply_block(const BlockOfA<P>& a, std::int64_t columns, const P* packed_b, Start<Wide<P>> start, Wide<P>* c,
                    std::int64_t ldc, P* scratch, bool more = false);

}  // namespace moleblend::panels
