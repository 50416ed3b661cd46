#pragma once
// A warp's work on a tile of 16 × 16 scores of one head, and how the rows of q and k come to it through shared memory.
//
// A tile lies in a warp as the accumulators of mma_m16n8k16 do: lane 4 g + t holds [j][2 r + c], the score of row g + 8 r and column
// 8 j + 2 t + c (j, r, c = 0, 1). In bf16 products run on tensor cores; in float each lane computes its own entries.
// A dropout draw's 8 elements are 8 columns of a row, so that word t of it is lane t's: see draw_words.

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/dropout.cuh"

namespace moleblend::denoise {

using namespace cuda;

constexpr int kTile = 16;
constexpr int kHeads = 4;  // of a block, one a warp: 4 heads' columns of a row are one run of 128 bytes and more
constexpr int kThreads = 32 * kHeads;

/// Rows of q or k in shared memory: `kHeads` heads, W features each. A row is an odd number of 16-byte pieces long, so that ldmatrix and
/// 16-byte loads of 8 rows meet no bank twice.
template <class T, int W>
struct Rows {
  static constexpr int kPiece = 16 / static_cast<int>(sizeof(T));
  static constexpr int kPitch = kHeads * W + kPiece;
  static_assert(kHeads % 2 == 0 && W % 8 == 0);
};
/// Row length of a warp's own tile(s) of score gradients, `columns` wide; an odd number of pieces again.
template <class T>
constexpr int gradient_pitch(int columns) {
  return columns + 16 / static_cast<int>(sizeof(T));
}

/// Which rows and columns of q, k, dq or dk a block works on: rows of a molecule, features [feature, feature + W) of consecutive heads.
struct Slab {
  std::int64_t stride;  // between rows
  int rows, heads;      // that exist; the rest is zero
  int head_width, feature;
};

// The copying loops stay rolled: unrolled ones keep the places of all their pieces in registers from one tile to the next, and what they
// start is asynchronous anyway.

/// Starts copying a slab into `tile` [kRows, kPitch], zeros around it; a copy_async_wait and a barrier end it. By the whole block.
template <class T, int W, int kRows>
__device__ __forceinline__ void stage(T* tile, const T* from, const Slab& slab) {
  constexpr int kPiece = Rows<T, W>::kPiece, kPitch = Rows<T, W>::kPitch, kPieces = W / kPiece;
  if (slab.head_width % kPiece == 0) {
#pragma unroll 1
    for (int p = static_cast<int>(threadIdx.x); p < kRows * kHeads * kPieces; p += kThreads) {
      const int row = p / (kHeads * kPieces), head = p / kPieces % kHeads, k = p % kPieces * kPiece;
      const bool inside = row < slab.rows && head < slab.heads && slab.feature + k < slab.head_width;
      copy_async_16(tile + row * kPitch + head * W + k,
                    inside ? from + row * slab.stride + head * slab.head_width + slab.feature + k : from,
                    inside ? 16 : 0);
    }
  } else {
#pragma unroll 1
    for (int p = static_cast<int>(threadIdx.x); p < kRows * kHeads * W; p += kThreads) {
      const int row = p / (kHeads * W), head = p / W % kHeads, k = p % W;
      const bool inside = row < slab.rows && head < slab.heads && slab.feature + k < slab.head_width;
      tile[row * kPitch + head * W + k] =
          inside ? from[row * slab.stride + head * slab.head_width + slab.feature + k] : store_as<T>(0);
    }
  }
}

/// Copies a slab out of `tile`, or zeros where `tile` is null. By the whole block.
template <class T, int W, int kRows>
__device__ __forceinline__ void unstage(T* to, const T* tile, const Slab& slab) {
  constexpr int kPiece = Rows<T, W>::kPiece, kPitch = Rows<T, W>::kPitch, kPieces = W / kPiece;
  if (slab.head_width % kPiece == 0) {
    using Vector = Piece<kPiece, T>;
#pragma unroll 1
    for (int p = static_cast<int>(threadIdx.x); p < kRows * kHeads * kPieces; p += kThreads) {
      const int row = p / (kHeads * kPieces), head = p / kPieces % kHeads, k = p % kPieces * kPiece;
      if (row >= slab.rows || head >= slab.heads || slab.feature + k >= slab.head_width) continue;
      *reinterpret_cast<Vector*>(to + row * slab.stride + head * slab.head_width + slab.feature + k) =
          tile ? *reinterpret_cast<const Vector*>(tile + row * kPitch + head * W + k) : Vector{};
    }
  } else {
#pragma unroll 1
    for (int p = static_cast<int>(threadIdx.x); p < kRows * kHeads * W; p += kThreads) {
      const int row = p / (kHeads * W), head = p / W % kHeads, k = p % W;
      if (row >= slab.rows || head >= slab.heads || slab.feature + k >= slab.head_width) continue;
      to[row * slab.stride + head * slab.head_width + slab.feature + k] =
          tile ? tile[row * kPitch + head * W + k] : store_as<T>(0);
    }
  }
}

/// s += q · k of 16 rows each.
template <int W>
__device__ __forceinline__ void add_scores(float (&s)[2][4], const bf16* q, const bf16* k) {
  constexpr int kPitch = Rows<bf16, W>::kPitch;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int f = 0; f < W; f += 16) {
    const bool whole = f + 8 < W;  // else 8 features are left, and the upper half of the fragments is zero
    std::uint32_t x[4], y[4];
    ldmatrix_x4(x, q + lane % 16 * kPitch + f + (whole ? lane / 16 * 8 : 0));
    ldmatrix_x4(y, k + (lane % 8 + lane / 16 * 8) * kPitch + f + (whole ? lane / 8 % 2 * 8 : 0));
    if (!whole) x[2] = x[3] = y[1] = y[3] = 0;
    mma_m16n8k16_bf16(s[0], x, y[0], y[1]);
    mma_m16n8k16_bf16(s[1], x, y[2], y[3]);
  }
}
template <int W>
__device__ __forceinline__ void add_scores(float (&s)[2][4], const float* q, const float* k) {
  constexpr int kPitch = Rows<float, W>::kPitch;
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll 2
  for (int f = 0; f < W; f += 4) {
    float x[2][4];
    load<4>(q + g * kPitch + f, x[0]);
    load<4>(q + (g + 8) * kPitch + f, x[1]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float y[4];
      load<4>(k + (e / 2 * 8 + 2 * t + e % 2) * kPitch + f, y);
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int n = 0; n < 4; ++n) s[e / 2][2 * r + e % 2] += x[r][n] * y[n];
    }
  }
}

