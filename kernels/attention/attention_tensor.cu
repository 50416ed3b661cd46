// Attention in bf16 of molecules with more than 24 tokens (attention_small.cu has the others), in tiles of 16 × 16 scores. What a lane holds says
// attention_lanes.cuh; a tile is 8 values a lane: of rows g and g + 8 the columns 4t … 4t + 3.
//
// Who does what. Forward: a warp has 16 rows of one head; up to 32 tokens, all its rows. Backward: a warp has 16 rows and computes their
// scores, statistics, dq and dbias, then 16 columns and their dk and dv. Up to 64 tokens the scores of the rows stay in registers, and
// probabilities and gradients reach the warp of the columns through shared memory, as operands. Beyond, scores are recomputed in tiles:
// once for statistics, once for dq, once for dk and dv. Neighbouring warps have neighbouring heads, whose rows share memory sectors.

#include "kernels/attention/attention_lanes.cuh"

namespace moleblend::attention_gpu {
namespace {

/// 16 rows from i0 in their order (queries), or in that of a tile's columns (keys and values).
template <int P>
__device__ __forceinline__ void load_16_rows(Rows<P> (&r)[2], const bf16* from, int pitch, int i0, int rows,
                                             int width) {
#pragma unroll
  for (int c = 0; c < 2; ++c) r[c] = load_row<P>(from, pitch, i0 + lane_row() + 8 * c, rows, width);
}
template <int P>
__device__ __forceinline__ void load_16_columns(Rows<P> (&r)[2], const bf16* from, int pitch, int j0, int rows,
                                                int width) {
#pragma unroll
  for (int c = 0; c < 2; ++c) r[c] = load_row<P>(from, pitch, j0 + column_of(c, lane_row()), rows, width);
}
template <int P>
__device__ __forceinline__ void store_16_rows(bf16* to, int pitch, int i0, int rows, int width,
                                              const float (&d)[P / 8][4], float factor) {
#pragma unroll
  for (int c = 0; c < 2; ++c) store_row<P>(to, pitch, i0 + lane_row() + 8 * c, rows, width, d, 2 * c, factor);
}
template <int P>
__device__ __forceinline__ void store_16_columns(bf16* to, int pitch, int j0, int rows, int width,
                                                 const float (&d)[P / 8][4], float factor) {
#pragma unroll
  for (int c = 0; c < 2; ++c) store_row<P>(to, pitch, j0 + column_of(c, lane_row()), rows, width, d, 2 * c, factor);
}

/// A lane's part of 16 × 16 values: [c][e] is row g + 8 (e / 2), column 4t + 2c + e % 2.
using Tile = float[2][4];
using BiasTile = bf16[2][4];

/// d += a · bᵀ, over columns.
template <int P>
__device__ __forceinline__ void add_products_of_rows(Tile& d, const Rows<P> (&a)[2], const Rows<P> (&b)[2]) {
#pragma unroll
  for (int s = 0; s < P / 8; s += 2) {
    const std::uint32_t fragment[4] = {a[0].word[s], a[1].word[s], a[0].word[s + 1], a[1].word[s + 1]};
#pragma unroll
    for (int c = 0; c < 2; ++c) mma_m16n8k16_bf16(d[c], fragment, b[c].word[s], b[c].word[s + 1]);
  }
}
/// d [16, P] += a [16, 16] · b [16, P], over rows of b.
template <int P>
__device__ __forceinline__ void add_product(float (&d)[P / 8][4], const std::uint32_t (&a)[4], const Rows<P> (&b)[2]) {
#pragma unroll
  for (int w = 0; w < P / 8; ++w) mma_m16n8k16_bf16(d[w], a, transpose_8x8(b[0].word[w]), transpose_8x8(b[1].word[w]));
}
/// A tile as the left operand of mma, and that operand transposed.
__device__ __forceinline__ void as_operand(std::uint32_t (&a)[4], const Tile& x) {
#pragma unroll
  for (int k = 0; k < 4; ++k) a[k] = pack_bf16(x[k / 2][k % 2 * 2], x[k / 2][k % 2 * 2 + 1]);
}
__device__ __forceinline__ void transpose_operand(std::uint32_t (&to)[4], const std::uint32_t (&a)[4]) {
  to[0] = transpose_8x8(a[0]);
  to[1] = transpose_8x8(a[2]);
  to[2] = transpose_8x8(a[1]);
  to[3] = transpose_8x8(a[3]);
}

/// The draws of a lane's part of a tile: word[half][c] has those of row g + 8 half, columns 4t + 2c and the one after.
struct TileDraws {
  std::uint32_t word[2][2];

