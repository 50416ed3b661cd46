// Global norm and Adam on the GPU: both limited by memory alone.
//
// The norm reads 4 bytes a parameter. A block sums the squares of a fixed piece of 16,384 values in double, and one block adds the sums
// of pieces. Adam moves 28 bytes a parameter (30 with the bf16 shadow), a thread four neighbouring values, so that every access is of
// 16 bytes (8 for the shadow) and a warp's are of whole lines. Each thread works out the clip factor from the norm by itself: some
// thirty instructions in double beside four memory accesses. Buffers that do not begin at 16 bytes take the same way value by value.

#include <cmath>

#include "kernels/common/carve.h"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/optimizer/optimizer.h"

namespace moleblend {
namespace {

using cuda::blocks_for;
using cuda::launch;

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr std::int64_t kPiece = 16384;

/// The sum over a block; the same result on every thread of warp 0.
__device__ __forceinline__ double block_sum(double x) {
  GPU_SHARED(double, warps, [kWarps]);
  const int lane = static_cast<int>(threadIdx.x % 32);
  x = cuda::warp_sum(x);
  if (lane == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  return threadIdx.x < 32 ? cuda::warp_sum(lane < kWarps ? warps[lane] : 0.0) : 0.0;
}

/// partial [pieces]: Σ g² of each. A thread's running sum takes every kThreads-th vector of V values.
template <int V>
__global__ void __launch_bounds__(kThreads) squares(std::int64_t count, const float* g, double* partial) {
  const std::int64_t begin = blockIdx.x * kPiece, end = min(count, begin + kPiece);
  std::int64_t k = begin + std::int64_t{V} * threadIdx.x;
  double sum = 0;
#pragma unroll 4
  for (; k + V <= end; k += V * kThreads) {
    float value[V];
    cuda::load<V>(g + k, value);
#pragma unroll
    for (int v = 0; v < V; ++v) sum = fma(double{value[v]}, double{value[v]}, sum);
  }
  for (; k < end; ++k)
    sum = fma(double{g[k]}, double{g[k]}, sum);  // the buffer's end, on the thread whose vector it would begin
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads) root_of_sum(std::int64_t pieces, const double* partial, double* norm) {
  double sum = 0;
#pragma unroll 4
  for (std::int64_t p = threadIdx.x; p < pieces; p += kThreads) sum += partial[p];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *norm = sqrt(sum);
}

/// The numbers of an update that are the same for all parameters.
struct Constants {
  float rate, decay, beta1, rest1, beta2, rest2, epsilon;
};

/// Sums are explicit fma, so that the executor of the tests has the same bits.
__device__ __forceinline__ void update(const Constants& c, float gradient, float& parameter, float& m, float& v) {
  m = __fmaf_rn(c.beta1, m, c.rest1 * gradient);
  v = __fmaf_rn(c.beta2, v, c.rest2 * gradient * gradient);
  const float decayed = __fmaf_rn(-c.decay, parameter, parameter);
  parameter = decayed - c.rate * m / (sqrtf(v) + c.epsilon);
}

template <int V>
__global__ void __launch_bounds__(kThreads) adam_update(const Adam<float> a, const Constants c) {
  const double norm = *a.norm;
  if (!std::isfinite(norm)) return;
  const auto scale = static_cast<float>(clip_factor(norm, a.clip_norm));
  const std::int64_t k = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (k + V <= a.count) {
    float g[V], p[V], m[V], v[V];
    cuda::load<V>(a.gradient + k, g);
    cuda::load<V>(a.parameter + k, p);
    cuda::load<V>(a.m + k, m);
    cuda::load<V>(a.v + k, v);
#pragma unroll
    for (int e = 0; e < V; ++e) update(c, scale * g[e], p[e], m[e], v[e]);
    cuda::store<V>(a.parameter + k, p);
    cuda::store<V>(a.m + k, m);
    cuda::store<V>(a.v + k, v);
    if (a.shadow) cuda::store<V>(a.shadow + k, p);
  } else {
    for (std::int64_t e = k; e < a.count; ++e) {
      update(c, scale * a.gradient[e], a.parameter[e], a.m[e], a.v[e]);
      if (a.shadow) a.shadow[e] = cuda::round_to_bf16(a.parameter[e]);
    }
  }
}

bool aligned(const void* p, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

}  // namespace

template <>
void global_norm(Gpu& gpu, std::int64_t count, const float* gradient, double* norm) {
  const std::int64_t pieces = (count + kPiece - 1) / kPiece;
  Carver sizes;
  sizes.take<double>(pieces);
  auto* const partial = Carver(gpu.scratch(sizes.bytes())).take<double>(pieces);
  launch(gpu, aligned(gradient, 16) ? squares<4> : squares<1>, blocks_for(count, kPiece), kThreads, 0, count, gradient,
         partial);
  launch(gpu, root_of_sum, 1, kThreads, 0, pieces, partial, norm);
}

template <>
void adam(Gpu& gpu, const Adam<float>& a) {
  const Constants c = {.rate = static_cast<float>(a.corrected_rate()),
                       .decay = static_cast<float>(a.learning_rate * a.weight_decay),
                       .beta1 = static_cast<float>(a.beta1),
                       .rest1 = static_cast<float>(1 - a.beta1),
                       .beta2 = static_cast<float>(a.beta2),
                       .rest2 = static_cast<float>(1 - a.beta2),
                       .epsilon = static_cast<float>(a.epsilon)};
  const bool vectors = aligned(a.parameter, 16) && aligned(a.gradient, 16) && aligned(a.m, 16) && aligned(a.v, 16) &&
                       aligned(a.shadow, 8);
  const std::int64_t values = vectors ? 4 : 1;
  launch(gpu, vectors ? adam_update<4> : adam_update<1>, blocks_for(a.count, kThreads * values), kThreads, 0, a, c);
}

}  // namespace moleblend
