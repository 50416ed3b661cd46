#include <algorithm>
#include <cstdint>

#include "kernels/activation/gelu.cuh"
#include "kernels/common/carve.h"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/pair_head/pair_head.h"

// How the work lies on the machine: a block of 32 features lies on neighbouring lanes, 16 bytes on each (4 lanes of bf16, 8 of float), so
// that memory is read and written in whole transactions and a mean costs two or three shuffles. All passes over memory are single ones.
//
// Backward gives a thread block one map and every kMostPartial-th piece of its rows, so that a thread's sums of dweight and dbias stay in
// its registers; a second kernel adds the sums of the blocks in a fixed order.

namespace moleblend {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kWarps = kThreads / 32, kWidth = static_cast<int>(kPairWidth);
// Partial sums a map. With six maps these blocks fill the GPUs of today; a number of its own, so that every GPU adds in the same order.
constexpr std::int64_t kMostPartial = 128;

template <class T>
inline constexpr int kValues = 16 / static_cast<int>(sizeof(T));  // of a lane
template <class T>
inline constexpr int kLanes = kWidth / kValues<T>;  // of a block of features
template <class T>
inline constexpr int kBlocks = kThreads / kLanes<T>;  // blocks of features that a thread block holds

/// A lane's values of a map's parameter.
template <int N>
__device__ __forceinline__ void load_parameter(const float* p, float (&x)[N]) {
#pragma unroll
  for (int k = 0; k < N; k += 4) {
    float piece[4];
    load<4>(p + k, piece);
#pragma unroll
    for (int v = 0; v < 4; ++v) x[k + v] = piece[v];
  }
}

/// Sum over the lanes of a block of features, the same on each.
template <class T>
__device__ __forceinline__ float block_sum(float x) {
#pragma unroll
  for (int step = kLanes<T> / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}

/// From gelu(x) to (gelu(x) − mean) · rstd; returns rstd.
template <class T>
__device__ __forceinline__ float normalise(float (&z)[kValues<T>]) {
  float sum = 0, squares = 0;
#pragma unroll
  for (int k = 0; k < kValues<T>; ++k) sum += z[k];
  const float mean = block_sum<T>(sum) * (1.0f / kWidth);
#pragma unroll
  for (int k = 0; k < kValues<T>; ++k) {
    z[k] -= mean;
    squares += z[k] * z[k];
  }
  const float rstd = 1.0f / sqrtf(block_sum<T>(squares) * (1.0f / kWidth) + static_cast<float>(kPairNormEpsilon));
#pragma unroll
  for (int k = 0; k < kValues<T>; ++k) z[k] *= rstd;
  return rstd;
}

template <class T>
__global__ void __launch_bounds__(kThreads) map_forward(const PairMapForward<T> a) {
  constexpr int N = kValues<T>;
  const std::int64_t block = std::int64_t{blockIdx.x} * kBlocks<T> + threadIdx.x / kLanes<T>;
  const bool inside = block < a.rows * a.maps;
  const int column = static_cast<int>(threadIdx.x) % kLanes<T> * N;
  float z[N] = {};
  if (inside) load<N>(a.x + block * kWidth + column, z);
#pragma unroll
  for (int k = 0; k < N; ++k) z[k] = gelu(z[k]);
  normalise<T>(z);  // by all lanes, since it shuffles
  if (!inside) return;
  float weight[N], bias[N];
  load_parameter(a.weight + block % a.maps * kWidth + column, weight);
  load_parameter(a.bias + block % a.maps * kWidth + column, bias);
#pragma unroll
  for (int k = 0; k < N; ++k) z[k] = z[k] * weight[k] + bias[k];
  store<N>(a.y + block * kWidth + column, z);
}

/// Block (g, map) takes the pieces g, g + grid, … of kBlocks rows; part [grid, 2, maps, 32] becomes its sums of dweight and dbias.
template <class T>
__global__ void __launch_bounds__(kThreads) map_backward(const PairMapBackward<T> a, float* part) {
  constexpr int N = kValues<T>;
  GPU_SHARED(float, sums, [kWarps][2][kWidth]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column = lane % kLanes<T> * N;
  const std::int64_t map = blockIdx.y;
  float weight[N], dweight[N] = {}, dbias[N] = {};
  load_parameter(a.weight + map * kWidth + column, weight);
  for (std::int64_t first = std::int64_t{blockIdx.x} * kBlocks<T>; first < a.rows;
       first += std::int64_t{gridDim.x} * kBlocks<T>) {
    const std::int64_t row = first + threadIdx.x / kLanes<T>, at = (row * a.maps + map) * kWidth + column;
    const bool inside = row < a.rows;
    float z[N] = {}, dy[N] = {}, slope[N];
    if (inside) {
      load<N>(a.x + at, z);
      load<N>(a.dy + at, dy);
    }
#pragma unroll
    for (int k = 0; k < N; ++k) {
      slope[k] = gelu_derivative(z[k]);
      z[k] = gelu(z[k]);
    }
    const float rstd = normalise<T>(z);
    float sum = 0, along = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (inside) {
        dweight[k] += dy[k] * z[k];
        dbias[k] += dy[k];
      }
      dy[k] *= weight[k];
      sum += dy[k];
      along += dy[k] * z[k];
    }
    const float mean = block_sum<T>(sum) * (1.0f / kWidth), slant = block_sum<T>(along) * (1.0f / kWidth);
#pragma unroll
    for (int k = 0; k < N; ++k) dy[k] = slope[k] * rstd * (dy[k] - mean - z[k] * slant);
    if (inside) store<N>(a.dx + at, dy);
  }
#pragma unroll
  for (int k = 0; k < N; ++k) {
#pragma unroll
    for (int step = 16; step >= kLanes<T>; step /= 2) {
      dweight[k] += __shfl_xor_sync(kFullWarp, dweight[k], step);
      dbias[k] += __shfl_xor_sync(kFullWarp, dbias[k], step);
    }
    if (lane < kLanes<T>) {
      sums[warp][0][column + k] = dweight[k];
      sums[warp][1][column + k] = dbias[k];
    }
  }
  __syncthreads();
  if (threadIdx.x < 2 * kWidth) {
    const int which = static_cast<int>(threadIdx.x) / kWidth, k = static_cast<int>(threadIdx.x) % kWidth;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += sums[w][which][k];
    part[((std::int64_t{blockIdx.x} * 2 + which) * a.maps + map) * kWidth + k] = sum;
  }
}

/// A warp a parameter: to [count] += Σ over `parts`, dweight and dbias one after the other.
__global__ void __launch_bounds__(kThreads)
    add_parts(const float* part, std::int64_t parts, std::int64_t count, float* dweight, float* dbias) {
  const std::int64_t k = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (k >= 2 * count) return;
  float sum = 0;
  for (std::int64_t g = threadIdx.x % 32; g < parts; g += 32) sum += part[g * 2 * count + k];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) *(k < count ? dweight + k : dbias + (k - count)) += sum;
}

}  // namespace

