// The denoising head on the GPU, in order:
//   project     s = w · v of every (atom, head): v is read once, and attention sees 3 numbers of it
//   attention   (denoise_attention.cu) each head's part of the prediction
//   loss        sums over heads, in order; loss and its gradient in the prediction
//   attention   backward: dq, dk, dbias, and the gradient of s
//   maps        dv and dforce_weight from the gradient of s: slices of atoms, a thread a few columns
//   finish      sums of the parts in a fixed order
// Projections and maps pass over v once each in whole rows, which attention by molecule and head could not.

#include <algorithm>

#include "kernels/common/carve.h"
#include "kernels/denoise_head/denoise_cuda.cuh"
#include "kernels/pair_head/cosine_loss.h"

namespace moleblend {
namespace {

using namespace cuda;
using namespace denoise;

constexpr int kThreads = 256;

constexpr int kProjectHeads =
    32;  // most heads of a block: a lane each, so that weights are read without bank conflicts
constexpr int kProjectFeatures = 64;  // of a head at a time
constexpr int kProjectAtoms = 4;      // of a thread, for each weight that it reads

/// A thread is one head of kProjectAtoms atoms. V values of v are read at once.
template <class T, int V>
__global__ void __launch_bounds__(kThreads, 3) project(const DenoiseHead<T> a, float4* projected) {
  GPU_SHARED(float, weight, [3][kProjectFeatures * (kProjectHeads + 1)]);
  const int d = static_cast<int>(a.width / a.heads);
  const std::int64_t first_head = std::int64_t{blockIdx.y} * kProjectHeads;
  const int heads = static_cast<int>(min(std::int64_t{kProjectHeads}, a.heads - first_head));
  const int pitch = heads | 1;  // odd, so that neither writing by features nor reading by heads meets a bank twice
  const int per_step = kThreads / heads;
  const int head = static_cast<int>(threadIdx.x) % heads, slot = static_cast<int>(threadIdx.x) / heads;
  const std::int64_t first = std::int64_t{blockIdx.x} * per_step * kProjectAtoms + slot;
  float s[kProjectAtoms][3] = {};
  for (int f0 = 0; f0 < d; f0 += kProjectFeatures) {
    const int features = min(kProjectFeatures, d - f0);
    __syncthreads();
    for (int p = static_cast<int>(threadIdx.x); p < heads * features; p += kThreads) {
      const int of_head = p / features, k = p % features;
#pragma unroll
      for (int c = 0; c < 3; ++c)
        weight[c][k * pitch + of_head] = a.force_weight[c * a.width + (first_head + of_head) * d + f0 + k];
    }
    __syncthreads();
    if (slot >= per_step) continue;
    for (int k = 0; k < features; k += V) {
      float v[kProjectAtoms][V];
#pragma unroll
      for (int m = 0; m < kProjectAtoms; ++m) {
        const std::int64_t atom = min(first + m * per_step, a.packed.atoms() - 1);
        load<V>(a.qkv + (3 * atom + 2) * a.width + (first_head + head) * d + f0 + k, v[m]);
      }
#pragma unroll
      for (int n = 0; n < V; ++n)
#pragma unroll
        for (int c = 0; c < 3; ++c) {
          const float w = weight[c][(k + n) * pitch + head];
#pragma unroll
          for (int m = 0; m < kProjectAtoms; ++m) s[m][c] += w * v[m][n];
        }
    }
  }
  if (slot >= per_step) return;
#pragma unroll
  for (int m = 0; m < kProjectAtoms; ++m) {
    const std::int64_t atom = first + m * per_step;
    if (atom < a.packed.atoms())
      projected[atom * a.heads + first_head + head] = make_float4(s[m][0], s[m][1], s[m][2], 0);
  }
}

constexpr int kLossThreads = 128;
constexpr int kLossLanes = 8;  // of an atom: they share its heads
constexpr int kLossAtoms = kLossThreads / kLossLanes;

__device__ void add(MoleculeSums& to, const MoleculeSums& x) {
  to.loss += x.loss;
  for (int c = 0; c < 3; ++c) to.dbias[c] += x.dbias[c];
  to.count += x.count;
}

/// A block is a molecule.
template <class T>
__global__ void __launch_bounds__(kLossThreads) loss(const DenoiseHead<T> a, const Scratch scratch) {
  GPU_SHARED(MoleculeSums, part, [kLossAtoms]);
  const std::int64_t b = blockIdx.x, first = a.packed.atom_offset[b], n = a.packed.atoms_of(b);
  const int group = static_cast<int>(threadIdx.x) / kLossLanes, lane = static_cast<int>(threadIdx.x) % kLossLanes;
  const bool has_positions = a.has_positions[b];
  MoleculeSums own{};
  for (std::int64_t i0 = 0; i0 < n; i0 += kLossAtoms) {
    const std::int64_t i = i0 + group, atom = first + i;
    float f[3] = {};
    if (has_positions && i < n) {
      for (std::int64_t h = lane; h < a.heads; h += kLossLanes) {
        const float4 of_head = scratch.head_force[atom * a.heads + h];
        f[0] += of_head.x;
        f[1] += of_head.y;
        f[2] += of_head.z;
      }
    }
#pragma unroll
    for (int step = kLossLanes / 2; step > 0; step /= 2)
      for (float& x : f) x += __shfl_xor_sync(kFullWarp, x, step);
    if (lane != 0 || i >= n) continue;
    if (has_positions)
      for (int c = 0; c < 3; ++c) f[c] += a.force_bias[c];
    if (a.prediction)
      for (int c = 0; c < 3; ++c) a.prediction[3 * atom + c] = f[c];
    float4 df = make_float4(0, 0, 0, 0);
    if (has_positions && asks_for_noise(n, a.atom_visible[atom], !a.position_known || a.position_known[atom])) {
      double predicted[3], noise[3];
      for (int c = 0; c < 3; ++c) {
        predicted[c] = static_cast<double>(f[c]);
        noise[c] = static_cast<double>(a.noise[3 * atom + c]);
      }
      const CosineLoss cosine = cosine_loss(predicted, noise);
      own.loss += 1 - cosine.cosine;
      ++own.count;
      for (int c = 0; c < 3; ++c) own.dbias[c] += a.loss_scale * cosine.gradient[c];
      df = make_float4(static_cast<float>(a.loss_scale * cosine.gradient[0]),
                       static_cast<float>(a.loss_scale * cosine.gradient[1]),
                       static_cast<float>(a.loss_scale * cosine.gradient[2]), 0);
    }
    if (scratch.df) scratch.df[atom] = df;
  }
  if (lane == 0) part[group] = own;
  __syncthreads();
  if (threadIdx.x != 0) return;
  MoleculeSums sum{};
  for (const MoleculeSums& x : part) add(sum, x);
  scratch.sums[b] = sum;
}

constexpr int kMapAtoms = 32;  // of a slice

/// dv of a slice of atoms, and its part of dforce_weight. Threads are (columns of V values, atoms of the slice in turn).
template <class T, int V>
__global__ void __launch_bounds__(kThreads, 2) maps(const DenoiseHead<T> a, const Scratch scratch) {
  GPU_SHARED(float, part, [3 * V * kThreads]);
  const std::int64_t column = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * V;
  const bool inside = column < a.width;
  const std::int64_t head = inside ? column / (a.width / a.heads) : 0;
  const std::int64_t end = min((std::int64_t{blockIdx.x} + 1) * kMapAtoms, a.packed.atoms());
  float sum[3][V] = {};
  if (inside) {
    float w[3][V];
#pragma unroll
    for (int c = 0; c < 3; ++c)
#pragma unroll
      for (int k = 0; k < V; ++k) w[c][k] = a.force_weight[c * a.width + column + k];
#pragma unroll 2
    for (std::int64_t atom = std::int64_t{blockIdx.x} * kMapAtoms + threadIdx.y; atom < end; atom += blockDim.y) {
      const float4 ds = scratch.dprojected[atom * a.heads + head];
      const std::int64_t at = (3 * atom + 2) * a.width + column;
      float dv[V] = {};
      if (ds.x != 0 || ds.y != 0 || ds.z != 0) {  // else nothing was asked of it: v and w are not looked at
        float v[V];
        load<V>(a.qkv + at, v);
#pragma unroll
        for (int k = 0; k < V; ++k) {
          dv[k] = ds.x * w[0][k] + ds.y * w[1][k] + ds.z * w[2][k];
          sum[0][k] += ds.x * v[k];
          sum[1][k] += ds.y * v[k];
          sum[2][k] += ds.z * v[k];
        }
      }
      store<V>(a.dqkv + at, dv);
    }
  }
  // part [3 V, atoms in turn, columns]
  const int threads = static_cast<int>(blockDim.x * blockDim.y),
            own = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
#pragma unroll
  for (int c = 0; c < 3; ++c)
#pragma unroll
    for (int k = 0; k < V; ++k) part[(c * V + k) * threads + own] = sum[c][k];
  __syncthreads();
  // Consecutive threads take consecutive values of a row, not of a column of `part`: the sums then leave in whole lines.
  const int columns = static_cast<int>(blockDim.x) * V;
  for (int p = own; p < 3 * columns; p += threads) {
    const int c = p / columns, k = p % columns;
    const std::int64_t to = std::int64_t{blockIdx.y} * columns + k;
    if (to >= a.width) continue;
    float x = 0;
    for (int y = 0; y < static_cast<int>(blockDim.y); ++y)
      x += part[(c * V + k % V) * threads + y * static_cast<int>(blockDim.x) + k / V];
    scratch.weight_part[(std::int64_t{blockIdx.x} * 3 + c) * a.width + to] = x;
  }
}

constexpr int kFinishColumns = 32;

/// The last block: the result and dforce_bias, from the molecules' sums. The others: 32 columns of dforce_weight each.
template <class T>
__global__ void __launch_bounds__(kThreads) finish(const DenoiseHead<T> a, const Scratch scratch, std::int64_t slices) {
  GPU_SHARED(MoleculeSums, sums, [kThreads]);
  GPU_SHARED(float, weights, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  const bool last = blockIdx.x == gridDim.x - 1;
  const std::int64_t column = std::int64_t{blockIdx.x} * kFinishColumns + thread % kFinishColumns;
  if (last) {
    MoleculeSums sum{};
    for (std::int64_t b = thread; b < a.packed.molecules; b += kThreads) add(sum, scratch.sums[b]);
    sums[thread] = sum;
  } else {
    float sum = 0;
    if (column < 3 * a.width) {
#pragma unroll 4
      for (std::int64_t slice = thread / kFinishColumns; slice < slices; slice += kThreads / kFinishColumns)
        sum += scratch.weight_part[slice * 3 * a.width + column];
    }
    weights[thread] = sum;
  }
  for (int half = kThreads / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (thread >= half) continue;
    if (last)
      add(sums[thread], sums[thread + half]);
    else if (half >= kFinishColumns)
      weights[thread] += weights[thread + half];
  }
  if (last && thread == 0) {
    *a.result = {sums[0].loss, sums[0].count};
    if (a.dqkv)
      for (int c = 0; c < 3; ++c) a.dforce_bias[c] += static_cast<float>(sums[0].dbias[c]);
  }
  if (!last && thread < kFinishColumns && column < 3 * a.width) a.dforce_weight[column] += weights[thread];
}

template <class T>
Scratch carve(Carver& carver, const DenoiseHead<T>& a, std::int64_t slices) {
  Scratch s{};
  const std::int64_t atoms = a.packed.atoms();
  s.projected = carver.take<float4>(atoms * a.heads);
  s.head_force = carver.take<float4>(atoms * a.heads);
  s.sums = carver.take<MoleculeSums>(a.packed.molecules);
  if (a.dqkv) {
    s.df = carver.take<float4>(atoms);
    s.dprojected = carver.take<float4>(atoms * a.heads);
    s.weight_part = carver.take<float>(slices * 3 * a.width);
  }
  return s;
}

/// V values of T are one transaction, and of one head.
template <class T, int V>
void queue_project(Gpu& gpu, const DenoiseHead<T>& a, const Scratch& s) {
  const std::int64_t heads = std::min<std::int64_t>(kProjectHeads, a.heads);
  // The last group of heads may be smaller, and its blocks then cover more atoms than there are.
  launch(gpu, project<T, V>,
         dim3(blocks_for(a.packed.atoms(), kThreads / heads * kProjectAtoms), blocks_for(a.heads, kProjectHeads)),
         dim3(kThreads), 0, a, s.projected);
}
template <class T, int V>
void queue_maps(Gpu& gpu, const DenoiseHead<T>& a, const Scratch& s, std::int64_t slices) {
  const std::int64_t columns = a.width / V, x = std::min<std::int64_t>(kThreads, columns);
  const std::int64_t y = std::min<std::int64_t>(kMapAtoms, kThreads / x);
  launch(gpu, maps<T, V>, dim3(static_cast<unsigned>(slices), blocks_for(columns, x)),
         dim3(static_cast<unsigned>(x), static_cast<unsigned>(y)), 0, a, s);
}

}  // namespace

template <class T>
void denoise_head(Gpu& gpu, const DenoiseHead<T>& a) {
  constexpr int kPiece = 16 / sizeof(T);
  const bool gradients = a.dqkv != nullptr, pieces = a.width / a.heads % kPiece == 0;
  const std::int64_t slices = (a.packed.atoms() + kMapAtoms - 1) / kMapAtoms;
  Carver count;
  carve(count, a, slices);
  Carver carver(gpu.scratch(count.bytes()));
  const Scratch s = carve(carver, a, slices);
  pieces ? queue_project<T, kPiece>(gpu, a, s) : queue_project<T, 1>(gpu, a, s);
  queue_attend(gpu, a, s);
  launch(gpu, loss<T>, dim3(static_cast<unsigned>(a.packed.molecules)), dim3(kLossThreads), 0, a, s);
  if (gradients) {
    queue_attend_backward(gpu, a, s);
    pieces ? queue_maps<T, kPiece>(gpu, a, s, slices) : queue_maps<T, 1>(gpu, a, s, slices);
  }
  launch(gpu, finish<T>, dim3((gradients ? blocks_for(3 * a.width, kFinishColumns) : 0) + 1), dim3(kThreads), 0, a, s,
         slices);
}

template void denoise_head(Gpu&, const DenoiseHead<float>&);
template void denoise_head(Gpu&, const DenoiseHead<bf16>&);

}  // namespace moleblend
