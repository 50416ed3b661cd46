// Sums over rows that somebody else wrote read them once and do next to no arithmetic, so the work is laid out for memory: a block takes a
// chunk of rows and up to 32 lanes × 16 bytes of columns, a thread its 16 bytes of every few rows, so that a warp reads whole lines and a
// thread's loads do not wait for each other. 64 rows a chunk give 16,384 × 768 values of bf16 768 blocks; long inputs get longer chunks, so
// that the second kernel never adds more than 256 partial sums. Chunks depend on the shape alone.

#include <algorithm>
#include <stdexcept>

#include "kernels/common/carve.h"
#include "kernels/common/cuda/column_sums.h"
#include "kernels/common/cuda/cuda.cuh"

namespace moleblend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kChunkRows = 64, kMostChunks = 256;

/// partial [chunks, columns] = sums of x [rows, columns] over the chunk blockIdx.y. V columns a thread, column_lanes (a power of two up to
/// 32) threads side by side; the other threads of the block take further rows.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    column_sums(std::int64_t rows, std::int64_t columns, std::int64_t chunk_rows, int column_lanes, const T* x,
                float* partial) {
  GPU_SHARED(float, sums, [V][kThreads]);
  const int thread = static_cast<int>(threadIdx.x), row_lanes = kThreads / column_lanes;
  const int column_lane = thread % column_lanes, row_lane = thread / column_lanes;
  const std::int64_t column = (std::int64_t{blockIdx.x} * column_lanes + column_lane) * V;
  const std::int64_t begin = std::int64_t{blockIdx.y} * chunk_rows, end = min(rows, begin + chunk_rows);
  float sum[V] = {};
  if (column < columns) {
#pragma unroll 4
    for (std::int64_t r = begin + row_lane; r < end; r += row_lanes) {
      float value[V];
      load<V>(x + r * columns + column, value);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] += value[v];
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) sums[v][thread] = sum[v];
  __syncthreads();
  for (int half = row_lanes / 2; half > 0; half /= 2) {
    if (row_lane < half) {
#pragma unroll
      for (int v = 0; v < V; ++v) sums[v][thread] += sums[v][thread + half * column_lanes];
    }
    __syncthreads();
  }
  if (row_lane == 0 && column < columns) {
#pragma unroll
    for (int v = 0; v < V; ++v) partial[blockIdx.y * columns + column + v] = sums[v][thread];
  }
}

template <int V, class T>
void queue_column_sums(Gpu& gpu, std::int64_t rows, std::int64_t columns, std::int64_t chunk_rows, std::int64_t chunks,
                       const T* x, float* partial) {
  int column_lanes = 1;
  while (column_lanes < 32 && column_lanes * V < columns) column_lanes *= 2;
  launch(gpu, column_sums<T, V>, dim3(blocks_for(columns, column_lanes * V), static_cast<unsigned>(chunks)), kThreads,
         0, rows, columns, chunk_rows, column_lanes, x, partial);
}

constexpr int kPartWarps = 16;

struct Sums {
  float* to[kMostSums];
};

/// Sixteen warps share the chunks of 32 columns; blockIdx.y is the sum.
__global__ void __launch_bounds__(32 * kPartWarps)
    add_parts(std::int64_t columns, std::int64_t chunks, const float* partial, const Sums sums) {
  GPU_SHARED(float, parts, [kPartWarps][32]);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t column = std::int64_t{blockIdx.x} * 32 + lane;
  float part = 0;
  if (column < columns) {
#pragma unroll 8
    for (std::int64_t c = warp; c < chunks; c += kPartWarps)
      part += partial[(c * gridDim.y + blockIdx.y) * columns + column];
  }
  parts[warp][lane] = part;
  __syncthreads();
  if (warp == 0 && column < columns) {
    float total = 0;
    for (int w = 0; w < kPartWarps; ++w) total += parts[w][lane];
    float* const to = blockIdx.y == 0 ? sums.to[0] : blockIdx.y == 1 ? sums.to[1] : sums.to[2];
    to[column] += total;
  }
}

}  // namespace

void add_partial_sums(Gpu& gpu, std::int64_t columns, std::int64_t chunks, const float* partial,
                      std::initializer_list<float*> sums) {
  if (sums.size() > kMostSums) throw std::invalid_argument("more partial sums than a kernel adds");
  Sums all{};
  std::copy(sums.begin(), sums.end(), all.to);
  launch(gpu, add_parts, dim3(blocks_for(columns, 32), static_cast<unsigned>(sums.size())), 32 * kPartWarps, 0, columns,
         chunks, partial, all);
}

template <class T>
void add_column_sums(Gpu& gpu, std::int64_t rows, std::int64_t columns, const T* x, float* sum) {
  constexpr int kVector = 16 / sizeof(T);
  const std::int64_t chunk_rows = std::max(kChunkRows, (rows + kMostChunks - 1) / kMostChunks);
  const std::int64_t chunks = (rows + chunk_rows - 1) / chunk_rows;
  Carver sizes;
  sizes.take<float>(chunks * columns);
  auto* const partial = Carver(gpu.scratch(sizes.bytes())).take<float>(chunks * columns);
  const bool vectors = columns % kVector == 0 && reinterpret_cast<std::uintptr_t>(x) % 16 == 0;
  if (vectors) {
    queue_column_sums<kVector>(gpu, rows, columns, chunk_rows, chunks, x, partial);
  } else {
    queue_column_sums<1>(gpu, rows, columns, chunk_rows, chunks, x, partial);
  }
  add_partial_sums(gpu, columns, chunks, partial, {sum});
}

template void add_column_sums(Gpu&, std::int64_t, std::int64_t, const float*, float*);
template void add_column_sums(Gpu&, std::int64_t, std::int64_t, const bf16*, float*);

}  // namespace moleblend::cuda
