#include <algorithm>

#include "kernels/common/cuda/column_sums.h"
#include "kernels/residual_norm/row.cuh"

// Gradients of x, branch, weight and bias. A fixed number of blocks take the rows in turn and leave a partial sum of dweight, dbias and
// dbranch each, which a second kernel adds in order. Rows that don't fit registers are read once more for these sums.

namespace moleblend {
namespace {

using namespace cuda;

// Backward in registers has one block a multiprocessor: at width 768 twelve warps have the registers that they need, sixteen don't.
template <int Pieces>
constexpr int kSumWarps = Pieces < kMostPieces ? 12 : 8;
// Partial sums of the parameters' gradients: as many as an H200 has multiprocessors. A number of its own, not the GPU's, so that every
// GPU adds in the same order.
constexpr std::int64_t kMostPartial = 132;

/// partial [blocks, sums, D]: a block's sums of dweight, dbias and, of three, dbranch. A warp's rows are kSumWarps · blocks apart.
template <class T, int Pieces, bool Whole>
__global__ void __launch_bounds__(32 * kSumWarps<Pieces>, 1)
    backward_in_registers(const ResidualNormBackward<T> a, float inverse_width, int sums, float* partial) {
  constexpr int kWarpsHere = kSumWarps<Pieces>;
  GPU_SHARED(float, shared, [kSumWarps<Pieces>][kPieceWidth]);
  const auto width = static_cast<int>(a.width), lane = static_cast<int>(threadIdx.x % 32), first = 8 * lane;
  const std::int64_t tokens = a.packed.tokens(), step = std::int64_t{gridDim.x} * kWarpsHere;
  float dweight[Pieces][8] = {}, dbias[Pieces][8] = {}, dbranch[Pieces][8] = {};
  for (std::int64_t token = std::int64_t{blockIdx.x} * kWarpsHere + threadIdx.x / 32; token < tokens; token += step) {
    const std::int64_t row = token * width;
    const BranchRow branch = a.dbranch ? branch_row(a, token) : BranchRow{};  // early: loads that wait for each other
    float g[Pieces][8] = {};
    Piece<8, T> normalised[Pieces];  // as stored: with bf16 half the registers
#pragma unroll
    for (int p = 0; p < Pieces; ++p) {
      if (!in_row<Whole>(p, first, width)) continue;
      load<8>(a.dy + row + p * kPieceWidth + first, g[p]);
      normalised[p] = *reinterpret_cast<const Piece<8, T>*>(a.normalised + row + p * kPieceWidth + first);
    }
    const float rstd = a.rstd[token];
    float sum_g = 0, sum_gx = 0;
#pragma unroll
    for (int p = 0; p < Pieces; ++p) {
      float weight[8] = {};
      if (in_row<Whole>(p, first, width)) load<8>(a.weight + p * kPieceWidth + first, weight);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        dweight[p][k] += g[p][k] * normalised[p][k];
        dbias[p][k] += g[p][k];
        g[p][k] *= weight[k];
        sum_g += g[p][k];
        sum_gx += g[p][k] * normalised[p][k];
      }
    }
    // With x̂ = (x − mean) · rstd and g = dy · weight:  dx = rstd · (g − mean(g) − x̂ · mean(g x̂)).
    const float mean_g = warp_sum(sum_g) * inverse_width, mean_gx = warp_sum(sum_gx) * inverse_width;
#pragma unroll
    for (int p = 0; p < Pieces; ++p) {
#pragma unroll
      for (int k = 0; k < 8; ++k) g[p][k] = rstd * (g[p][k] - mean_g - normalised[p][k] * mean_gx);
      if (in_row<Whole>(p, first, width)) store<8>(a.dx + row + p * kPieceWidth + first, g[p]);
    }
    if (!a.dbranch) continue;
    const BranchDraws<Pieces> draws(a, branch, first);
    const float scale = branch_scale(a);
#pragma unroll
    for (int p = 0; p < Pieces; ++p) {
      // A dropped branch has zeros also where dx is not finite, as on the CPU.
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        g[p][k] = !draws.dropped && draws.keeps(p, k) ? g[p][k] * scale : 0.0f;
        dbranch[p][k] += g[p][k];
      }
      if (in_row<Whole>(p, first, width)) store<8>(a.dbranch + row + p * kPieceWidth + first, g[p]);
    }
  }
  // The warps' sums, piece by piece through shared memory, added in the order of the warps.
#pragma unroll
  for (int s = 0; s < 3 * Pieces; ++s) {
    const int which = s / Pieces, p = s % Pieces;
    if (which >= sums) break;
    store<8>(&shared[threadIdx.x / 32][first], which == 0 ? dweight[p] : which == 1 ? dbias[p] : dbranch[p]);
    __syncthreads();
    for (int k = static_cast<int>(threadIdx.x); k < kPieceWidth && p * kPieceWidth + k < width; k += 32 * kWarpsHere) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarpsHere; ++w) sum += shared[w][k];
      partial[(sums * std::int64_t{blockIdx.x} + which) * width + p * kPieceWidth + k] = sum;
    }
    __syncthreads();
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) backward_in_sweeps(const ResidualNormBackward<T> a, float inverse_width) {
  const std::int64_t token = token_of_warp();
  if (token >= a.packed.tokens()) return;
  const std::int64_t row = token * a.width, first = threadIdx.x % 32 * N;
  const auto load_row = [&](std::int64_t column, float(&g)[N], float(&normalised)[N]) {
    float weight[N];
    load<N>(a.dy + row + column, g);
    load<N>(a.normalised + row + column, normalised);
    load<N>(a.weight + column, weight);
#pragma unroll
    for (int k = 0; k < N; ++k) g[k] *= weight[k];
  };
  float sum_g = 0, sum_gx = 0;
  float g[N], normalised[N];
  for (std::int64_t column = first; column < a.width; column += 32 * N) {
    load_row(column, g, normalised);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      sum_g += g[k];
      sum_gx += g[k] * normalised[k];
    }
  }
  const float mean_g = warp_sum(sum_g) * inverse_width, mean_gx = warp_sum(sum_gx) * inverse_width;
  const float rstd = a.rstd[token];
  const BranchRow draws = a.dbranch ? branch_row(a, token) : BranchRow{};
  const bool dropped = a.dbranch && drops_branch(a, draws);
  const float scale = branch_scale(a);
  for (std::int64_t column = first; column < a.width; column += 32 * N) {
    load_row(column, g, normalised);
#pragma unroll
    for (int k = 0; k < N; ++k) g[k] = rstd * (g[k] - mean_g - normalised[k] * mean_gx);
    store<N>(a.dx + row + column, g);
    if (!a.dbranch) continue;
#pragma unroll
    for (int k = 0; k < N; ++k) g[k] = dropped ? 0.0f : g[k] * scale;
    drop_columns<N>(a, draws, column, g);
    store<N>(a.dbranch + row + column, g);
  }
}

