#pragma once
// What forward and backward share: how a row lies over a warp, and what multiplies its branch.
//
// A warp has a row. Lane l keeps the columns 256 p + 8 l … + 7 of each piece p in registers: 8 columns are 16 bytes of bf16 and one block of
// draws. So every array crosses memory once. Four pieces (width 1,024) are as many as backward has registers for, since its warps also
// keep the running sums of dweight, dbias and dbranch over the rows that they take. Wider rows, and widths that are not a multiple of 8, are swept
// over three times; the second and third time they come out of the cache.

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/dropout.cuh"
#include "kernels/residual_norm/residual_norm.h"

namespace moleblend::cuda {

inline constexpr int kRowsPerBlock = 8, kThreads = 32 * kRowsPerBlock;
inline constexpr int kPieceWidth = 256, kMostPieces = 4;

/// Where a token's draws are.
struct BranchRow {
  std::uint64_t key;
  std::int64_t first;  // the number of the row's first element
};
template <class Args>
__device__ __forceinline__ BranchRow branch_row(const Args& a, std::int64_t token) {
  if (!a.drop_path.active() && !a.hidden_dropout.active()) return {};
  const std::int64_t b = a.packed.token_molecule[token];
  return {a.molecule_key[b], (token - a.packed.token_offset(b)) * a.width};
}

/// What multiplies a branch: 0 where all of it is dropped and where hidden dropout drops an element, else this.
template <class Args>
__device__ __forceinline__ float branch_scale(const Args& a) {
  return (a.drop_path.active() ? static_cast<float>(a.drop_path.scale) : 1.0f) *
         (a.hidden_dropout.active() ? static_cast<float>(a.hidden_dropout.scale) : 1.0f);
}

template <class Args>
__device__ __forceinline__ bool drops_branch(const Args& a, const BranchRow& row) {
  return a.drop_path.active() &&
         !keeps_element(philox_words(row.key, 0, Draw::drop_path, a.layer), 0, upper_threshold(a.drop_path));
}

/// Whether a branch is dropped, and the draws of hidden dropout for a lane's 8 columns of each piece.
template <int Pieces>
struct BranchDraws {
  bool dropped;
  std::uint32_t threshold;
  PhiloxWords words[Pieces];

  template <class Args>
  __device__ __forceinline__ BranchDraws(const Args& a, const BranchRow& row, int first)
      : dropped(false), threshold(upper_threshold(a.hidden_dropout)), words{} {
    if (a.hidden_dropout.active()) {
      // All at once: the branch's own draw costs less among the others than before them.
      std::uint32_t block[Pieces + 1];
      Draw purpose[Pieces + 1];
      PhiloxWords drawn[Pieces + 1];
#pragma unroll
      for (int p = 0; p < Pieces; ++p) {
        block[p] = static_cast<std::uint32_t>((row.first + first) / 8) + p * kPieceWidth / 8;
        purpose[p] = Draw::hidden_dropout;
      }
      block[Pieces] = 0;
      purpose[Pieces] = Draw::drop_path;
      philox_words(row.key, block, purpose, a.layer, drawn);
#pragma unroll
      for (int p = 0; p < Pieces; ++p) words[p] = drawn[p];
      dropped = !keeps_element(drawn[Pieces], 0, upper_threshold(a.drop_path));
    } else if (a.drop_path.active()) {
      dropped = drops_branch(a, row);
    }
  }
  /// Whether hidden dropout keeps column 256 p + first + k.
  __device__ __forceinline__ bool keeps(int p, int k) const {
    return keeps_element(words[p], k, threshold);
  }
};
/// x[k] = 0 where hidden dropout drops column column + k, of N = 8 columns or one.
template <int N, class Args>
__device__ __forceinline__ void drop_columns(const Args& a, const BranchRow& row, std::int64_t column, float (&x)[N]) {
  if (!a.hidden_dropout.active()) return;
  if constexpr (N == 8) {
    const PhiloxWords words =
        philox_words(row.key, static_cast<std::uint32_t>((row.first + column) / 8), Draw::hidden_dropout, a.layer);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      if (!keeps_element(words, k, upper_threshold(a.hidden_dropout))) x[k] = 0;
    }
  } else {
    static_assert(N == 1);
    if (dropout_factor(row.key, Draw::hidden_dropout, a.layer, row.first + column, a.hidden_dropout) == 0) x[0] = 0;
  }
}

__device__ __forceinline__ std::int64_t token_of_warp() {
  return std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32;
}

inline bool fits_registers(std::int64_t width) {
  return width % 8 == 0 && width <= kMostPieces * kPieceWidth;
}

/// Whether lane's columns of piece p are in the row. Of a row of whole pieces the compiler knows that they are.
template <bool Whole>
__device__ __forceinline__ bool in_row(int p, int first, int width) {
  return Whole || p * kPieceWidth + first < width;
}

/// kernel<1, …>() … kernel<kMostPieces, …>(), as many pieces as a row of `width` has; true after it, if they are whole.
template <class Kernel>
void for_pieces(std::int64_t width, const Kernel& kernel) {
  const auto for_ends = [&]<int Pieces>() {
    width == Pieces* kPieceWidth ? kernel.template operator()<Pieces, true>()
                                 : kernel.template operator()<Pieces, false>();
  };
  static_assert(kMostPieces == 4);
  switch ((width + kPieceWidth - 1) / kPieceWidth) {
    case 1:
      return for_ends.template operator()<1>();
    case 2:
      return for_ends.template operator()<2>();
    case 3:
      return for_ends.template operator()<3>();
    default:
      return for_ends.template operator()<4>();
  }
}

}  // namespace moleblend::cuda
