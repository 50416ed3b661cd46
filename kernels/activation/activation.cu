#include <algorithm>

#include "kernels/activation/activation.h"
#include "kernels/activation/gelu.cuh"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/dropout.cuh"

// How the work lies on the machine: a thread takes eight neighbouring elements at a time, which are 16 bytes of bf16 and one block of
// draws. Without dropout the array is one run of elements. With it a block takes whole rows, because a draw's number is told by row and
// column. Rows that do not begin with a block of draws (features not a multiple of 8) are done an element at a time.

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
  run(gpu, a);
}

template void gelu_forward(Gpu&, const GeluForward<float>&);
template void gelu_forward(Gpu&, const GeluForward<bf16>&);
template void gelu_backward(Gpu&, const GeluBackward<float>&);
template void gelu_backward(Gpu&, const GeluBackward<bf16>&);

}  // namespace moleblend
