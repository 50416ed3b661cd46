// Linear maps on the GPU: matrix products (products.h), and here the sums over rows that the bias' gradient is.
//
// Those sums read dy once and do next to no arithmetic, so the work is laid out for memory: a block takes a chunk of rows and up to 32
// lanes × 16 bytes of columns, a thread its 16 bytes of every few rows, so that a warp reads whole lines and a thread's loads do not
// wait for each other. 64 rows a chunk give 16,384 × 768 values of bf16 768 blocks; long inputs get longer chunks, so that the second
// kernel never adds more than 256 partial sums. Chunks depend on the shape alone, and every sum is taken in a fixed order.

#include <algorithm>

#include "kernels/common/carve.h"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/linear/linear.h"
#include "kernels/linear/products.h"

namespace moleblend {
namespace {

using cuda::blocks_for;
using cuda::launch;

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
      cuda::load<V>(x + r * columns + column, value);
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

constexpr int kPartWarps = 16;

/// sum [columns] += Σ_chunks partial. Sixteen warps share the chunks of 32 columns.
__global__ void __launch_bounds__(32 * kPartWarps)
    add_partial_sums(std::int64_t columns, std::int64_t chunks, const float* partial, float* sum) {
  GPU_SHARED(float, parts, [kPartWarps][32]);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t column = std::int64_t{blockIdx.x} * 32 + lane;
  float part = 0;
  if (column < columns) {
#pragma unroll 8
    for (std::int64_t c = warp; c < chunks; c += kPartWarps) part += partial[c * columns + column];
  }
  parts[warp][lane] = part;
  __syncthreads();
  if (warp == 0 && column < columns) {
    float total = 0;
    for (int w = 0; w < kPartWarps; ++w) total += parts[w][lane];
    sum[column] += total;
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

/// sum [columns] += Σ_rows x [rows, columns].
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
  launch(gpu, add_partial_sums, blocks_for(columns, 32), 32 * kPartWarps, 0, columns, chunks, partial, sum);
}

/// y [rows, columns]: the bias on every row.
template <class T>
__global__ void __launch_bounds__(kThreads) bias_rows(std::int64_t count, std::int64_t columns, const T* bias, T* y) {
  const std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (k < count) y[k] = bias[k % columns];
}

/// Maps with fewer outputs than fill 16 bytes of bf16 (read-outs of few tasks) start their product from the bias instead of adding it
/// in the product's epilogue, which libraries make for whole vectors of an output row.
constexpr std::int64_t kNarrow = 8;

}  // namespace

template <class T>
void linear_forward(Gpu& gpu, const LinearForward<T>& a) {
  if (a.rows == 0) return;
  const bool from_bias = a.bias && a.out < kNarrow;
  if (from_bias)
    launch(gpu, bias_rows<T>, blocks_for(a.rows * a.out, kThreads), kThreads, 0, a.rows * a.out, a.out, a.bias, a.y);
  product(gpu, Product<T, T>{.transpose_a = false,
                             .transpose_b = true,
                             .m = a.rows,
                             .n = a.out,
                             .k = a.in,
                             .a = a.x,
                             .lda = a.in,
                             .b = a.weight,
                             .ldb = a.in,
                             .beta = from_bias ? 1.0f : 0.0f,
                             .c = a.y,
                             .ldc = a.out,
                             .bias = from_bias ? nullptr : a.bias});
}

template <class T>
void linear_backward(Gpu& gpu, const LinearBackward<T>& a) {
  if (a.rows == 0) return;
  if (a.dx) {
    product(gpu, Product<T, T>{.transpose_a = false,
                               .transpose_b = false,
                               .m = a.rows,
                               .n = a.in,
                               .k = a.out,
                               .a = a.dy,
                               .lda = a.out,
                               .b = a.weight,
                               .ldb = a.in,
                               .beta = a.add_to_dx ? 1.0f : 0.0f,
                               .c = a.dx,
                               .ldc = a.in,
                               .bias = nullptr});
  }
  if (a.dweight) {
    product(gpu, Product<T, float>{.transpose_a = true,
                                   .transpose_b = false,
                                   .m = a.out,
                                   .n = a.in,
                                   .k = a.rows,
                                   .a = a.dy,
                                   .lda = a.out,
                                   .b = a.x,
                                   .ldb = a.in,
                                   .beta = 1,
                                   .c = a.dweight,
                                   .ldc = a.in,
                                   .bias = nullptr});
  }
  if (a.dbias) add_column_sums(gpu, a.rows, a.out, a.dy, a.dbias);
}

template void linear_forward(Gpu&, const LinearForward<float>&);
template void linear_forward(Gpu&, const LinearForward<bf16>&);
template void linear_backward(Gpu&, const LinearBackward<float>&);
template void linear_backward(Gpu&, const LinearBackward<bf16>&);

}  // namespace moleblend
