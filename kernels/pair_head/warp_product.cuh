#pragma once
// Products of small matrices by a warp: bf16 on the tensor cores, float by FMAs, both with the same placing of the result, so that a
// kernel is written once for both.

#include "kernels/common/cuda/cuda.cuh"

namespace moleblend::cuda {

/// How an operand lies in memory: as it is written (rows one after the other), or its transpose.
enum class Stored { plain, transposed };

/// d [16, 8 Columns] += A [16, 16 Steps] · B [16 Steps, 8 Columns], by all 32 lanes. Lane 4 g + t holds of d[c] the elements (g, 8 c + 2 t),
/// (g, 8 c + 2 t + 1), (g + 8, 8 c + 2 t), (g + 8, 8 c + 2 t + 1). Rows are lda and ldb elements apart, as stored. bf16: in shared memory,
/// rows 16-byte aligned; lda and ldb of 40 and 24 are free of bank conflicts; without SharedB, B is in device memory. float: 36 and 20.
template <int Columns, int Steps, Stored LayoutA, Stored LayoutB, bool SharedB = true>
__device__ __forceinline__ void warp_product(float (&d)[Columns][4], const bf16* a, int lda, const bf16* b, int ldb) {
  static_assert(Columns % 2 == 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  // Offsets of this lane's rows within two pairs of 8 × 8 matrices: along the first index fast, or the second.
  const int low = lane & 15, high = lane >> 4 << 3, swapped_low = (lane >> 4 << 3) + (lane & 7),
            swapped_high = lane & 8;
  // Loads from device memory are under way for long, and keep registers.
  [[maybe_unused]] constexpr int kStepsAtOnce = SharedB ? Steps : 1;
#pragma unroll kStepsAtOnce
  for (int s = 0; s < Steps; ++s) {
    std::uint32_t x[4];
    if constexpr (LayoutA == Stored::plain) {
      ldmatrix_x4(x, a + low * lda + s * 16 + high);
    } else {
      ldmatrix_x4_trans(x, a + (s * 16 + swapped_low) * lda + swapped_high);
    }
#pragma unroll
    for (int c = 0; c < Columns; c += 2) {
      std::uint32_t y[4];
      if constexpr (not SharedB) {
#pragma unroll
        for (int q = 0; q < 4; ++q) {
          const int k = s * 16 + lane % 4 * 2 + q % 2 * 8, n = (c + q / 2) * 8 + lane / 4;
          const bf16 left = LayoutB == Stored::plain ? b[k * ldb + n] : b[n * ldb + k];
          const bf16 right = LayoutB == Stored::plain ? b[(k + 1) * ldb + n] : b[n * ldb + k + 1];
          y[q] = left.bits | std::uint32_t{right.bits} << 16;
        }
      } else if constexpr (LayoutB == Stored::plain) {
        ldmatrix_x4_trans(y, b + (s * 16 + low) * ldb + c * 8 + high);
      } else {
        ldmatrix_x4(y, b + (c * 8 + swapped_low) * ldb + s * 16 + swapped_high);
      }
      mma_m16n8k16_bf16(d[c], x, y[0], y[1]);
      mma_m16n8k16_bf16(d[c + 1], x, y[2], y[3]);
    }
  }
}

template <int Columns, int Steps, Stored LayoutA, Stored LayoutB, bool = true>
__device__ __forceinline__ void warp_product(float (&d)[Columns][4], const float* a, int lda, const float* b, int ldb) {
  const int row = static_cast<int>(threadIdx.x) % 32 / 4, column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll 1  // more would take registers that results need
  for (int k = 0; k < 16 * Steps; ++k) {
    const float* at = LayoutA == Stored::plain ? a + row * lda + k : a + k * lda + row;
    const float upper = at[0], lower = at[LayoutA == Stored::plain ? 8 * lda : 8];
#pragma unroll
    for (int c = 0; c < Columns; ++c) {
      const int n = 8 * c + column;
      const float left = LayoutB == Stored::plain ? b[k * ldb + n] : b[n * ldb + k];
      const float right = LayoutB == Stored::plain ? b[k * ldb + n + 1] : b[(n + 1) * ldb + k];
      d[c][0] = fmaf(upper, left, d[c][0]);
      d[c][1] = fmaf(upper, right, d[c][1]);
      d[c][2] = fmaf(lower, left, d[c][2]);
      d[c][3] = fmaf(lower, right, d[c][3]);
    }
  }
}

/// A result of warp_product to memory, rows `ld` elements apart.
template <int Columns, class T>
__device__ __forceinline__ void store_product(const float (&d)[Columns][4], T* to, int ld) {
  T* at = to + static_cast<int>(threadIdx.x) % 32 / 4 * ld + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int c = 0; c < Columns; ++c) {
    store<2>(at + 8 * c, {d[c][0], d[c][1]});
    store<2>(at + 8 * c + 8 * ld, {d[c][2], d[c][3]});
  }
}

}  // namespace moleblend::cuda