  /// Of the tile at (i0, j0).
  __device__ __forceinline__ TileDraws(const HeadDraws& draws, int i0, int j0) : word{} {
    if (!draws.active) return;
    const bool odd = lane_quarter() % 2 != 0;
    const PhiloxWords own = draws.draw(i0 + lane_row() + (odd ? 8 : 0), j0 / 8 + lane_quarter() / 2);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const std::uint32_t lower = own.word[c], upper = own.word[2 + c];
      const std::uint32_t got = __shfl_xor_sync(kFullWarp, odd ? lower : upper, 1);
      word[0][c] = odd ? got : lower;
      word[1][c] = odd ? upper : got;
    }
  }
  __device__ __forceinline__ TileDraws() : word{} {}
  /// Whether value [c][e] is kept.
  __device__ __forceinline__ bool keeps(int c, int e, std::uint32_t threshold) const {
    return cuda::keeps(word[e / 2][c], e % 2, threshold);
  }
};

/// Of the tile at (i0, j0); zero outside, and without a bias.
__device__ __forceinline__ void load_bias(BiasTile& b, const TensorHead& head, int i0, int j0) {
  const int j = j0 + 4 * lane_quarter();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = i0 + lane_row() + 8 * half;
    const bool biased = head.bias && i < head.n;
    const bf16* row = head.bias + (i * head.n + j);
#pragma unroll
    for (int right = 0; right < 4; ++right)
      b[right / 2][2 * half + right % 2] = biased && j + right < head.n ? row[right] : bf16{0};
  }
}
/// Products to scores, in place; −∞ past the last column, finite past the last row.
__device__ __forceinline__ void to_scores(Tile& s, const TensorHead& head, const BiasTile& b, int j0) {
#pragma unroll
  for (int c = 0; c < 2; ++c)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[c][e] = score(s[c][e], head.scale, b[c][e], j0 + 4 * lane_quarter() + 2 * c + e % 2, head.n);
    }
}

// Blocks of a multiprocessor that registers are divided among: as many as leave enough of them (the compiler's report shows no spills).
template <int P, int Tiles>
struct BlocksOfMultiprocessor {
  enum : int {
    forward = P <= 32 ? (Tiles == 2 ? 4 : 3) : 2,
    backward = P <= 32 ? (Tiles == 2 ? 4 : 2) : (Tiles == 2 ? 3 : 2)
  };
};

/// 16-column tiles that a warp has at once of molecules with more than 32 tokens.
template <int P>
constexpr int kChunk = P <= 32 ? 4 : 3;

