#pragma once
// The parts of a matrix product on the CPU, after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM
// TOMS 34 (2008) 12: blocks of both operands are copied into panels that the innermost loop reads in order, so that transposes and
// ragged edges cost nothing there, and that loop keeps its piece of C in registers.
//
// Every element of C is one chain of fma in the order of k, broken at the cache blocks only: it depends neither on the size of the
// register tile, hence not on the instruction set, nor on how rows and columns are shared out to threads.

#include <algorithm>
#include <cstdint>

namespace moleblend::panels {

// Cache blocks: a panel of B (kDepth deep) stays in the first level, a block of A (kRows × kDepth) in the second.
inline constexpr std::int64_t kRows = 192, kDepth = 256;

constexpr std::int64_t round_up(std::int64_t x, std::int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

/// Length of the blocks that k is cut into: at most kDepth, and as equal as multiples of 8 allow.
constexpr std::int64_t depth_block(std::int64_t k) {
  const std::int64_t blocks = (k + kDepth - 1) / kDepth;
  return blocks == 0 ? 0 : round_up((k + blocks - 1) / blocks, 8);
}

/// Height of the blocks that a number of rows is cut into: at most kRows (a multiple of every kernel's), and as equal as whole tiles
/// allow, for every block reads all of B.
constexpr std::int64_t row_block(std::int64_t rows, std::int64_t tile_rows) {
  const std::int64_t blocks = (rows + kRows - 1) / kRows;
  return blocks == 0 ? 0 : round_up((rows + blocks - 1) / blocks, tile_rows);
}

/// What C starts from: the former C times beta, or a row that all its rows start from. Not both.
template <class T>
struct Start {
  T beta;
  const T* row;  // [n], or null
  Start columns_from(std::int64_t j) const { return {beta, row ? row + j : nullptr}; }
};

/// A matrix as its rows and columns lie in memory: element (i, j) at data[i · row + j · column], one of the strides being 1.
template <class T>
struct View {
  const T* data;
  std::int64_t row, column;
  View from(std::int64_t i, std::int64_t j) const { return {data + i * row + j * column, row, column}; }
};

/// A register tile of C: c [rows, columns] = start + Σ_p a(:, p) ⊗ b[p, :], b a panel.
template <class T>
struct Kernel {
  std::int64_t rows, columns;
  void (*multiply)(std::int64_t depth, const View<T>& a, const T* b, const Start<T>& start, T* c, std::int64_t ldc);
};
/// The widest that this machine can run.
template <class T>
const Kernel<T>& kernel();

/// Panels of `width` rows of v [count, depth], each as [depth, width], the last filled up with zeros. `out` has room for
/// packed_size(count, depth, width): a little more than the panels, which is overwritten too unless a vector divides the width.
/// `width` is that of a kernel's rows or columns.
template <class T>
void pack(const View<T>& v, std::int64_t count, std::int64_t depth, std::int64_t width, T* out);
constexpr std::int64_t packed_size(std::int64_t count, std::int64_t depth, std::int64_t width) {
  return round_up(round_up(count, width) * depth + 8, 16);
}

/// Room that multiply_block() needs for `rows` rows of a of a depth.
template <class T>
std::int64_t scratch_size(std::int64_t rows, std::int64_t depth);

/// c [rows, columns] = start + a · b, b in panels. `a` [rows, depth], rows <= kRows, is packed first, unless it lies along memory and
/// serves few panels only.
template <class T>
void multiply_block(std::int64_t rows, std::int64_t columns, std::int64_t depth, const View<T>& a, const T* packed_b,
                    Start<T> start, T* c, std::int64_t ldc, T* scratch);

}  // namespace moleblend::panels
