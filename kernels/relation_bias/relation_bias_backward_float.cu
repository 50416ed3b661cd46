#include <algorithm>

#include "kernels/activation/gelu.cuh"
#include "kernels/relation_bias/backward.cuh"

// The distance encoder's backward pass in float, for any K and H. A block has the pairs of its share that show their distance in tiles of 32
// rows; what a tile has along K lies [K, 32] in shared memory (in device memory where K is large). Along rows a warp has eight rows
// and lanes the outputs; the weights' gradients are added up in the block's part of device memory, always an entry by the same thread.

namespace moleblend::relation {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kRows = 32, kPitch = kRows + 4;  // sixteen-byte accesses down a column meet different banks
constexpr int kWarpRows = 8, kRowWarps = kRows / kWarpRows;

struct Tile {
  ShownPairs<kThreads, kRows> shown;
  float* large;  // [large_values], null if that is in device memory
  MOLEBLEND_HD Tile(SharedCut& cut, std::int64_t large_values)
      : shown(cut), large(large_values > 0 ? cut.take<float>(large_values) : nullptr) {}
};
/// Of what lies [K, kPitch], three times, and [H, kPitch].
MOLEBLEND_HD inline std::int64_t large_values(const Input& in) {
  return (3 * in.kernels + in.heads) * kPitch;
}

/// f(o, first row, Σ_k w[k, o] · x[k, r] of eight rows r) for the thread's share of outputs and rows.
template <class F>
__device__ __forceinline__ void along_rows(int outputs, int inner, const float* w, const float* x, const F& f) {
  const int warp = threadIdx.x / 32, first = warp % kRowWarps * kWarpRows;
  for (int o = warp / kRowWarps * 32 + threadIdx.x % 32; o < outputs; o += kWarps / kRowWarps * 32) {
    float v[kWarpRows] = {};
#pragma unroll 4
    for (int k = 0; k < inner; ++k) {
      const float weight = w[std::int64_t{k} * outputs + o];
      float a[4], b[4];
      load<4>(x + k * kPitch + first, a);
      load<4>(x + k * kPitch + first + 4, b);
#pragma unroll
      for (int r = 0; r < 4; ++r) v[r] += weight * a[r], v[4 + r] += weight * b[r];
    }
    f(o, first, v);
  }
}

/// out [rows, columns] += x [rows, kRows] · y [columns, kRows]ᵀ; a thread has 4 × 4 entries at a time.
__device__ __forceinline__ void add_outer(int rows, int columns, const float* x, const float* y, float* out) {
  const int row_parts = (rows + 3) / 4, column_parts = (columns + 3) / 4;
  for (std::int64_t k = threadIdx.x; k < std::int64_t{row_parts} * column_parts; k += kThreads) {
    const auto row = static_cast<int>(k / column_parts), column = static_cast<int>(k % column_parts);
    float v[4][4] = {};
    for (int m = 0; m < kRows; m += 4) {
      float a[4][4], b[4][4];
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        load<4>(x + min(row + q * row_parts, rows - 1) * kPitch + m, a[q]);
        load<4>(y + min(column + q * column_parts, columns - 1) * kPitch + m, b[q]);
      }
#pragma unroll
      for (int q = 0; q < 16; ++q) {
#pragma unroll
        for (int e = 0; e < 4; ++e) v[q / 4][q % 4] += a[q / 4][e] * b[q % 4][e];
      }
    }
#pragma unroll
    for (int q = 0; q < 16; ++q) {
      const int r = row + q / 4 * row_parts, c = column + q % 4 * column_parts;
      if (r < rows && c < columns) out[std::int64_t{r} * columns + c] += v[q / 4][q % 4];
    }
  }
}

/// out[k] += Σ of row k of x.
__device__ __forceinline__ void add_rows(int count, const float* x, float* out) {
  for (int k = threadIdx.x; k < count; k += kThreads) {
    float sum = 0;
    for (int m = 0; m < kRows; ++m) sum += x[k * kPitch + m];
    out[k] += sum;
  }
}