/// Tiles = 2: molecules of up to 32 tokens; a warp has all rows. Else: any, 16 rows a warp.
template <int P, int Tiles>
__global__ void __launch_bounds__(32 * kWarps, BlocksOfMultiprocessor<P, Tiles>::forward)
    forward_kernel(const AttentionForward<bf16> a, const SizeClass molecules, int head_width) {
  constexpr bool whole_rows =
      Tiles == 2;  // else scores come chunk by chunk, and sums are kept relative to the maximum so far
  unsigned group = blockIdx.x, row_block = 0, row_blocks = 1;
  if constexpr (!whole_rows) {
    const unsigned groups = (static_cast<unsigned>(a.in.heads) + kWarps - 1) / kWarps;
    group = blockIdx.x % groups, row_block = blockIdx.x / groups, row_blocks = gridDim.x / groups;
  }
  const std::int64_t rank = rank_of_block();
  const int h = static_cast<int>(group * kWarps + threadIdx.x / 32);
  if (rank >= molecules.count || h >= a.in.heads) return;
  const TensorHead head(a.in, molecules.first + rank, h, head_width);
  const int n = head.n, width = static_cast<int>(a.in.width);
#pragma unroll 1
  for (int i0 = 16 * static_cast<int>(row_block); i0 < n; i0 += 16 * static_cast<int>(row_blocks)) {
    Rows<P> q[2];
    load_16_rows<P>(q, head.q, head.pitch, i0, n, head.width);
    float out[P / 8][4] = {}, sum[2] = {}, largest[2];
    largest[0] = largest[1] = -std::numeric_limits<float>::infinity();
    for (int j0 = 0; j0 < (whole_rows ? 1 : n); j0 += 16 * Tiles) {
      Tile s[Tiles] = {};
      Rows<P> v[Tiles][2];
      TileDraws draws[Tiles];
      const float before[2] = {largest[0], largest[1]};
#pragma unroll
      for (int m = 0; m < Tiles; ++m) {
        const int j = j0 + 16 * m;
        if (j >= n) continue;
        Rows<P> k[2];
        BiasTile bias;
        load_16_columns<P>(k, head.k, head.pitch, j, n, head.width);
        load_16_columns<P>(v[m], head.v, head.pitch, j, n, head.width);
        load_bias(bias, head, i0, j);
        draws[m] = TileDraws(head.draws, i0, j);
        add_products_of_rows<P>(s[m], q, k);
        to_scores(s[m], head, bias, j);
#pragma unroll
        for (int e = 0; e < 8; ++e) largest[e % 4 / 2] = fmaxf(largest[e % 4 / 2], s[m][e / 4][e % 4]);
      }
      float base[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        base[r] = largest[r] = quad_max(largest[r]);
        if constexpr (!whole_rows) {
          // A row that is hidden so far adds nothing; one that stays hidden ends as 0 / 0.
          if (largest[r] == -std::numeric_limits<float>::infinity()) base[r] = 0;
          const float correction = exp_from(before[r], base[r] * kLog2E);
          sum[r] *= correction;
#pragma unroll
          for (int w = 0; w < P / 8; ++w) out[w][2 * r] *= correction, out[w][2 * r + 1] *= correction;
        }
      }
#pragma unroll
      for (int m = 0; m < Tiles; ++m) {
        if (j0 + 16 * m >= n) continue;
#pragma unroll
        for (int c = 0; c < 2; ++c)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float p = exp_from(s[m][c][e], base[e / 2] * kLog2E);
            sum[e / 2] += p;
            s[m][c][e] = draws[m].keeps(c, e, head.draws.threshold) ? p : 0.0f;
          }
        std::uint32_t p[4];
        as_operand(p, s[m]);
        add_product<P>(out, p, v[m]);
      }
    }
    bf16* to = a.out + head.token * a.in.width + head.column;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float factor = __fdividef(head.draws.scale, quad_sum(sum[r]));  // a sum of at least 1, or NaN
      store_row<P>(to, width, i0 + lane_row() + 8 * r, n, head.width, out, 2 * r, factor);
    }
  }
}

/// The tile of a backward pass at (i0, j0): adds scores to s, gradients of dropped probabilities to dp. Returns its draws.
template <int P>
__device__ __forceinline__ TileDraws scores_and_gradients(Tile& s, Tile& dp, const TensorHead& head,
                                                          const Rows<P> (&q)[2], const Rows<P> (&dout)[2],
                                                          const Rows<P> (&k)[2], const Rows<P> (&v)[2], int i0,
                                                          int j0) {
  BiasTile bias;
  load_bias(bias, head, i0, j0);
  const TileDraws draws(head.draws, i0, j0);
  add_products_of_rows<P>(s, q, k);
  add_products_of_rows<P>(dp, dout, v);
  to_scores(s, head, bias, j0);
  return draws;
}

/// Scores and gradients of dropped probabilities become dropped probabilities and gradients of scores.
__device__ __forceinline__ void to_gradients(Tile& s, Tile& dp, const TileDraws& tile, const HeadDraws& draws,
                                             const RowStatistics (&rows)[2]) {
#pragma unroll
  for (int c = 0; c < 2; ++c)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const RowStatistics& row = rows[e / 2];
      const float p = exp_from(s[c][e], row.largest * kLog2E) * row.inverse;
      const float factor = tile.keeps(c, e, draws.threshold) ? draws.scale : 0.0f;
      s[c][e] = p * factor;
      dp[c][e] = p * (dp[c][e] * factor - row.delta);
    }
}
/// A tile's part of dbias, in two steps: the load early, dbias + ds later.
struct BiasGradientTile {
  float* row[2];
  bool real[2][4];
  float before[2][4];

