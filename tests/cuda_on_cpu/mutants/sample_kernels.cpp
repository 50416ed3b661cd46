#include "tests/cuda_on_cpu/mutants/sample_kernels.h"

#include <cmath>

#include "kernels/common/cuda/cuda.cuh"

namespace moleblend::mutants {

Mutation mutation = Mutation::none;

namespace {

using cuda::kFullWarp;

/// Whether the kernel is to make this fault.
bool has(Mutation fault) {
  return mutation == fault;
}

// ---- attend: 4 warps of 2 rows each; keys and values pass through shared memory in tiles of 32
constexpr int kRows = 8, kTile = 32, kPitch = kWidth + 1, kWarps = 4;

__global__ void __launch_bounds__(kWarps * 32) attend_kernel(const Attend a) {
  GPU_DYNAMIC_SHARED(bytes);
  float* q = reinterpret_cast<float*>(bytes);  // [kRows][kPitch]
  float* k = q + kRows * kPitch;               // [kTile][kPitch]
  float* v = k + kTile * kPitch;               // [kTile][kPitch]
  float* shares = v + kTile * kPitch;          // [kWarps][kTile]
  float* bias = shares + kWarps * kTile;       // [relations]
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  for (int i = thread; i < a.relations; i += kWarps * 32) bias[i] = a.table[i];
  for (int i = thread; i < kRows * kWidth; i += kWarps * 32) {
    const int row = first_row + i / kWidth;
    q[i / kWidth * kPitch + i % kWidth] = row < a.n ? a.q[row * kWidth + i % kWidth] : 0;
  }
  float highest[2] = {-INFINITY, -INFINITY}, total[2] = {}, sum[2] = {};
  for (int start = 0; start < a.n; start += kTile) {
    if (!has(Mutation::no_barrier_before_refill)) __syncthreads();
    for (int i = thread; i < kTile * kWidth; i += kWarps * 32) {
      const int key = start + i / kWidth;
      const bool inside = key < a.n || has(Mutation::forgotten_tail);
      k[i / kWidth * kPitch + i % kWidth] = inside ? a.k[key * kWidth + i % kWidth] : 0;
      v[i / kWidth * kPitch + i % kWidth] = inside ? a.v[key * kWidth + i % kWidth] : 0;
    }
    if (!has(Mutation::no_barrier_after_fill)) __syncthreads();
    for (int r = 0; r < 2; ++r) {
      const int local = warp * 2 + r, row = first_row + local, column = start + lane;
      float dot = 0;
      for (int c = 0; c < kWidth; ++c) dot += q[local * kPitch + c] * k[lane * kPitch + c];
      const bool inside = row < a.n && column < a.n;
      const float score = inside ? dot + bias[a.relation[row * a.n + column]] : -INFINITY;
      const float now_highest = fmaxf(highest[r], cuda::warp_max(score));
      const float base = now_highest == -INFINITY ? 0 : now_highest;
      const float keep = std::exp(highest[r] - base), share = std::exp(score - base);
      highest[r] = now_highest;
      if (column < a.n || !has(Mutation::divergent_shuffle)) total[r] = total[r] * keep + cuda::warp_sum(share);
      shares[warp * kTile + lane] = share;
      if (!has(Mutation::no_syncwarp)) __syncwarp();
      sum[r] *= keep;
      for (int j = 0; j < kTile; ++j) sum[r] += shares[warp * kTile + j] * v[j * kPitch + lane];
      __syncwarp();
    }
  }
  for (int r = 0; r < 2; ++r) {
    const int row = first_row + warp * 2 + r;
    if (row < a.n) a.out[row * kWidth + lane] = sum[r] / total[r];
  }
}

// ---- multiply: 4 warps of 16 rows each; tiles of both factors arrive asynchronously, one ahead
constexpr int kBlockRows = 64, kDepth = 16, kColumns = 16, kTilePitch = 24;

struct Tiles {
  bf16 a[kBlockRows][kTilePitch];
  bf16 b[kDepth][kTilePitch];
};

__device__ void fetch(Tiles& tiles, const bf16* a, const bf16* b, int k, int start) {
  const int thread = static_cast<int>(threadIdx.x), row = thread / 2, column = thread % 2 * 8;
  const int first_row = static_cast<int>(blockIdx.x) * kBlockRows;
  cuda::copy_async_16(&tiles.a[row][column], a + (first_row + row) * k + start + column);
  if (row < kDepth) cuda::copy_async_16(&tiles.b[row][column], b + (start + row) * kColumns + column);
}

__global__ void __launch_bounds__(128) multiply_kernel(const bf16* a, const bf16* b, float* c, int k) {
  GPU_SHARED(Tiles, tiles, [2]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int count = k / kDepth;
  float sum[2][4] = {};
  fetch(tiles[0], a, b, k, 0);
  cuda::copy_async_commit();
  for (int t = 0; t < count; ++t) {
    if (t + 1 < count) fetch(tiles[(t + 1) % 2], a, b, k, (t + 1) * kDepth);
    cuda::copy_async_commit();
    if (has(Mutation::waits_for_too_few_copies)) {
      cuda::copy_async_wait<2>();
    } else {
      cuda::copy_async_wait<1>();
    }
    __syncthreads();
    const Tiles& now = tiles[t % 2];
    const int shift = has(Mutation::misaligned_rows) ? 1 : 0;
    std::uint32_t fragment_a[4], fragment_b[4];
    cuda::ldmatrix_x4(fragment_a, &now.a[warp * 16 + lane % 16][lane / 16 * 8 + shift]);
    cuda::ldmatrix_x4_trans(fragment_b, &now.b[lane % 16][lane / 16 * 8]);
    cuda::mma_m16n8k16_bf16(sum[0], fragment_a, fragment_b[0], fragment_b[1]);
    cuda::mma_m16n8k16_bf16(sum[1], fragment_a, fragment_b[2], fragment_b[3]);
    if (!has(Mutation::no_barrier_before_async_refill)) __syncthreads();
  }
  cuda::copy_async_wait<0>();
  for (int half = 0; half < 2; ++half) {
    for (int e = 0; e < 4; ++e) {
      const int row = static_cast<int>(blockIdx.x) * kBlockRows + warp * 16 + lane / 4 + e / 2 * 8;
      c[row * kColumns + half * 8 + lane % 4 * 2 + e % 2] = sum[half][e];
    }
  }
}

// ---- normalise: a block a row; warps add their parts in shared memory
__global__ void __launch_bounds__(256) normalise_kernel(const float* x, float* y, int columns) {
  GPU_SHARED(float, parts, [2][32]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  const float* row = x + static_cast<int>(blockIdx.x) * columns;
  float sum = 0, squares = 0;
  for (int c = thread; c < columns; c += static_cast<int>(blockDim.x)) {
    sum += row[c];
    squares += row[c] * row[c];
  }
  sum = cuda::warp_sum(sum);
  squares = cuda::warp_sum(squares);
  if (lane == 0) {
    const int pitch = has(Mutation::static_shared_out_of_bounds) ? 33 : 1;
    parts[0][warp * pitch] = sum;
    parts[1][warp] = squares;
  }
  if (has(Mutation::divergent_barrier) && warp == 0) {
    __syncthreads();
  } else if (!has(Mutation::no_barrier_after_partial_sums)) {
    __syncthreads();
  }
  const bool present = lane < warps || has(Mutation::reads_absent_partial_sums);
  sum = cuda::warp_sum(present ? parts[0][lane] : 0.0f);
  squares = cuda::warp_sum(present ? parts[1][lane] : 0.0f);
  const float mean = sum / static_cast<float>(columns);
  const float scale = rsqrtf(squares / static_cast<float>(columns) - mean * mean);
  for (int c = thread; c < columns; c += static_cast<int>(blockDim.x)) {
    y[static_cast<int>(blockIdx.x) * columns + c] = (row[c] - mean) * scale;
  }
}

// ---- histogram: a block adds in shared memory, and then to device memory
__global__ void histogram_kernel(const std::uint8_t* key, const float* value, float* sums, int count, int bins) {
  GPU_DYNAMIC_SHARED(bytes);
  float* part = reinterpret_cast<float*>(bytes);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  for (int i = thread; i < bins; i += threads) part[i] = 0;
  __syncthreads();
  for (int i = static_cast<int>(blockIdx.x) * threads + thread; i < count; i += static_cast<int>(gridDim.x) * threads) {
    if (has(Mutation::shared_sum_not_atomic)) {
      part[key[i]] += value[i];
    } else {
      atomicAdd(&part[key[i]], value[i]);
    }
  }
  __syncthreads();
  for (int i = thread; i < bins; i += threads) {
    if (has(Mutation::device_sum_not_atomic)) {
      sums[i] += part[i];
    } else {
      atomicAdd(&sums[i], part[i]);
    }
  }
}

template <class... P, class... A>
cudaError_t run(void (*kernel)(P...), int blocks, int threads, std::size_t shared_bytes, const A&... args) {
  return cuda_on_cpu::launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)),
                             shared_bytes, nullptr, args...);
}

}  // namespace

cudaError_t attend(const Attend& a) {
  const int table = has(Mutation::too_little_shared) ? 0 : a.relations;
  const std::size_t floats = (kRows + 2 * kTile) * kPitch + kWarps * kTile + static_cast<std::size_t>(table);
  return run(attend_kernel, (a.n + kRows - 1) / kRows, kWarps * 32, floats * sizeof(float), a);
}

cudaError_t multiply(const bf16* a, const bf16* b, float* c, int m, int k) {
  return run(multiply_kernel, m / kBlockRows, 128, 0, a, b, c, k);
}

cudaError_t normalise(const float* x, float* y, int rows, int columns) {
  return run(normalise_kernel, rows, 256, 0, x, y, columns);
}

cudaError_t histogram(const std::uint8_t* key, const float* value, float* sums, int count, int bins) {
  return run(histogram_kernel, 4, 64, static_cast<std::size_t>(bins) * sizeof(float), key, value, sums, count, bins);
}

}  // namespace moleblend::mutants