/// partial as above, for any width: blockIdx.x has 32 columns, blockIdx.y a run of rows that its warps share.
template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_columns(const ResidualNormBackward<T> a, std::int64_t rows_per_block, float* partial) {
  GPU_SHARED(float, shared, [2][kRowsPerBlock][32]);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t column = std::int64_t{blockIdx.x} * 32 + lane, begin = std::int64_t{blockIdx.y} * rows_per_block;
  const std::int64_t tokens = a.packed.tokens(),
                     end = begin + rows_per_block < tokens ? begin + rows_per_block : tokens;
  float dweight = 0, dbias = 0;
  if (column < a.width) {
    for (std::int64_t token = begin + warp; token < end; token += kRowsPerBlock) {
      const float dy = to_float(a.dy[token * a.width + column]);
      dweight += dy * to_float(a.normalised[token * a.width + column]);
      dbias += dy;
    }
  }
  shared[0][warp][lane] = dweight;
  shared[1][warp][lane] = dbias;
  __syncthreads();
  if (warp >= 2 || column >= a.width) return;
  float sum = 0;
  for (int w = 0; w < kRowsPerBlock; ++w) sum += shared[warp][w][lane];
  partial[(2 * std::int64_t{blockIdx.y} + warp) * a.width + column] = sum;
}

}  // namespace

template <class T>
void residual_norm_backward(Gpu& gpu, const ResidualNormBackward<T>& a) {
  const std::int64_t width = a.width, tokens = a.packed.tokens();
  if (tokens == 0) return;
  const float inverse_width = 1.0f / static_cast<float>(width);
  const bool sums_branch = a.dbranch && a.dbranch_sum;
  auto* const partial =
      static_cast<float*>(gpu.scratch(static_cast<std::size_t>(kMostPartial * 3 * width) * sizeof(float)));
  std::int64_t count = 0;  // of partial sums
  if (fits_registers(width)) {
    for_pieces(width, [&]<int Pieces, bool Whole>() {
      constexpr int kWarpsHere = kSumWarps<Pieces>;
      count = std::min(kMostPartial, (tokens + kWarpsHere - 1) / kWarpsHere);
      launch(gpu, backward_in_registers<T, Pieces, Whole>, static_cast<unsigned>(count), 32 * kWarpsHere, 0, a,
             inverse_width, sums_branch ? 3 : 2, partial);
    });
    if (sums_branch) return add_partial_sums(gpu, width, count, partial, {a.dweight, a.dbias, a.dbranch_sum});
  } else {
    const std::int64_t rows = std::max<std::int64_t>(64, (tokens + kMostPartial - 1) / kMostPartial);
    count = (tokens + rows - 1) / rows;
    // Before the rows: dx may be written over dy.
    launch(gpu, sum_columns<T>, dim3(blocks_for(width, 32), static_cast<unsigned>(count)), kThreads, 0, a, rows,
           partial);
    const auto kernel = width % 8 == 0 ? backward_in_sweeps<T, 8> : backward_in_sweeps<T, 1>;
    launch(gpu, kernel, blocks_for(tokens, kRowsPerBlock), kThreads, 0, a, inverse_width);
  }
  add_partial_sums(gpu, width, count, partial, {a.dweight, a.dbias});
  if (sums_branch) add_column_sums(gpu, tokens, width, a.dbranch, a.dbranch_sum);
}

template void residual_norm_backward(Gpu&, const ResidualNormBackward<float>&);
template void residual_norm_backward(Gpu&, const ResidualNormBackward<bf16>&);

}  // namespace moleblend
