#pragma once
// What forward and backward share: how a row lies over a warp, and what multiplies its branch.
//
// A warp has a row. Lane l keeps the columns 256 p + 8 l … + 7 of each piece p in registers: 8 columns are 16 bytes of bf16 and one block of
// draws. So every array crosses memory once. Four pieces (width 1,024) are as many as backward has registers for, since its warps also
// keep the running sums of dweight and dbias over the rows that they take. Wider rows, and widths that are not a multiple of 8, are swept
// over three times; the second and third time they come out of the cache.

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/dropout.cuh"
#include "kernels/residual_norm/residual_norm.h"

namespace moleblend::cuda {

inline constexpr int kRowsPerBlock = 8, kThreads = 32 * kRowsPerBlock;
inline constexpr int kPieceWidth = 256, kMostPieces = 4;

/// What multiplies the branch of a token.
struct BranchFactor {
  float path;          // 0 or 1 / (1 − p)
  std::uint64_t key;   // of hidden dropout
  std::int64_t first;  // the number of the row's first element among the draws
};

template <class Args>
__device__ __forceinline__ BranchFactor branch_factor(const Args& a, std::int64_t token) {
  BranchFactor f{1.0f, 0, 0};
  if (!a.drop_path.active() && !a.hidden_dropout.active()) return f;
  const std::int64_t b = a.packed.token_molecule[token];
  f.key = a.molecule_key[b];
  f.first = (token - a.packed.token_offset(b)) * a.width;
  if (a.drop_path.active()) {
    f.path =
        a.drop_path.keeps(philox(f.key, 0, Draw::drop_path, a.layer), 0) ? static_cast<float>(a.drop_path.scale) : 0.0f;
  }
  return f;
}

/// factor[k] of columns column + k.
template <int N, class Args>
__device__ __forceinline__ void element_factors(const Args& a, const BranchFactor& f, std::int64_t column,
                                                float (&factor)[N]) {
  if (!a.hidden_dropout.active()) {
#pragma unroll
    for (int k = 0; k < N; ++k) factor[k] = f.path;
    return;
  }
  if constexpr (N == 8) {
    dropout_factors(f.key, Draw::hidden_dropout, a.layer, static_cast<std::uint32_t>((f.first + column) / 8),
                    a.hidden_dropout, factor);
  } else {
    static_assert(N == 1);
    factor[0] = dropout_factor(f.key, Draw::hidden_dropout, a.layer, f.first + column, a.hidden_dropout);
  }
#pragma unroll
  for (int k = 0; k < N; ++k) factor[k] *= f.path;
}

__device__ __forceinline__ std::int64_t token_of_warp() {
  return std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32;
}

inline bool fits_registers(std::int64_t width) {
  return width % 8 == 0 && width <= kMostPieces * kPieceWidth;
}

/// kernel<1>() … kernel<kMostPieces>(), as many pieces as a row of `width` has.
template <class Kernel>
void for_pieces(std::int64_t width, const Kernel& kernel) {
  static_assert(kMostPieces == 4);
  switch ((width + kPieceWidth - 1) / kPieceWidth) {
    case 1:
      return kernel.template operator()<1>();
    case 2:
      return kernel.template operator()<2>();
    case 3:
      return kernel.template operator()<3>();
    default:
      return kernel.template operator()<4>();
  }
}

}  // namespace moleblend::cuda
