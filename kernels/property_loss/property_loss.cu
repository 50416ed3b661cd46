// Read-outs and property losses on the GPU.
//
// Read-outs move memory and nothing else: a warp takes 32 pieces of 16 bytes of a molecule's features, or of a token's in the backward
// pass. Forward, a lane walks down the molecule's atoms, so that they are added in their order. The losses are a few thousand values in
// double, a thread eight of them, and no more than two launches.

#include <cmath>

#include "kernels/common/carve.h"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/property_loss/property_loss.h"

namespace moleblend {
namespace {

using cuda::blocks_for;
using cuda::launch;

constexpr int kThreads = 256, kWarps = kThreads / 32;

/// The weight of a molecule's atom tokens in the read-out.
__device__ __forceinline__ float atom_weight(Readout readout, std::int64_t atoms) {
  return readout == Readout::mean ? 1.0f / static_cast<float>(atoms > 1 ? atoms : 1) : 1.0f;
}

/// Block (x, y): molecules [8 x, 8 x + 8), one a warp; pieces [32 y, 32 y + 32) of V features, one a lane.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    read_out(const Packed packed, Readout readout, std::int64_t features, const T* x, T* out) {
  const std::int64_t b = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  const std::int64_t f = (std::int64_t{blockIdx.y} * 32 + threadIdx.x % 32) * V;
  if (b >= packed.molecules || f >= features) return;
  const T* token = x + packed.token_offset(b) * features + f;
  float sum[V] = {};
  if (readout == Readout::cls) {
    cuda::load<V>(token, sum);
  } else {
    const std::int64_t atoms = packed.atoms_of(b);
#pragma unroll 4
    for (std::int64_t i = 1; i <= atoms; ++i) {
      float value[V];
      cuda::load<V>(token + i * features, value);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] += value[v];
    }
    const float weight = atom_weight(readout, atoms);
#pragma unroll
    for (int v = 0; v < V; ++v) sum[v] *= weight;
  }
  cuda::store<V>(out + b * features + f, sum);
}

/// As above, a token in the place of a molecule.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    spread_gradient(const Packed packed, Readout readout, std::int64_t features, const T* dout, T* dx) {
  const std::int64_t token = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  const std::int64_t f = (std::int64_t{blockIdx.y} * 32 + threadIdx.x % 32) * V;
  if (token >= packed.tokens() || f >= features) return;
  const std::int64_t b = packed.token_molecule[token];
  const bool cls = readout == Readout::cls, graph = token == packed.token_offset(b);
  const float weight = cls != graph ? 0.0f : cls ? 1.0f : atom_weight(readout, packed.atoms_of(b));
  float value[V];
  cuda::load<V>(dout + b * features + f, value);
#pragma unroll
  for (int v = 0; v < V; ++v) value[v] *= weight;
  cuda::store<V>(dx + token * features + f, value);
}

/// Calls queue.operator()<V>() with the widest piece that features and addresses allow.
template <class T, class Queue>
void with_pieces(std::int64_t features, const T* x, const T* y, const Queue& queue) {
  constexpr int kVector = 16 / sizeof(T);
  const auto addresses = reinterpret_cast<std::uintptr_t>(x) | reinterpret_cast<std::uintptr_t>(y);
  if (features % kVector == 0 && addresses % 16 == 0) {
    queue.template operator()<kVector>();
  } else {
    queue.template operator()<1>();
  }
}

constexpr std::int64_t kChunk = 8 * kThreads;

/// The block's sum of a loss and its count, on thread 0; threads in a fixed order.
__device__ __forceinline__ PropertyLossResult block_sum(PropertyLossResult own) {
  GPU_SHARED(double, losses, [kWarps]);
  GPU_SHARED(long long, counts, [kWarps]);
  const auto warp = threadIdx.x / 32;
  const double loss = cuda::warp_sum(own.loss);
  const long long count = cuda::warp_sum(static_cast<long long>(own.count));
  if (threadIdx.x % 32 == 0) losses[warp] = loss, counts[warp] = count;
  __syncthreads();
  PropertyLossResult sum;
  for (int w = 0; w < kWarps; ++w) sum.loss += losses[w], sum.count += counts[w];
  return sum;
}

