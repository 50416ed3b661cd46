#include "kernels/residual_norm/row.cuh"

// LayerNorm of x + branch, forward: a warp a row (row.cuh), mean and variance in two steps over registers.

namespace moleblend {
namespace {

using namespace cuda;

/// y and normalised at `column`, from v = normalised.
template <int N, class T>
__device__ __forceinline__ void store_normalised(const ResidualNormForward<T>& a, std::int64_t row, std::int64_t column,
                                                 float (&v)[N]) {
  if (a.normalised) store<N>(a.normalised + row + column, v);
  float weight[N], bias[N];
  load<N>(a.weight + column, weight);
  load<N>(a.bias + column, bias);
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] = v[k] * weight[k] + bias[k];
  store<N>(a.y + row + column, v);
}

__device__ __forceinline__ float reciprocal_deviation(float variance) {
  return 1.0f / sqrtf(variance + static_cast<float>(kLayerNormEpsilon));
}

template <class T, int Pieces, bool Whole>
__global__ void __launch_bounds__(kThreads) forward_in_registers(const ResidualNormForward<T> a, float inverse_width) {
  const std::int64_t token = token_of_warp();
  if (token >= a.packed.tokens()) return;
  const auto width = static_cast<int>(a.width), first = static_cast<int>(threadIdx.x % 32 * 8);
  const std::int64_t row = token * width;
  float v[Pieces][8] = {};
  float sum = 0;
#pragma unroll
  for (int p = 0; p < Pieces; ++p) {
    if (in_row<Whole>(p, first, width)) load<8>(a.x + row + p * kPieceWidth + first, v[p]);
  }
  if (a.branch) {
    // Read before it is known whether it is dropped: seldom in vain, and the draws are made meanwhile.
    float branch[Pieces][8] = {};
#pragma unroll
    for (int p = 0; p < Pieces; ++p) {
      if (in_row<Whole>(p, first, width)) load<8>(a.branch + row + p * kPieceWidth + first, branch[p]);
    }
    const BranchDraws<Pieces> draws(a, branch_row(a, token), first);
    if (!draws.dropped) {
      const float scale = branch_scale(a);
#pragma unroll
      for (int p = 0; p < Pieces; ++p) {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          if (draws.keeps(p, k)) v[p][k] += scale * branch[p][k];
        }
      }
    }
  }
#pragma unroll
  for (int p = 0; p < Pieces; ++p) {
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += v[p][k];
  }
  const float mean = warp_sum(sum) * inverse_width;
  float squares = 0;
#pragma unroll
  for (int p = 0; p < Pieces; ++p) {
    const bool inside = in_row<Whole>(p, first, width);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      v[p][k] -= mean;
      squares += inside ? v[p][k] * v[p][k] : 0.0f;
    }
  }
  const float rstd = reciprocal_deviation(warp_sum(squares) * inverse_width);
  if (a.rstd && first == 0) a.rstd[token] = rstd;
#pragma unroll
  for (int p = 0; p < Pieces; ++p) {
    if (!in_row<Whole>(p, first, width)) continue;
#pragma unroll
    for (int k = 0; k < 8; ++k) v[p][k] *= rstd;
    store_normalised<8>(a, row, p * kPieceWidth + first, v[p]);
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) forward_in_sweeps(const ResidualNormForward<T> a, float inverse_width) {
  const std::int64_t token = token_of_warp();
  if (token >= a.packed.tokens()) return;
  const std::int64_t row = token * a.width, first = threadIdx.x % 32 * N;
  const BranchRow draws = a.branch ? branch_row(a, token) : BranchRow{};
  const bool has_branch = a.branch && !drops_branch(a, draws);
  const float scale = branch_scale(a);
  float v[N];
  const auto load_sum = [&](std::int64_t column) {
    load<N>(a.x + row + column, v);
    if (!has_branch) return;
    float branch[N];
    load<N>(a.branch + row + column, branch);
    drop_columns<N>(a, draws, column, branch);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] += scale * branch[k];
  };
  float sum = 0;
  for (std::int64_t column = first; column < a.width; column += 32 * N) {
    load_sum(column);
#pragma unroll
    for (int k = 0; k < N; ++k) sum += v[k];
  }
  const float mean = warp_sum(sum) * inverse_width;
  float squares = 0;
  for (std::int64_t column = first; column < a.width; column += 32 * N) {
    load_sum(column);
#pragma unroll
    for (int k = 0; k < N; ++k) squares += (v[k] - mean) * (v[k] - mean);
  }
  const float rstd = reciprocal_deviation(warp_sum(squares) * inverse_width);
  if (a.rstd && first == 0) a.rstd[token] = rstd;
  for (std::int64_t column = first; column < a.width; column += 32 * N) {
    load_sum(column);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] = (v[k] - mean) * rstd;
    store_normalised<N>(a, row, column, v);
  }
}

}  // namespace

template <class T>
void residual_norm_forward(Gpu& gpu, const ResidualNormForward<T>& a) {
  const unsigned blocks = blocks_for(a.packed.tokens(), kRowsPerBlock);
  const float inverse_width = 1.0f / static_cast<float>(a.width);
  if (fits_registers(a.width)) {
    for_pieces(a.width, [&]<int Pieces, bool Whole>() {
      launch(gpu, forward_in_registers<T, Pieces, Whole>, blocks, kThreads, 0, a, inverse_width);
    });
  } else {
    launch(gpu, a.width % 8 == 0 ? forward_in_sweeps<T, 8> : forward_in_sweeps<T, 1>, blocks, kThreads, 0, a,
           inverse_width);
  }
}

template void residual_norm_forward(Gpu&, const ResidualNormForward<float>&);
template void residual_norm_forward(Gpu&, const ResidualNormForward<bf16>&);

}  // namespace moleblend
