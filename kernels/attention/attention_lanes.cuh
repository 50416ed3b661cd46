#pragma once
// What the tensor-core versions of attention share: how rows of a head lie on a warp's lanes, and heads on a grid.
//
// Operands go from global memory straight to the registers of mma_m16n8k16, in 16-byte loads. Rows of q, k, v or dout come in octets: 8 rows ×
// P columns (P: head width padded to 16, 32 or 64). Lane (g, t) = (lane / 4, lane % 4) holds of row g the columns 8t … 8t + 7 (and 32 + 8t …
// of 64; of 16: 4t … 4t + 3): one load. That is a fragment of mma, with the columns in another order; a product over columns does not mind,
// as long as both sides have the same order. Products over rows (p · v, ds · k, …) take the octet transposed, 8 × 8 at a time (movmatrix);
// their results come out in the very same layout: one 16-byte store a row. Columns past the head's width are zero.
//
// mma hands a lane columns 2t and 2t + 1 of each product of two octets; which keys those are is ours to say, by the rows of k and v that an
// octet holds. Two octets together hold 16 keys so that lane t has 4t … 4t + 3 (column_of): one philox block serves 8 columns of a row, so two
// neighbouring lanes, each of which draws for one of their two rows and gives the other its half.
//
// Inside a molecule 32 bits number everything: a bias of 2³¹ elements a head would fill no GPU's memory 32 times.

#include <limits>

#include "kernels/attention/attention_gpu.cuh"

namespace moleblend::attention_gpu {

using namespace cuda;

inline constexpr int kWarps = 4;  // a block, where warps work alone
inline constexpr std::int64_t kMoleculesInARow = 32768;

/// A block for each `per_block` heads of each molecule, side by side: their columns share memory sectors. No thread divides to find its place.
inline dim3 heads_grid(const SizeClass& molecules, std::int64_t heads, int per_block) {
  return dim3(blocks_for(heads, per_block), static_cast<unsigned>(std::min(molecules.count, kMoleculesInARow)),
              blocks_for(molecules.count, kMoleculesInARow));
}

inline int head_width_of(const AttentionInput<bf16>& in) {
  return static_cast<int>(in.width / in.heads);
}

__device__ __forceinline__ int lane_row() {
  return static_cast<int>(threadIdx.x % 32 / 4);
}
__device__ __forceinline__ int lane_quarter() {
  return static_cast<int>(threadIdx.x % 4);
}
/// Of 16 columns, the one that is row r of octet c, so that lane t has the columns 4t + 2c and the next of product c.
__device__ __forceinline__ constexpr int column_of(int c, int r) {
  return r / 2 * 4 + 2 * c + r % 2;
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullWarp, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(kFullWarp, x, 1);
  return x + __shfl_xor_sync(kFullWarp, x, 2);
}

/// A lane's part of 8 rows × P columns: word w has two neighbouring columns.
template <int P>
struct Rows {
  std::uint32_t word[P / 8];
};
template <int P>
constexpr int kPiece = P < 32 ? 4 : 8;  // columns of a load

/// Row `row` is this lane's; zero unless it is below `rows`, and past `width` columns.
template <int P>
__device__ __forceinline__ Rows<P> load_row(const bf16* from, int pitch, int row, int rows, int width) {
  constexpr int piece = kPiece<P>;
  Rows<P> r{};
#pragma unroll
  for (int u = 0; u < P / (4 * piece); ++u) {
    const int column = (4 * u + lane_quarter()) * piece;
    if (row >= rows || column >= width) continue;
    const auto loaded = *reinterpret_cast<const Piece<piece, bf16>*>(from + (row * pitch + column));
#pragma unroll
    for (int k = 0; k < piece / 2; ++k) r.word[u * piece / 2 + k] = loaded.word[k];
  }
  return r;
}
/// A lane's row of d, g (e = 0) or g + 8 (e = 2), times `factor`, is row `row`.
template <int P>
__device__ __forceinline__ void store_row(bf16* to, int pitch, int row, int rows, int width, const float (&d)[P / 8][4],
                                          int e, float factor) {
  constexpr int piece = kPiece<P>;
#pragma unroll
  for (int u = 0; u < P / (4 * piece); ++u) {
    const int column = (4 * u + lane_quarter()) * piece;
    if (row >= rows || column >= width) continue;
    float x[piece];
#pragma unroll
    for (int k = 0; k < piece; ++k) x[k] = d[u * piece / 2 + k / 2][e + k % 2] * factor;
    if constexpr (piece == 8) {
      store_16_bytes(to + (row * pitch + column), Piece<8, bf16>(x).word);
    } else {
      store<piece>(to + (row * pitch + column), x);
    }
  }
}
/// Head with where its parts lie.
struct TensorHead : Head<bf16> {
  int pitch, width;  // of qkv; of the head
  const bf16 *q, *k, *v, *bias;
  float scale;

  __device__ TensorHead(const AttentionInput<bf16>& in, std::int64_t rank, int head, int head_width)
      : Head(in, rank, head, head_width), pitch(static_cast<int>(3 * in.width)), width(head_width), scale(in.scale) {
    q = in.qkv + token * pitch + column;
    k = q + in.width;
    v = k + in.width;
    bias = in.bias ? in.bias + bias_at : nullptr;
  }
};

/// A score of key j, from the product of its rows: −∞ past the last key.
__device__ __forceinline__ float score(float product, float scale, bf16 bias, int j, int n) {
  return j < n ? product * scale + to_float(bias) : -std::numeric_limits<float>::infinity();
}
/// exp(score − base), from base · log₂ e.
__device__ __forceinline__ float exp_from(float score, float base_in_bits) {
  return exp2_fast(fmaf(score, kLog2E, -base_in_bits));
}

/// `count` <= Most values in memory, one after the other, that a warp adds its own to; in two steps, since loads take long. A lane's values of a
/// tile are four bytes of each of many sectors; so they take their places in shared memory, and a warp adds 32 at a time, whole sectors.
template <int Most>
struct RunOfSums {
  float* first;  // null: none
  int count;
  float before[Most / 32];

  __device__ __forceinline__ RunOfSums(float* begin, int values) : first(begin), count(begin ? values : 0) {
    for_each([&](int k, int at) { before[k] = first[at]; });
  }
  /// `tile`: what to add, written by the warp.
  __device__ __forceinline__ void add(const float* tile) const {
    __syncwarp();
    for_each([&](int k, int at) { first[at] = before[k] + tile[at]; });
  }

 private:
  template <class F>
  __device__ __forceinline__ void for_each(const F& f) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
    for (int k = 0; k < Most / 32; ++k) {
      if (32 * k + lane < count) f(k, 32 * k + lane);
    }
  }
};

/// The place of a block's molecule in its class; blocks lie as heads_grid() says.
__device__ __forceinline__ std::int64_t rank_of_block() {
  return std::int64_t{blockIdx.z} * kMoleculesInARow + blockIdx.y;
}

// The two files' kernels. Small: no molecule has more than 24 tokens.
void forward_small(Gpu& gpu, const AttentionForward<bf16>& a, const SizeClass& molecules);
void backward_small(Gpu& gpu, const AttentionBackward<bf16>& a, const SizeClass& molecules);

}  // namespace moleblend::attention_gpu