/// partial [blocks]: loss and count of kChunk values each.
template <class T>
__global__ void __launch_bounds__(kThreads) losses_and_gradients(const PropertyLoss<T> a, PropertyLossResult* partial) {
  const std::int64_t begin = blockIdx.x * kChunk, end = min(a.molecules * a.tasks, begin + kChunk);
  PropertyLossResult own;
  for (std::int64_t k = begin + threadIdx.x; k < end; k += kThreads) {
    const double label = a.labels[k], logit = double{to_float(a.logits[k])};
    const std::int64_t task = k % a.tasks;
    double gradient = 0;
    if (!std::isnan(label)) {
      ++own.count;
      if (a.task == PropertyTask::classification) {
        // As the CPU: max(x, 0) − x y + log(1 + e^−|x|).
        const double e = exp(-fabs(logit));
        const double weight = a.positive_weight && label == 1 ? a.positive_weight[task] : 1;
        own.loss += weight * ((logit < 0 ? 0 : logit) - logit * label + log1p(e));
        gradient = weight * ((logit < 0 ? e : 1) / (1 + e) - label);
      } else {
        const double error = logit * a.std[task] + a.mean[task] - label;
        own.loss += error * error;
        gradient = 2 * error * a.std[task];
      }
    }
    if (a.dlogits) a.dlogits[k] = cuda::store_as<T>(static_cast<float>(a.scale * gradient));
  }
  own = block_sum(own);
  if (threadIdx.x == 0) partial[blockIdx.x] = own;
}

__global__ void __launch_bounds__(kThreads)
    sum_of_losses(std::int64_t parts, const PropertyLossResult* partial, PropertyLossResult* result) {
  PropertyLossResult own;
  for (std::int64_t p = threadIdx.x; p < parts; p += kThreads)
    own.loss += partial[p].loss, own.count += partial[p].count;
  own = block_sum(own);
  if (threadIdx.x == 0) *result = own;
}

}  // namespace

template <class T>
void readout_forward(Gpu& gpu, const Packed& packed, Readout readout, std::int64_t features, const T* x, T* out) {
  with_pieces(features, x, out, [&]<int V>() {
    const dim3 grid(blocks_for(packed.molecules, kWarps), blocks_for(features, 32 * V));
    launch(gpu, read_out<T, V>, grid, kThreads, 0, packed, readout, features, x, out);
  });
}

template <class T>
void readout_backward(Gpu& gpu, const Packed& packed, Readout readout, std::int64_t features, const T* dout, T* dx) {
  with_pieces<T>(features, dout, dx, [&]<int V>() {
    const dim3 grid(blocks_for(packed.tokens(), kWarps), blocks_for(features, 32 * V));
    launch(gpu, spread_gradient<T, V>, grid, kThreads, 0, packed, readout, features, dout, dx);
  });
}

template <class T>
void property_loss(Gpu& gpu, const PropertyLoss<T>& a) {
  const unsigned blocks = blocks_for(a.molecules * a.tasks, kChunk);
  if (blocks <= 1) return launch(gpu, losses_and_gradients<T>, 1, kThreads, 0, a, a.result);
  Carver sizes;
  sizes.take<PropertyLossResult>(blocks);
  auto* const partial = Carver(gpu.scratch(sizes.bytes())).take<PropertyLossResult>(blocks);
  launch(gpu, losses_and_gradients<T>, blocks, kThreads, 0, a, partial);
  launch(gpu, sum_of_losses, 1, kThreads, 0, blocks, partial, a.result);
}

template void readout_forward(Gpu&, const Packed&, Readout, std::int64_t, const float*, float*);
template void readout_forward(Gpu&, const Packed&, Readout, std::int64_t, const bf16*, bf16*);
template void readout_backward(Gpu&, const Packed&, Readout, std::int64_t, const float*, float*);
template void readout_backward(Gpu&, const Packed&, Readout, std::int64_t, const bf16*, bf16*);
template void property_loss(Gpu&, const PropertyLoss<float>&);
template void property_loss(Gpu&, const PropertyLoss<bf16>&);

}  // namespace moleblend