  __device__ __forceinline__ BiasGradientTile(float* dbias, int i0, int j0, int n) {
    const int j = j0 + 4 * lane_quarter();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = i0 + lane_row() + 8 * half;
      row[half] = dbias + (i * n + j);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        real[half][k] = dbias && i < n && j + k < n;
        if (real[half][k]) before[half][k] = row[half][k];
      }
    }
  }
  __device__ __forceinline__ void add(const Tile& ds) const {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (real[half][k]) row[half][k] = before[half][k] + ds[k / 2][2 * half + k % 2];
      }
  }
};

/// The tile at (i0, j0) to where the rows from i0 on begin, as they lie in [n, n].
__device__ __forceinline__ void to_run(float* rows, const Tile& x, int i0, int j0, int n) {
#pragma unroll
  for (int c = 0; c < 2; ++c)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = lane_row() + e / 2 * 8, j = j0 + 4 * lane_quarter() + 2 * c + e % 2;
      if (i0 + row < n && j < n) rows[row * n + j] = x[c][e];
    }
}

template <int Tiles>
constexpr int kHeadsOfBlock = Tiles == 2 ? 2 : 1;

/// Molecules of up to 16 Tiles tokens. A head has Tiles warps, each with 16 rows, whose scores are in its registers; afterwards each has
/// 16 columns.
template <int P, int Tiles>
__global__ void __launch_bounds__(32 * Tiles * kHeadsOfBlock<Tiles>, BlocksOfMultiprocessor<P, Tiles>::backward)
    backward_rows_kernel(const AttentionBackward<bf16> a, const SizeClass molecules, int head_width) {
  // Left operands of dk and dv that the warp of some rows has and the warp of some columns needs.
  struct alignas(16) Operand {
    std::uint32_t value[4];
  };
  GPU_SHARED(Operand, operands, [kHeadsOfBlock<Tiles>][Tiles][Tiles][2][32]);
  constexpr int kMost = 256 * Tiles;  // scores of a warp's rows
  GPU_SHARED(float, rows_of_gradients, [Tiles * kHeadsOfBlock<Tiles>][kMost]);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t rank = rank_of_block();
  const int h = static_cast<int>(blockIdx.x) * kHeadsOfBlock<Tiles> + warp / Tiles;
  if (rank >= molecules.count || h >= a.in.heads) return;
  const TensorHead head(a.in, molecules.first + rank, h, head_width);
  const int n = head.n, width = head.width, i0 = 16 * (warp % Tiles);
  if (i0 >= n) return;
  const int pitch = head.pitch, out_pitch = static_cast<int>(a.in.width);
  const bf16* dout_rows = a.dout + head.token * a.in.width + head.column;
  bf16* dqkv = a.dqkv + head.token * pitch + head.column;
  float* dbias = a.dbias ? a.dbias + head.bias_at : nullptr;

  Rows<P> q[2], dout[2];
  load_16_rows<P>(q, head.q, pitch, i0, n, width);
  load_16_rows<P>(dout, dout_rows, out_pitch, i0, n, width);
  constexpr bool keep_keys = Tiles * P <= 64;  // else they are loaded twice
  Rows<P> k[keep_keys ? Tiles : 1][2];
  Tile s[Tiles] = {}, dp[Tiles] = {};
  TileDraws draws[Tiles];
  RowStatistics rows[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) rows[r] = {-std::numeric_limits<float>::infinity(), 0, 0};
#pragma unroll
  for (int m = 0; m < Tiles; ++m) {
    const int j0 = 16 * m;
    if (j0 >= n) continue;
    Rows<P>(&keys)[2] = k[keep_keys ? m : 0];
    Rows<P> v[2];
    load_16_columns<P>(keys, head.k, pitch, j0, n, width);
    load_16_columns<P>(v, head.v, pitch, j0, n, width);
    draws[m] = scores_and_gradients<P>(s[m], dp[m], head, q, dout, keys, v, i0, j0);
#pragma unroll
    for (int e = 0; e < 8; ++e) rows[e % 4 / 2].largest = fmaxf(rows[e % 4 / 2].largest, s[m][e / 4][e % 4]);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) rows[r].largest = quad_max(rows[r].largest);
  float sum[2] = {};
#pragma unroll
  for (int m = 0; m < Tiles; ++m) {
    if (16 * m >= n) continue;
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float p = exp_from(s[m][c][e], rows[e / 2].largest * kLog2E);
        s[m][c][e] = p;
        dp[m][c][e] = draws[m].keeps(c, e, head.draws.threshold) ? dp[m][c][e] * head.draws.scale : 0.0f;
        sum[e / 2] += p;
        rows[e / 2].delta += p * dp[m][c][e];
      }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows[r].inverse = 1.0f / quad_sum(sum[r]);
    rows[r].delta = quad_sum(rows[r].delta) * rows[r].inverse;
  }
  float dq[P / 8][4] = {};
  std::uint32_t ds_operand[4], p_operand[4];