template <class T>
void pair_map_forward(Gpu& gpu, const PairMapForward<T>& a) {
  launch(gpu, map_forward<T>, blocks_for(a.rows * a.maps, kBlocks<T>), kThreads, 0, a);
}

template <class T>
void pair_map_backward(Gpu& gpu, const PairMapBackward<T>& a) {
  const std::int64_t parts = std::min(kMostPartial, (a.rows + kBlocks<T> - 1) / kBlocks<T>), count = a.maps * kWidth;
  if (parts == 0 || a.maps == 0) return;
  Carver carver(gpu.scratch(static_cast<std::size_t>(2 * parts * count) * sizeof(float)));
  float* part = carver.take<float>(2 * parts * count);
  launch(gpu, map_backward<T>, dim3(static_cast<unsigned>(parts), static_cast<unsigned>(a.maps)), kThreads, 0, a, part);
  launch(gpu, add_parts, blocks_for(2 * count, kWarps), kThreads, 0, part, parts, count, a.dweight, a.dbias);
}

template void pair_map_forward(Gpu&, const PairMapForward<float>&);
template void pair_map_forward(Gpu&, const PairMapForward<bf16>&);
template void pair_map_backward(Gpu&, const PairMapBackward<float>&);
template void pair_map_backward(Gpu&, const PairMapBackward<bf16>&);

}  // namespace moleblend
