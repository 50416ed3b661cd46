#include <algorithm>

#include "kernels/activation/activation.h"
#include "kernels/activation/gelu.cuh"
#include "kernels/common/cuda/column_sums.h"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/dropout.cuh"

// How the work lies on the machine: a thread takes eight neighbouring elements at a time, which are 16 bytes of bf16 and one block of
// draws. Without dropout the array is one run of elements. With it a block takes whole rows, because a draw's number is told by row and
// column. Rows that do not begin with a block of draws (features not a multiple of 8) are done an element at a time. Where the sum of dx is
// wanted, a thread keeps to its eight columns and adds them up in registers.

namespace moleblend {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kOctetsPerBlock = 4 * kThreads;  // where rows are handed out; a row may be longer

/// v = gelu(x), or dy · gelu'(x), of N elements from `at`.
template <int N, class T>
__device__ __forceinline__ void activate(const GeluForward<T>& a, std::int64_t at, float (&v)[N]) {
  load<N>(a.x + at, v);
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] = cuda::gelu<T>(v[k]);
}
template <int N, class T>
__device__ __forceinline__ void activate(const GeluBackward<T>& a, std::int64_t at, float (&v)[N]) {
  float x[N];
  load<N>(a.x + at, x);
  load<N>(a.dy + at, v);
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] *= cuda::gelu_derivative<T>(x[k]);
}
template <class T>
__device__ __forceinline__ T* output(const GeluForward<T>& a) {
  return a.y;
}
template <class T>
__device__ __forceinline__ T* output(const GeluBackward<T>& a) {
  return a.dx;
}

template <class Args>
__global__ void __launch_bounds__(kThreads) without_dropout(const Args a) {
  const std::int64_t count = a.rows * a.features;
  const std::int64_t first = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * 8;
  if (first + 8 <= count) {
    float v[8];
    activate<8>(a, first, v);
    store<8>(output(a) + first, v);
  } else {
    for (std::int64_t at = first; at < count; ++at) {
      float v[1];
      activate<1>(a, at, v);
      store<1>(output(a) + at, v);
    }
  }
}

/// features is a multiple of 8.
template <class Args>
__global__ void __launch_bounds__(kThreads) with_dropout(const Args a, int rows_per_block) {
  const auto octets = static_cast<unsigned>(a.features / 8);
  const std::int64_t begin = std::int64_t{blockIdx.x} * rows_per_block;
  const std::int64_t end = begin + rows_per_block < a.rows ? begin + rows_per_block : a.rows;
  // The place steps by whole rows and a rest, so that only the first one takes a division.
  const unsigned step_rows = kThreads / octets, step_octets = kThreads % octets;
  const std::uint32_t threshold = upper_threshold(a.dropout);
  const auto scale = static_cast<float>(a.dropout.scale);
  std::int64_t row = begin + threadIdx.x / octets;
  unsigned octet = threadIdx.x % octets;
  while (row < end) {
    const std::int64_t b = a.packed.token_molecule[row];
    const std::int64_t block = (row - a.packed.token_offset(b)) * octets + octet;
    float v[8];
    activate<8>(a, row * a.features + octet * 8, v);
    const PhiloxWords draws =
        philox_words(a.molecule_key[b], static_cast<std::uint32_t>(block), Draw::activation_dropout, a.layer);
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = keeps_element(draws, k, threshold) ? v[k] * scale : 0.0f;
    store<8>(output(a) + row * a.features + octet * 8, v);
    row += step_rows;
    octet += step_octets;
    if (octet >= octets) {
      octet -= octets;
      ++row;
    }
  }
}

template <class Args>
__global__ void __launch_bounds__(kThreads) with_dropout_by_element(const Args a) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= a.rows * a.features) return;
  const std::int64_t b = a.packed.token_molecule[at / a.features];
  const std::int64_t element = at - a.packed.token_offset(b) * a.features;
  float v[1];
  activate<1>(a, at, v);
  v[0] *= dropout_factor(a.molecule_key[b], Draw::activation_dropout, a.layer, element, a.dropout);
  store<1>(output(a) + at, v);
}

constexpr int kSumThreads = 512;  // at most
constexpr std::int64_t kSumBlocks =
    396;  // three a multiprocessor of an H200; not the GPU's own number, so that every GPU adds in the same order