#pragma unroll
  for (int m = 0; m < Tiles; ++m) {
    const int j0 = 16 * m;
    if (j0 >= n) continue;
    Rows<P>(&keys)[2] = k[keep_keys ? m : 0];
    if (!keep_keys) load_16_columns<P>(keys, head.k, pitch, j0, n, width);
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float p = s[m][c][e] * rows[e / 2].inverse;
        dp[m][c][e] = p * (dp[m][c][e] - rows[e / 2].delta);
        s[m][c][e] = draws[m].keeps(c, e, head.draws.threshold) ? p * head.draws.scale : 0.0f;
      }
    std::uint32_t operand[4];
    as_operand(operand, dp[m]);
    add_product<P>(dq, operand, keys);
    transpose_operand(ds_operand, operand);
    as_operand(operand, s[m]);
    transpose_operand(p_operand, operand);
    if (dbias) to_run(rows_of_gradients[warp], dp[m], i0, j0, n);
    operands[warp / Tiles][i0 / 16][m][0][lane] = {ds_operand[0], ds_operand[1], ds_operand[2], ds_operand[3]};
    operands[warp / Tiles][i0 / 16][m][1][lane] = {p_operand[0], p_operand[1], p_operand[2], p_operand[3]};
  }
  const RunOfSums<kMost> bias_gradient(dbias ? dbias + i0 * n : nullptr, min(16, n - i0) * n);
  store_16_rows<P>(dqkv, pitch, i0, n, width, dq, head.scale);
  bias_gradient.add(rows_of_gradients[warp]);

  float dk[P / 8][4] = {}, dv[P / 8][4] = {};
  __syncthreads();
#pragma unroll 1
  for (int r0 = 0; r0 < n; r0 += 16) {
    load_16_rows<P>(q, head.q, pitch, r0, n, width);
    load_16_rows<P>(dout, dout_rows, out_pitch, r0, n, width);
    const Operand ds = operands[warp / Tiles][r0 / 16][i0 / 16][0][lane],
                  p = operands[warp / Tiles][r0 / 16][i0 / 16][1][lane];
    add_product<P>(dk, ds.value, q);
    add_product<P>(dv, p.value, dout);
  }
  store_16_columns<P>(dqkv + a.in.width, pitch, i0, n, width, dk, head.scale);
  store_16_columns<P>(dqkv + 2 * a.in.width, pitch, i0, n, width, dv, 1.0f);
}