/// sum [16, W] += m [16, 16] · x [16, W], or mᵀ · x. m is a warp's tile in shared memory with rows of kPitchOfM.
template <int W, int kPitchOfM, bool kTransposed>
__device__ __forceinline__ void add_product(float (&sum)[W / 8][4], const bf16* m, const bf16* x) {
  constexpr int kPitch = Rows<bf16, W>::kPitch;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t a[4];
  if constexpr (kTransposed)
    ldmatrix_x4_trans(a, m + (lane % 8 + lane / 16 * 8) * kPitchOfM + lane / 8 % 2 * 8);
  else
    ldmatrix_x4(a, m + lane % 16 * kPitchOfM + lane / 16 * 8);
#pragma unroll
  for (int f = 0; f < W / 8; f += 2) {
    const bool two = f + 1 < W / 8;
    std::uint32_t y[4];
    ldmatrix_x4_trans(y, x + lane % 16 * kPitch + 8 * f + (two ? lane / 16 * 8 : 0));
    mma_m16n8k16_bf16(sum[f], a, y[0], y[1]);
    if (two) mma_m16n8k16_bf16(sum[two ? f + 1 : f], a, y[2], y[3]);
  }
}
template <int W, int kPitchOfM, bool kTransposed>
__device__ __forceinline__ void add_product(float (&sum)[W / 8][4], const float* m, const float* x) {
  constexpr int kPitch = Rows<float, W>::kPitch;
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll 4
  for (int k = 0; k < kTile; ++k) {
    const float upper = kTransposed ? m[k * kPitchOfM + g] : m[g * kPitchOfM + k];
    const float lower = kTransposed ? m[k * kPitchOfM + g + 8] : m[(g + 8) * kPitchOfM + k];
#pragma unroll
    for (int f = 0; f < W / 8; ++f) {
      float y[2];
      load<2>(x + k * kPitch + 8 * f + 2 * t, y);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        sum[f][c] += upper * y[c];
        sum[f][2 + c] += lower * y[c];
      }
    }
  }
}

/// 16 rows of accumulators to shared memory.
template <class T, int kColumns8, int kPitch>
__device__ __forceinline__ void put(T* to, const float (&x)[kColumns8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int f = 0; f < kColumns8; ++f)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float two[2] = {x[f][2 * r], x[f][2 * r + 1]};
      store<2>(to + (g + 8 * r) * kPitch + 8 * f + 2 * t, two);
    }
}

/// Sums over the 4 lanes that hold a row, the same on each.
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(kFullWarp, x, 1);
  return x + __shfl_xor_sync(kFullWarp, x, 2);
}
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullWarp, x, 2));
}
/// Sum over the 8 lanes that hold a column, the same on each.
__device__ __forceinline__ float column_sum(float x) {
  x += __shfl_xor_sync(kFullWarp, x, 4);
  x += __shfl_xor_sync(kFullWarp, x, 8);
  return x + __shfl_xor_sync(kFullWarp, x, 16);
}

/// The random words of a lane's entries: word[j][r] holds the two of row g + 8 r and columns 8 j + 2 t + {0, 1}, low half first.
/// `row` is the draw (of 8 elements) at row 0 and column 0 of the tile, `stride` the draws from row to row.
/// A row's 4 lanes need 4 draws: each makes one, and they transpose the words.
__device__ __forceinline__ void draw_words(std::uint32_t (&word)[2][2], std::uint64_t key, Draw purpose,
                                           std::uint32_t row, std::uint32_t stride) {
  const std::uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  PhiloxWords own = philox_words(key, row + (g + 8 * (t % 2)) * stride + t / 2, purpose, 0);
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = (t & static_cast<std::uint32_t>(step)) != 0;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      std::uint32_t& low = own.word[step == 1 ? 2 * pair : pair];
      std::uint32_t& high = own.word[step == 1 ? 2 * pair + 1 : pair + 2];
      const std::uint32_t other = __shfl_xor_sync(kFullWarp, upper ? low : high, step);
      low = upper ? other : low;
      high = upper ? high : other;
    }
  }
#pragma unroll
  for (int u = 0; u < 4; ++u) word[u / 2][u % 2] = own.word[u];
}
}  // namespace moleblend::denoise
