#include <cstdint>

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/pair_head/pair_head.h"

// The 3D head's map, multiplied out and back: 1 MB of factors, read once from the cache for each output. Small work, so that what counts
// is that many threads share it: forward has a warp a slice of `hidden` for 32 columns, backward a thread block a row of `inner`.

namespace moleblend {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kWarps = kThreads / 32;

/// Block (x, o): 32 columns of row o of the product; the last x its bias.
template <class T>
__global__ void __launch_bounds__(kThreads) product(const FactorisedMap<T> map, T* weight, float* bias) {
  GPU_SHARED(float, sums, [kWarps][32]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t o = blockIdx.y, column = std::int64_t{blockIdx.x} * 32 + lane;
  const float* outer = map.outer + o * map.hidden;
  const bool is_bias = blockIdx.x + 1 == gridDim.x;
  float sum = 0;
  if (is_bias) {
    for (std::int64_t h = threadIdx.x; h < map.hidden; h += kThreads) sum += outer[h] * map.inner_bias[h];
  } else if (column < map.inputs) {
    for (std::int64_t h = warp; h < map.hidden; h += kWarps) sum += outer[h] * map.inner[h * map.inputs + column];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0) return;
  sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sum += sums[w][lane];
  if (is_bias) {
    sum = warp_sum(sum);
    if (lane == 0) bias[o] = sum + map.outer_bias[o];
  } else if (column < map.inputs) {
    weight[o * map.inputs + column] = store_as<T>(sum);
  }
}

/// Block h: the gradients of row h of `inner` and of column h of `outer`.
template <class T>
__global__ void __launch_bounds__(kThreads)
    product_backward(const FactorisedMap<T> map, const float* dweight, const float* dbias,
                     const FactorisedGradients<T> gradients) {
  GPU_SHARED(float, sums, [kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t h = blockIdx.x;
  const float* inner = map.inner + h * map.inputs;
  float* dinner = gradients.inner + h * map.inputs;
  for (std::int64_t o = 0; o < map.outputs; ++o) {
    const float* from = dweight + o * map.inputs;
    const float factor = map.outer[o * map.hidden + h];
    float sum = 0;
    for (std::int64_t k = threadIdx.x; k < map.inputs; k += kThreads) {
      sum += from[k] * inner[k];
      dinner[k] += factor * from[k];
    }
    sum = warp_sum(sum);
    __syncthreads();  // the sums of the output before have been read
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    if (threadIdx.x > 0) continue;
    sum = dbias[o] * map.inner_bias[h];
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += sums[w];
    gradients.outer[o * map.hidden + h] += sum;
    gradients.inner_bias[h] += factor * dbias[o];
    if (h == 0) gradients.outer_bias[o] += dbias[o];
  }
}

}  // namespace

template <class T>
void multiply_out(Gpu& gpu, const FactorisedMap<T>& map, T* weight, Wide<T>* bias) {
  launch(gpu, product<T>, dim3(blocks_for(map.inputs, 32) + 1, static_cast<unsigned>(map.outputs)), kThreads, 0, map,
         weight, bias);
}

template <class T>
void multiply_out_backward(Gpu& gpu, const FactorisedMap<T>& map, const Wide<T>* dweight, const Wide<T>* dbias,
                           const FactorisedGradients<T>& gradients) {
  launch(gpu, product_backward<T>, static_cast<unsigned>(map.hidden), kThreads, 0, map, dweight, dbias, gradients);
}

template void multiply_out(Gpu&, const FactorisedMap<float>&, float*, float*);
template void multiply_out(Gpu&, const FactorisedMap<bf16>&, bf16*, float*);
template void multiply_out_backward(Gpu&, const FactorisedMap<float>&, const float*, const float*,
                                    const FactorisedGradients<float>&);
template void multiply_out_backward(Gpu&, const FactorisedMap<bf16>&, const float*, const float*,
                                    const FactorisedGradients<bf16>&);

}  // namespace moleblend