/// partial [blocks, features]: sums of dx over a block's rows. `lanes` threads have a row, 8 columns each, from lanes · blockIdx.y on.
template <class T>
__global__ void __launch_bounds__(kSumThreads, 2)
    backward_with_sums(const GeluBackward<T> a, int lanes, float* partial) {
  GPU_SHARED(float, sums, [kSumThreads * 8]);
  const auto octets = static_cast<int>(a.features / 8);
  const int lane = static_cast<int>(threadIdx.x) % lanes, row_lane = static_cast<int>(threadIdx.x) / lanes;
  const int row_lanes = static_cast<int>(blockDim.x) / lanes, octet = static_cast<int>(blockIdx.y) * lanes + lane;
  const std::uint32_t threshold = upper_threshold(a.dropout);
  const auto scale = static_cast<float>(a.dropout.active() ? a.dropout.scale : 1.0);
  float sum[8] = {};
  if (octet < octets) {
    for (std::int64_t row = std::int64_t{blockIdx.x} * row_lanes + row_lane; row < a.rows;
         row += std::int64_t{gridDim.x} * row_lanes) {
      PhiloxWords draws{};
      if (a.dropout.active()) {
        const std::int64_t b = a.packed.token_molecule[row];
        const std::int64_t block = (row - a.packed.token_offset(b)) * octets + octet;
        draws = philox_words(a.molecule_key[b], static_cast<std::uint32_t>(block), Draw::activation_dropout, a.layer);
      }
      float v[8];
      activate<8>(a, row * a.features + octet * 8, v);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        v[k] = keeps_element(draws, k, threshold) ? v[k] * scale : 0.0f;
        sum[k] += v[k];
      }
      store<8>(a.dx + row * a.features + octet * 8, v);
    }
  }
  store<8>(sums + 8 * threadIdx.x, sum);
  __syncthreads();
  for (int k = static_cast<int>(threadIdx.x); k < 8 * lanes; k += static_cast<int>(blockDim.x)) {
    const std::int64_t column = std::int64_t{blockIdx.y} * 8 * lanes + k;
    if (column >= a.features) continue;
    float total = 0;
    for (int r = 0; r < row_lanes; ++r) total += sums[r * 8 * lanes + k];
    partial[blockIdx.x * a.features + column] = total;
  }
}

template <class T>
void run_with_sums(Gpu& gpu, const GeluBackward<T>& a) {
  const auto lanes = static_cast<int>(std::min<std::int64_t>(a.features / 8, 128));
  const int row_lanes = kSumThreads / lanes;
  const std::int64_t blocks = std::min(kSumBlocks, (a.rows + row_lanes - 1) / row_lanes);
  auto* const partial = static_cast<float*>(gpu.scratch(static_cast<std::size_t>(blocks * a.features) * sizeof(float)));
  launch(gpu, backward_with_sums<T>, dim3(static_cast<unsigned>(blocks), blocks_for(a.features, 8 * lanes)),
         lanes * row_lanes, 0, a, lanes, partial);
  add_partial_sums(gpu, a.features, blocks, partial, {a.dx_sum});
}

template <class Args>
void run(Gpu& gpu, const Args& a) {
  const std::int64_t count = a.rows * a.features;
  if (!a.dropout.active()) {
    launch(gpu, without_dropout<Args>, blocks_for(count, 8 * kThreads), kThreads, 0, a);
  } else if (count > 0 && a.features % 8 == 0) {
    const auto rows_per_block = static_cast<int>(std::max<std::int64_t>(1, kOctetsPerBlock * 8 / a.features));
    launch(gpu, with_dropout<Args>, blocks_for(a.rows, rows_per_block), kThreads, 0, a, rows_per_block);
  } else {
    launch(gpu, with_dropout_by_element<Args>, blocks_for(count, kThreads), kThreads, 0, a);
  }
}

}  // namespace

template <class T>
void gelu_forward(Gpu& gpu, const GeluForward<T>& a) {
  run(gpu, a);
}

template <class T>
void gelu_backward(Gpu& gpu, const GeluBackward<T>& a) {
  if (a.dx_sum && a.rows > 0 && a.features % 8 == 0) return run_with_sums(gpu, a);
  run(gpu, a);
  if (a.dx_sum && a.rows > 0) add_column_sums(gpu, a.rows, a.features, a.dx, a.dx_sum);
}

template void gelu_forward(Gpu&, const GeluForward<float>&);
template void gelu_forward(Gpu&, const GeluForward<bf16>&);
template void gelu_backward(Gpu&, const GeluBackward<float>&);
template void gelu_backward(Gpu&, const GeluBackward<bf16>&);

}  // namespace moleblend