__global__ void __launch_bounds__(kThreads) distance_rows(const DistanceBackward a) {
  GPU_DYNAMIC_SHARED(memory);
  const Input& in = a.in;
  const auto heads = static_cast<int>(in.heads), kernels = static_cast<int>(in.kernels);
  SharedCut cut(memory);
  Tile s(cut, a.overflow ? 0 : large_values(in));
  auto& shown = s.shown;
  float* const gaussian = a.overflow ? a.overflow + large_values(in) * blockIdx.x : s.large;
  float* const hidden = gaussian + in.kernels * kPitch;
  float* const slope = hidden + in.kernels * kPitch;
  float* const dout = slope + in.kernels * kPitch;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const MlpPartial place(in.heads, in.kernels);
  float* const part = a.mlp_parts + blockIdx.x * place.length;
  float* const gaussian_part = a.gaussian_parts + std::int64_t{blockIdx.x} * 2 * kernels;
  for (std::int64_t k = tid; k < place.length; k += kThreads) part[k] = 0;
  for (int k = tid; k < 2 * kernels; k += kThreads) gaussian_part[k] = 0;

  shown.start(in);
  while (const int rows = shown.fill(in)) {
    // Rows past the last are finite, with a gradient of zero.
    const float u = lane < rows ? shown.u[lane] : 0.0f;
    for (int k = warp; k < kernels; k += kWarps) {
      gaussian[k * kPitch + lane] = a.e.height[k] * bell<false>((u - a.e.mean[k]) * a.e.inverse_sigma[k]);
    }
    for (int h = warp; h < heads; h += kWarps) {
      dout[h * kPitch + lane] = lane < rows ? a.dbias[shown.at[lane] + h * shown.stride(lane)] : 0.0f;
    }
    __syncthreads();

    along_rows(kernels, kernels, a.e.w1_transposed, gaussian, [&](int k, int first, const float(&v)[kWarpRows]) {
      const float b1 = a.e.b1[k];
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) slope[k * kPitch + first + r] = v[r] + b1;
#pragma unroll 2
      for (int r = 0; r < kWarpRows; ++r) {
        float& h = slope[k * kPitch + first + r];
        hidden[k * kPitch + first + r] = cuda::gelu(h);
        h = gelu_derivative(h);
      }
    });
    __syncthreads();

    add_outer(heads, kernels, dout, hidden, part + place.w2);
    add_rows(heads, dout, part + place.b2);
    along_rows(kernels, heads, in.tables.distance_w2, dout, [&](int k, int first, const float(&v)[kWarpRows]) {
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) slope[k * kPitch + first + r] *= v[r];
    });
    __syncthreads();

    add_outer(kernels, kernels, slope, gaussian, part + place.w1);
    add_rows(kernels, slope, part + place.b1);
    along_rows(kernels, kernels, in.tables.distance_w1, slope, [&](int k, int first, const float(&v)[kWarpRows]) {
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) hidden[k * kPitch + first + r] = v[r];
    });
    __syncthreads();

    // With z = (u − μ)/σ and c = dg g z/σ: dμ = c, dσ = dg g (z² − 1)/σ, du = −Σ c.
    for (int k = tid; k < kernels; k += kThreads) {
      const float mean = a.e.mean[k], inverse_sigma = a.e.inverse_sigma[k];
      float dmean = 0, dsigma = 0;
      for (int m = 0; m < rows; ++m) {
        float& dg = hidden[k * kPitch + m];
        const float z = (shown.u[m] - mean) * inverse_sigma, w = dg * gaussian[k * kPitch + m] * inverse_sigma;
        dg = w * z;
        dmean += w * z;
        dsigma += w * (z * z - 1.0f);
      }
      gaussian_part[k] += dmean;
      gaussian_part[kernels + k] += dsigma;
    }
    __syncthreads();
    for (int m = warp; m < rows; m += kWarps) {
      float sum = 0;
      for (int k = lane; k < kernels; k += 32) sum += hidden[k * kPitch + m];
      sum = warp_sum(sum);
      if (lane == 0) a.du[shown.pair[m]] -= sum;
    }
    shown.drop(rows);
  }
}

std::size_t tile_bytes(std::int64_t large) {
  SharedCut cut(nullptr);
  Tile tile(cut, large);
  return cut.bytes();
}

}  // namespace

std::int64_t overflow_of_distance_backward_float(Gpu& gpu, const Input& in) {
  return tile_bytes(large_values(in)) <= gpu.shared_bytes_of_block() ? 0 : large_values(in) * distance_blocks(in);
}

void distance_backward_float(Gpu& gpu, const DistanceBackward& a) {
  launch(gpu, distance_rows, dim3(static_cast<unsigned>(distance_blocks(a.in))), dim3(kThreads),
         tile_bytes(a.overflow ? 0 : large_values(a.in)), a);
}

}  // namespace moleblend::relation