/// Any number of tokens; a block has a head. `scratch`: see statistics_scratch(); null up to 128 tokens.
template <int P>
__global__ void __launch_bounds__(256)
    backward_kernel(const AttentionBackward<bf16> a, const SizeClass molecules, int head_width, float* scratch) {
  GPU_SHARED(float, in_shared_memory, [3 * kRowsInSharedMemory]);
  const std::int64_t rank = rank_of_block();
  if (rank >= molecules.count) return;
  const int h = static_cast<int>(blockIdx.x);
  const TensorHead head(a.in, molecules.first + rank, h, head_width);
  const int n = head.n, width = head.width, warp = static_cast<int>(threadIdx.x / 32),
            warps = static_cast<int>(blockDim.x / 32), pitch = head.pitch, out_pitch = static_cast<int>(a.in.width);
  const bf16* dout_rows = a.dout + head.token * a.in.width + head.column;
  bf16* dqkv = a.dqkv + head.token * pitch + head.column;
  float* dbias = a.dbias ? a.dbias + head.bias_at : nullptr;
  const StatisticsRows statistics = scratch
                                        ? StatisticsRows{scratch + (head.token * a.in.heads + h) * 3, 3 * a.in.heads}
                                        : StatisticsRows{in_shared_memory, 3};

#pragma unroll 1
  for (int i0 = 16 * warp; i0 < n; i0 += 16 * warps) {
    Rows<P> q[2], dout[2];
    load_16_rows<P>(q, head.q, pitch, i0, n, width);
    load_16_rows<P>(dout, dout_rows, out_pitch, i0, n, width);
    RowStatistics rows[2];
    float sum[2] = {};
#pragma unroll
    for (int r = 0; r < 2; ++r) rows[r] = {-std::numeric_limits<float>::infinity(), 0, 0};
#pragma unroll 1
    for (int j0 = 0; j0 < n; j0 += 16) {
      Rows<P> k[2], v[2];
      load_16_columns<P>(k, head.k, pitch, j0, n, width);
      load_16_columns<P>(v, head.v, pitch, j0, n, width);
      Tile s = {}, dp = {};
      const TileDraws draws = scores_and_gradients<P>(s, dp, head, q, dout, k, v, i0, j0);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float largest = rows[r].largest;
#pragma unroll
        for (int k2 = 0; k2 < 4; ++k2) largest = fmaxf(largest, s[k2 / 2][2 * r + k2 % 2]);
        largest = quad_max(largest);
        const float base = largest == -std::numeric_limits<float>::infinity() ? 0.0f : largest;
        const float correction = exp_from(rows[r].largest, base * kLog2E);
        rows[r].largest = largest;
        sum[r] *= correction;
        rows[r].delta *= correction;
#pragma unroll
        for (int k2 = 0; k2 < 4; ++k2) {
          const int c = k2 / 2, e = 2 * r + k2 % 2;
          const float p = exp_from(s[c][e], base * kLog2E);
          sum[r] += p;
          if (draws.keeps(c, e, head.draws.threshold)) rows[r].delta += p * dp[c][e] * head.draws.scale;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      rows[r].inverse = 1.0f / quad_sum(sum[r]);
      rows[r].delta = quad_sum(rows[r].delta) * rows[r].inverse;
      const int i = i0 + lane_row() + 8 * r;
      if (lane_quarter() == 0 && i < n) statistics.put(i, rows[r]);
    }
    float dq[P / 8][4] = {};
#pragma unroll 1
    for (int j0 = 0; j0 < n; j0 += 16) {
      Rows<P> k[2], v[2];
      load_16_columns<P>(k, head.k, pitch, j0, n, width);
      load_16_columns<P>(v, head.v, pitch, j0, n, width);
      Tile s = {}, dp = {};
      const TileDraws draws = scores_and_gradients<P>(s, dp, head, q, dout, k, v, i0, j0);
      to_gradients(s, dp, draws, head.draws, rows);
      BiasGradientTile(dbias, i0, j0, n).add(dp);
      std::uint32_t ds[4];
      as_operand(ds, dp);
      add_product<P>(dq, ds, k);
    }
    store_16_rows<P>(dqkv, pitch, i0, n, width, dq, head.scale);
  }
  __syncthreads();
#pragma unroll 1
  for (int j0 = 16 * warp; j0 < n; j0 += 16 * warps) {
    Rows<P> k[2], v[2];
    load_16_columns<P>(k, head.k, pitch, j0, n, width);
    load_16_columns<P>(v, head.v, pitch, j0, n, width);
    float dk[P / 8][4] = {}, dv[P / 8][4] = {};
#pragma unroll 1
    for (int i0 = 0; i0 < n; i0 += 16) {
      Rows<P> q[2], dout[2];
      load_16_rows<P>(q, head.q, pitch, i0, n, width);
      load_16_rows<P>(dout, dout_rows, out_pitch, i0, n, width);
      RowStatistics rows[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int i = i0 + lane_row() + 8 * r;
        rows[r] = i < n ? statistics.get(i) : RowStatistics{0, 0, 0};
      }
      Tile s = {}, dp = {};
      const TileDraws draws = scores_and_gradients<P>(s, dp, head, q, dout, k, v, i0, j0);
      to_gradients(s, dp, draws, head.draws, rows);
      std::uint32_t operand[4], transposed[4];
      as_operand(operand, dp);
      transpose_operand(transposed, operand);
      add_product<P>(dk, transposed, q);
      as_operand(operand, s);
      transpose_operand(transposed, operand);
      add_product<P>(dv, transposed, dout);
    }
    store_16_columns<P>(dqkv + a.in.width, pitch, j0, n, width, dk, head.scale);
    store_16_columns<P>(dqkv + 2 * a.in.width, pitch, j0, n, width, dv, 1.0f);
  }
}

template <int P>
void forward_padded(Gpu& gpu, const AttentionForward<bf16>& a) {
  const int head_width = head_width_of(a.in);
  for_each_class(a.in.packed, [&](const SizeClass& molecules) {
    const dim3 blocks = heads_grid(molecules, a.in.heads, kWarps), threads(32 * kWarps);
    if (molecules.tokens > 32) {
      const dim3 rows_too(blocks.x * std::min(blocks_for(molecules.tokens, 16), 65535u), blocks.y, blocks.z);
      launch(gpu, forward_kernel<P, kChunk<P>>, rows_too, threads, 0, a, molecules, head_width);
    } else if (molecules.tokens > 24) {
      launch(gpu, forward_kernel<P, 2>, blocks, threads, 0, a, molecules, head_width);
    } else {
      forward_small(gpu, a, molecules);
    }
  });
}

template <int P, int Tiles>
void backward_rows(Gpu& gpu, const AttentionBackward<bf16>& a, const SizeClass& molecules) {
  launch(gpu, backward_rows_kernel<P, Tiles>, heads_grid(molecules, a.in.heads, kHeadsOfBlock<Tiles>),
         dim3(32 * Tiles * kHeadsOfBlock<Tiles>), 0, a, molecules, head_width_of(a.in));
}
template <int P>
void backward_padded(Gpu& gpu, const AttentionBackward<bf16>& a) {
  float* scratch = statistics_scratch(gpu, a.in.packed, a.in.heads);
  for_each_class(a.in.packed, [&](const SizeClass& molecules) {
    if (molecules.tokens > 64) {
      launch(gpu, backward_kernel<P>, heads_grid(molecules, a.in.heads, 1), dim3(256), 0, a, molecules,
             head_width_of(a.in), molecules.tokens > kRowsInSharedMemory ? scratch : nullptr);
    } else if (molecules.tokens > 32) {
      backward_rows<P, 4>(gpu, a, molecules);
    } else if (molecules.tokens > 24) {
      backward_rows<P, 2>(gpu, a, molecules);
    } else {
      backward_small(gpu, a, molecules);
    }
  });
}

}  // namespace

// Rows begin at multiples of 8 (16-byte loads), up to 16 columns of 4.
bool tensor_cores_take(std::int64_t head_width) {
  return head_width <= 64 && head_width % (head_width <= 16 ? 4 : 8) == 0;
}

void forward_tensor(Gpu& gpu, const AttentionForward<bf16>& a) {
  const std::int64_t d = a.in.width / a.in.heads;
  d <= 16 ? forward_padded<16>(gpu, a) : d <= 32 ? forward_padded<32>(gpu, a) : forward_padded<64>(gpu, a);
}

void backward_tensor(Gpu& gpu, const AttentionBackward<bf16>& a) {
  const std::int64_t d = a.in.width / a.in.heads;
  d <= 16 ? backward_padded<16>(gpu, a) : d <= 32 ? backward_padded<32>(gpu, a) : backward_padded<64>(gpu, a);
}

}  // namespace moleblend::attention_gpu
