#pragma once
// One pass over all pairs of the batch for any of the three pair heads, on a GPU: outputs r_iᵀ M_k c_j + m_k, a loss that turns the outputs
// of a pair into their gradients, and from these the gradients of r, c, M and m.
//
//   U_k = R M_k             [16 rows i, 32]
//   L_k = U_k cᵀ            [16 rows i, 16 columns j]
//   dU_k = dL_k c,          dc += Σ_k dL_kᵀ U_k
//   dR += Σ_k dU_k M_kᵀ,    dM_k += Rᵀ dU_k
//
// How the work lies on the machine. Pairs of a molecule go through a thread block in tiles of 16 × 16; most molecules are one tile. In
// products a warp owns one or two of the outputs k: its U_k, L_k and dU_k go through its own piece of shared memory, and dM_k stays in
// its registers from the first molecule of the block to the last. For the loss a thread owns a pair, whose outputs it reads across the
// pieces. Sums over k (dR, dc) are added up through the pieces of the warps, in their order. The edge head has a second grid dimension,
// its hops; a tile without a pair that counts in the hop is passed over. Features of the next tile are fetched while a tile is worked on.
//
// Molecules are dealt to the blocks from the largest to the smallest, back and forth, so that the blocks have the same work. Each
// block writes its sums of dM, dm and the loss, and each hop its dR and dc of an atom, and a second kernel adds them in a fixed order.
//
// Arithmetic: 2 kFLOP an (atom, output) and 64 FLOP a (pair, output), three times that with gradients; little memory is read or written. By
// count of instructions, not measured, a tile is limited by its four barriers and by the fragments' way through shared memory.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/common/carve.h"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/pair_head/pair_head.h"
#include "kernels/pair_head/warp_product.cuh"

namespace moleblend::pair_head {
namespace {

using namespace cuda;

constexpr int kTile = 16;  // rows i, and columns j, of a tile of pairs
constexpr int kTilePairs = kTile * kTile;
// Of an H100. How many blocks there are depends on it, and not on the GPU at hand, so that every GPU adds in the same order.
constexpr std::int64_t kMultiprocessors = 132;
constexpr int kWidth = static_cast<int>(kPairWidth), kMapSize = kWidth * kWidth;
constexpr int kLossPitch = 20;  // of L in float: writing fragments meets few bank conflicts, 8 rows read together none
constexpr int kSumPitch = 40;   // of a warp's part of dR or dc: writing fragments meets no bank conflict

template <class T>
inline constexpr int kPitch = sizeof(T) == 2 ? 40 : 36;  // of rows of 32, and
template <class T>
inline constexpr int kTilePitch = sizeof(T) == 2 ? 24 : kLossPitch;  // of rows of 16, as warp_product wants them

/// A molecule of the batch; `atom` and `pair` are its first ones. index < 0: none.
struct Molecule {
  std::int64_t atom, pair;
  int index, atoms;
};

/// The molecules of a block, a round each, in shared memory: those of 32 rounds at a time, read by one warp while the block works on the 32
/// before, so that nobody waits for the chain of reads that leads to them.
class Deal {
 public:
  __device__ Deal(const Packed& packed, Molecule* ring) : packed_(packed), ring_(ring) {}
  __device__ const Molecule& operator[](int round) const { return ring_[round % 64]; }
  /// Molecules from the largest to the smallest, back and forth. By a whole warp; met by a barrier before they are used.
  __device__ void read(int first_round) const {
    const int round = first_round + static_cast<int>(threadIdx.x) % 32;
    const std::int64_t place = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
    const std::int64_t rank = std::int64_t{round} * gridDim.x + place;
    Molecule m{0, 0, -1, 0};
    if (rank < packed_.molecules) {
      m.index = packed_.by_size[rank];
      m.atom = packed_.atom_offset[m.index];
      m.pair = packed_.pair_offset[m.index];
      m.atoms = static_cast<int>(packed_.atom_offset[m.index + 1] - m.atom);
    }
    ring_[round % 64] = m;
  }

 private:
  const Packed& packed_;
  Molecule* ring_;
};

/// A tile of pairs of the block's molecule of a round: rows from i, columns from j.
struct Tile {
  int round, i, j;
};
__device__ __forceinline__ Tile tile_after(const Deal& deal, Tile t) {
  const int atoms = deal[t.round].atoms;
  if ((t.j += kTile) < atoms) return t;
  t.j = 0;
  if ((t.i += kTile) < atoms) return t;
  // In the second round of 32 the 32 before them are done with.
  if (++t.round % 32 == 1 && threadIdx.x < 32) deal.read(t.round + 31);
  return {t.round, 0, 0};
}

/// A thread's part of a PairLossResult.
struct PairSums {
  double loss = 0, pair_error = 0;
  int count = 0, correct = 0;
};

/// What a block of the pass works on besides the loss.
template <class T>
struct PassArguments {
  Packed packed;
  Bilinear<T> head;
  bool gradient;
  float* logits;            // [P, outputs], or null
  float* dfeatures;         // [hops, N, 2, 32] gradients of r and c
  float* dweight;           // [grid.x, outputs, 32, 32]
  float* dbias;             // [grid.x, outputs]
  PairLossResult* results;  // [hops, grid.x]
};

/// Shared memory of a block. Loss has kOutputs (of a hop) and kWarps; outputs are dealt to the warps by ones or twos.
template <class T, class Loss>
struct Layout {
  static constexpr int kOutputs = Loss::kOutputs, kWarps = Loss::kWarps, kThreads = 32 * kWarps;
  static constexpr int kOwned = (kOutputs + kWarps - 1) / kWarps, kOwners = (kOutputs + kOwned - 1) / kOwned;
  static constexpr bool kKeepsMap = sizeof(T) == 2 && !Loss::kLittleMemory;  // M is here, for the tensor cores
  static constexpr bool kInPlace = sizeof(T) == 4 && Loss::kLittleMemory;    // dL takes the place of L, pair by pair
  static constexpr int kU = kTile * kPitch<T>, kL = kTile * kLossPitch, kSum = kTile * kSumPitch;
  static constexpr int kPieceU = std::max(kOwned * kU, kSum * 4 / static_cast<int>(sizeof(T)));
  static constexpr int kPieceL = std::max(kOwned * kL, kSum);
  static constexpr int kMap = kWidth * kPitch<T>, kDl = kTile * kTilePitch<T>;

  static constexpr int kAtL = kOwners * kPieceU * static_cast<int>(sizeof(T));
  static constexpr int kAtBias = kAtL + kOwners * kPieceL * 4;
  static constexpr int kAtFeatures = kAtBias + (kOutputs * 4 + 15) / 16 * 16;
  static constexpr int kAtDl = kAtFeatures + 4 * kU * static_cast<int>(sizeof(T));
  static constexpr int kAtMap = kAtDl + (kInPlace ? 0 : kOutputs * kDl * static_cast<int>(sizeof(T)));
  static constexpr int kBytes = kAtMap + (kKeepsMap ? kOutputs * kMap * 2 : 0);
  static constexpr int kStaticBytes = 3 * 1024;  // more than the static arrays have
  static_assert(kBytes + kStaticBytes <= (Loss::kLittleMemory ? 99 : 163) * 1024,
                "what a block of an A100, of others has");
  static_assert(!kInPlace || kTilePitch<T> == kLossPitch);

  unsigned char* memory;
  /// U, then dU, then a part of dR, of warp `owner`.
  __device__ T* piece_u(int owner) const { return reinterpret_cast<T*>(memory) + owner * kPieceU; }
  /// L, then a part of dc, of warp `owner`.
  __device__ float* piece_l(int owner) const { return reinterpret_cast<float*>(memory + kAtL) + owner * kPieceL; }
  __device__ float* sum_row(int owner) const { return reinterpret_cast<float*>(piece_u(owner)); }
  __device__ float* sum_column(int owner) const { return piece_l(owner); }
  __device__ T* u(int k) const { return piece_u(k / kOwned) + k % kOwned * kU; }
  __device__ float* l(int k) const { return piece_l(k / kOwned) + k % kOwned * kL; }
  __device__ T* dl(int k) const {
    return kInPlace ? reinterpret_cast<T*>(l(k)) : reinterpret_cast<T*>(memory + kAtDl) + k * kDl;
  }
  __device__ T* map(int k) const { return reinterpret_cast<T*>(memory + kAtMap) + k * kMap; }
  __device__ float* bias() const { return reinterpret_cast<float*>(memory + kAtBias); }
  __device__ T* rows(int which) const { return reinterpret_cast<T*>(memory + kAtFeatures) + which * kU; }
  __device__ T* columns(int which) const { return reinterpret_cast<T*>(memory + kAtFeatures) + (2 + which) * kU; }
};

/// 16 atoms' features from `column` on, from atom `first` of m; zero past its last.
template <int kThreads, class T>
__device__ __forceinline__ void fetch(const Bilinear<T>& head, const Molecule& m, int first, std::int64_t column,
                                      T* to) {
  constexpr int kPiece = 16 / static_cast<int>(sizeof(T)), kPieces = kWidth / kPiece;
  for (int e = static_cast<int>(threadIdx.x); e < kTile * kPieces; e += kThreads) {
    const int row = e / kPieces, at = e % kPieces * kPiece, atom = first + row;
    const bool inside = atom < m.atoms;
    copy_async_16(to + row * kPitch<T> + at, head.features + (inside ? (m.atom + atom) * head.stride + column + at : 0),
                  inside ? 16 : 0);
  }
}

/// Sums of PairLossResult over the block, in the order of its threads; right on thread 0. Met by all threads.
template <int kWarps>
__device__ __forceinline__ PairLossResult block_sum(PairLossResult r) {
  GPU_SHARED(double, sums, [kWarps][2]);
  GPU_SHARED(std::int64_t, counts, [kWarps][3]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  r.loss = warp_sum(r.loss);
  r.pair_error = warp_sum(r.pair_error);
  r.count = warp_sum(r.count);
  r.correct = warp_sum(r.correct);
  r.pairs = warp_sum(r.pairs);
  if (lane == 0) {
    sums[warp][0] = r.loss;
    sums[warp][1] = r.pair_error;
    counts[warp][0] = r.count;
    counts[warp][1] = r.correct;
    counts[warp][2] = r.pairs;
  }
  __syncthreads();
  if (threadIdx.x > 0) return r;
  for (int w = 1; w < kWarps; ++w) {
    r.loss += sums[w][0];
    r.pair_error += sums[w][1];
    r.count += counts[w][0];
    r.correct += counts[w][1];
    r.pairs += counts[w][2];
  }
  return r;
}

/// How many pairs of m count, on all threads; met by all.
template <int kThreads, class Loss>
__device__ __forceinline__ std::int64_t count_pairs(const Loss& loss, const Molecule& m) {
  constexpr int kWarps = kThreads / 32;
  GPU_SHARED(std::int64_t, counts, [kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  std::int64_t count = 0;
  for (int i = warp; i < m.atoms; i += kWarps) {
    for (int j = lane; j < m.atoms; j += 32) count += loss.target(loss.look_up(0, m, i, j)) >= 0;
  }
  count = warp_sum(count);
  if (lane == 0) counts[warp] = count;
  __syncthreads();
  count = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) count += counts[w];
  return count;
}

/// Loss has, besides its sizes,
///   kLittleMemory                               whether it is to do with 99 KiB of shared memory
///   kCountsPairs                                whether it is divided by the number of the molecule's pairs that count
///   int look_up(hop, m, i, j)                   what the data say of the pair; i and j are atoms of m. It is asked for a tile ahead, so
///                                               that no thread waits for memory, which a calculation with it here would do
///   int target(found)                           what the pair is to be, from what was looked up; −1 if it does not count, as of 0
///   void evaluate(m, i, j, target, pairs, gradient, float (&outputs)[kOutputs], PairSums&)
/// `evaluate` adds to the result and, with `gradient`, replaces the outputs of a pair that counts by their gradients.
template <class T, class Loss>
__global__ void __launch_bounds__(32 * Loss::kWarps, Loss::kBlocksPerMultiprocessor)
    bilinear_pass(const PassArguments<T> a, const Loss loss) {
  using S = Layout<T, Loss>;
  constexpr int kOutputs = S::kOutputs, kOwned = S::kOwned, kOwners = S::kOwners, kThreads = S::kThreads;
  constexpr int kPairs = (kTilePairs + kThreads - 1) / kThreads;  // of a tile, for a thread
  constexpr Stored plain = Stored::plain, transposed = Stored::transposed;
  GPU_DYNAMIC_SHARED(memory);
  const S s{memory};
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32,
            hop = static_cast<int>(blockIdx.y);
  const int first_output = hop * kOutputs;

  GPU_SHARED(Molecule, ring, [64]);
  const Deal deal(a.packed, ring);
  const auto fetch_tile = [&](const Tile& t, int buffer) {
    const Molecule& m = deal[t.round];
    if (m.index >= 0) {
      fetch<kThreads>(a.head, m, t.i, a.head.row_column, s.rows(buffer));
      fetch<kThreads>(a.head, m, t.j, a.head.column_column, s.columns(buffer));
    }
    copy_async_commit();
  };
  const auto look_up = [&](const Tile& t, int(&found)[kPairs]) {
    const Molecule& m = deal[t.round];
#pragma unroll
    for (int q = 0; q < kPairs; ++q) {
      const int p = thread + q * kThreads, i = t.i + p / kTile, j = t.j + p % kTile;
      found[q] = p < kTilePairs && i < m.atoms && j < m.atoms ? loss.look_up(hop, m, i, j) : 0;
    }
  };
  // M_k as an operand: in shared memory for the tensor cores, else from the cache.
  const auto map = [&](int k) -> const T* {
    if constexpr (S::kKeepsMap) {
      return s.map(k);
    } else {
      return a.head.weight + std::int64_t{first_output + k} * kMapSize;
    }
  };
  constexpr int kMapPitch = S::kKeepsMap ? kPitch<T> : kWidth;

  if (warp == 0) deal.read(0);
  __syncthreads();
  Tile t{0, 0, 0};
  int buffer = 0, found[kPairs];
  fetch_tile(t, buffer);
  look_up(t, found);
  if constexpr (S::kKeepsMap) {
    for (int e = thread; e < kOutputs * kMapSize / 8; e += kThreads) {
      copy_async_16(s.map(0) + e / 4 * kPitch<T> + e % 4 * 8,
                    a.head.weight + std::int64_t{first_output} * kMapSize + e * 8);
    }
    copy_async_commit();
  }
  for (int k = thread; k < kOutputs; k += kThreads) s.bias()[k] = a.head.bias[first_output + k];

  float dm[kOwned][2][4][4] = {}, dbias[kOwned] = {};
  PairSums sums;
  std::int64_t pairs = 0, all_pairs = 0;  // those that count, of this molecule and of all so far
  for (Tile ahead; deal[t.round].index >= 0; t = ahead) {
    const Molecule& m = deal[t.round];
    int target[kPairs];
    bool counts = a.logits != nullptr;
#pragma unroll
    for (int q = 0; q < kPairs; ++q) {
      target[q] = loss.target(found[q]);
      counts = counts || target[q] >= 0;
    }
    copy_async_wait<0>();
    counts = __syncthreads_or(counts);
    const T *r = s.rows(buffer), *c = s.columns(buffer);
    buffer ^= 1;
    ahead = tile_after(deal, t);
    fetch_tile(ahead, buffer);
    look_up(ahead, found);
    if constexpr (Loss::kCountsPairs) {
      if (t.i == 0 && t.j == 0) {
        pairs = count_pairs<kThreads>(loss, m);
        all_pairs += pairs;
        sums.count += thread == 0 && pairs > 0;
      }
    }
    if (counts) {
#pragma unroll
      for (int o = 0; o < kOwned; ++o) {
        const int k = warp * kOwned + o;
        if (k >= kOutputs) continue;
        float u[4][4] = {};
        warp_product<4, 2, plain, plain, S::kKeepsMap>(u, r, kPitch<T>, map(k), kMapPitch);
        store_product(u, s.u(k), kPitch<T>);
      }
      __syncwarp();
#pragma unroll
      for (int o = 0; o < kOwned; ++o) {
        const int k = warp * kOwned + o;
        if (k >= kOutputs) continue;
        float l[2][4] = {};
        warp_product<2, 2, plain, transposed>(l, s.u(k), kPitch<T>, c, kPitch<T>);
        store_product(l, s.l(k), kLossPitch);
      }
      __syncthreads();
#pragma unroll
      for (int q = 0; q < kPairs; ++q) {
        const int p = thread + q * kThreads, i = t.i + p / kTile, j = t.j + p % kTile;
        if (p >= kTilePairs) continue;
        float x[kOutputs];
        if (target[q] >= 0 || a.logits) {
#pragma unroll
          for (int k = 0; k < kOutputs; ++k) x[k] = s.l(k)[p / kTile * kLossPitch + p % kTile] + s.bias()[k];
        }
        if (a.logits && i < m.atoms && j < m.atoms) {
          float* to = a.logits + (m.pair + std::int64_t{i} * m.atoms + j) * a.head.outputs + first_output;
#pragma unroll
          for (int k = 0; k < kOutputs; ++k) to[k] = x[k];
        }
        if (target[q] >= 0) {
          loss.evaluate(m, i, j, target[q], pairs, a.gradient, x, sums);
        } else {
#pragma unroll
          for (int k = 0; k < kOutputs; ++k) x[k] = 0;
        }
        if (!a.gradient) continue;
#pragma unroll
        for (int k = 0; k < kOutputs; ++k) s.dl(k)[p / kTile * kTilePitch<T> + p % kTile] = store_as<T>(x[k]);
      }
    }
    if (!a.gradient) continue;
    if (counts) {
      __syncthreads();
      // dc by itself, so that its registers are free for the rest.
      float dc[4][4] = {};
#pragma unroll
      for (int o = 0; o < kOwned; ++o) {
        const int k = warp * kOwned + o;
        if (k >= kOutputs) continue;
        warp_product<4, 1, transposed, plain>(dc, s.dl(k), kTilePitch<T>, s.u(k), kPitch<T>);
      }
      if (!S::kInPlace && warp < kOwners) store_product(dc, s.sum_column(warp), kSumPitch);
      __syncwarp();  // U has been read
#pragma unroll
      for (int o = 0; o < kOwned; ++o) {
        const int k = warp * kOwned + o;
        if (k >= kOutputs) continue;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float part[4];
          load<4>(s.dl(k) + lane / 2 * kTilePitch<T> + lane % 2 * 8 + half * 4, part);
          dbias[o] += (part[0] + part[1]) + (part[2] + part[3]);
        }
        float du[4][4] = {};
        warp_product<4, 1, plain, plain>(du, s.dl(k), kTilePitch<T>, c, kPitch<T>);
        store_product(du, s.u(k), kPitch<T>);
      }
      __syncwarp();
      if (S::kInPlace && warp < kOwners) store_product(dc, s.sum_column(warp), kSumPitch);  // dL has been read
      float dr[4][4] = {};
#pragma unroll
      for (int o = 0; o < kOwned; ++o) {
        const int k = warp * kOwned + o;
        if (k >= kOutputs) continue;
        warp_product<4, 2, plain, transposed, S::kKeepsMap>(dr, s.u(k), kPitch<T>, map(k), kMapPitch);
        warp_product<4, 1, transposed, plain>(dm[o][0], r, kPitch<T>, s.u(k), kPitch<T>);
        warp_product<4, 1, transposed, plain>(dm[o][1], r + 16, kPitch<T>, s.u(k), kPitch<T>);
      }
      __syncwarp();  // dU has been read
      if (warp < kOwners) store_product(dr, s.sum_row(warp), kSumPitch);
      __syncthreads();
    }
    // Sums over the warps, 16 rows of 8 pieces for dR, then as many for dc; and over the tiles with the same rows or columns, which follow
    // each other in the block.
    for (int e = thread; e < 2 * kTile * 8; e += kThreads) {
      const bool is_row = e < kTile * 8;
      const int row = e / 8 % kTile, at = e % 8 * 4, atom = (is_row ? t.i : t.j) + row;
      const bool first = is_row ? t.j == 0 : t.i == 0;
      if (atom >= m.atoms || (!counts && !first)) continue;
      float* to = a.dfeatures + ((hop * a.packed.atoms() + m.atom + atom) * 2 + !is_row) * kWidth + at;
      float sum[4] = {};
      if (!first) load<4>(to, sum);
      if (counts) {
#pragma unroll
        for (int w = 0; w < kOwners; ++w) {
          float part[4];
          load<4>((is_row ? s.sum_row(w) : s.sum_column(w)) + row * kSumPitch + at, part);
#pragma unroll
          for (int v = 0; v < 4; ++v) sum[v] += part[v];
        }
      }
      store<4>(to, sum);
    }
  }

  copy_async_wait<0>();  // a block without a tile has not waited for its part of M

  if (a.gradient) {
#pragma unroll
    for (int o = 0; o < kOwned; ++o) {
      const int k = warp * kOwned + o;
      if (k >= kOutputs) continue;
      const std::int64_t output = blockIdx.x * a.head.outputs + first_output + k;
      store_product(dm[o][0], a.dweight + output * kMapSize, kWidth);
      store_product(dm[o][1], a.dweight + output * kMapSize + 16 * kWidth, kWidth);
      const float sum = warp_sum(dbias[o]);
      if (lane == 0) a.dbias[output] = sum;
    }
  }
  const PairLossResult result =
      block_sum<S::kWarps>({sums.loss, sums.count, sums.correct, thread == 0 ? all_pairs : 0, sums.pair_error});
  if (thread == 0) a.results[std::int64_t{hop} * gridDim.x + blockIdx.x] = result;
}

/// What the second kernel adds up.
template <class T>
struct SumArguments {
  std::int64_t parts, hops;  // blocks of the pass (a hop), and hops
  bool gradient;
  PassArguments<T> pass;
  PairLossResult* result;
  unsigned weight_blocks;  // of the grid add up dM; the block after them adds up dm and the results, the rest dR and dc
};

constexpr int kSumThreads = 256, kSumWarps = kSumThreads / 32;
constexpr int kSumPiece = 128;  // neighbouring elements of dM that a block adds up, an eighth of the parts to each warp

template <class T>
__device__ __forceinline__ void add_up_weights(const SumArguments<T>& a) {
  GPU_SHARED(float, sums, [kSumWarps][kSumPiece]);
  const Bilinear<T>& head = a.pass.head;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t first = std::int64_t{blockIdx.x} * kSumPiece;
  float sum[4] = {};
#pragma unroll 4
  for (std::int64_t g = warp; g < a.parts; g += kSumWarps) {
    float part[4];
    load<4>(a.pass.dweight + g * head.outputs * kMapSize + first + lane * 4, part);
#pragma unroll
    for (int v = 0; v < 4; ++v) sum[v] += part[v];
  }
  store<4>(&sums[warp][lane * 4], sum);
  __syncthreads();
  if (threadIdx.x >= kSumPiece) return;
  float all = 0;
#pragma unroll
  for (int w = 0; w < kSumWarps; ++w) all += sums[w][threadIdx.x];
  head.dweight[first + threadIdx.x] += all;
}

template <class T>
__device__ __forceinline__ void add_up_results(const SumArguments<T>& a) {
  const Bilinear<T>& head = a.pass.head;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  if (a.gradient) {
    for (std::int64_t k = warp; k < head.outputs; k += kSumWarps) {
      double sum = 0;
      for (std::int64_t g = lane; g < a.parts; g += 32) sum += static_cast<double>(a.pass.dbias[g * head.outputs + k]);
      sum = warp_sum(sum);
      if (lane == 0) head.dbias[k] += static_cast<float>(sum);
    }
  }
  PairLossResult sum;
  for (std::int64_t g = threadIdx.x; g < a.parts * a.hops; g += kSumThreads) {
    const PairLossResult part = a.pass.results[g];
    sum.loss += part.loss;
    sum.pair_error += part.pair_error;
    sum.count += part.count;
    sum.correct += part.correct;
    sum.pairs += part.pairs;
  }
  sum = block_sum<kSumWarps>(sum);
  if (threadIdx.x == 0) *a.result = sum;
}

/// Four of an atom's 2 × 32 gradients: the sum over the hops, or zero without a gradient. `e` numbers them.
template <class T>
__device__ __forceinline__ void add_up_features(const SumArguments<T>& a, std::int64_t e) {
  const Bilinear<T>& head = a.pass.head;
  const std::int64_t rows = a.pass.packed.atoms(), atom = e / 16, at = e % 16 * 4;
  if (atom >= rows) return;
  float sum[4] = {};
  if (a.gradient) {
    for (std::int64_t hop = 0; hop < a.hops; ++hop) {
      float part[4];
      load<4>(a.pass.dfeatures + (hop * rows + atom) * 2 * kWidth + at, part);
#pragma unroll
      for (int v = 0; v < 4; ++v) sum[v] += part[v];
    }
  }
  store<4>(
      head.dfeatures + atom * head.stride + (at < kWidth ? head.row_column + at : head.column_column + at - kWidth),
      sum);
}

template <class T>
__global__ void __launch_bounds__(kSumThreads, 4) add_up(const SumArguments<T> a) {
  if (blockIdx.x < a.weight_blocks) {
    add_up_weights(a);
  } else if (blockIdx.x == a.weight_blocks) {
    add_up_results(a);
  } else {
    add_up_features(a, std::int64_t{blockIdx.x - a.weight_blocks - 1} * kSumThreads + threadIdx.x);
  }
}

template <class T, class Loss>
bool fits(const Gpu& gpu) {
  return static_cast<std::size_t>(Layout<T, Loss>::kBytes + Layout<T, Loss>::kStaticBytes) <=
         gpu.shared_bytes_of_block();
}

/// Runs `loss` over all pairs of the batch; kMostParts of it is the number of blocks (a hop) that the molecules are dealt to.
template <class T, class Loss>
void run(Gpu& gpu, const Packed& packed, const Bilinear<T>& head, double scale, float* logits, PairLossResult* result,
         const Loss& loss) {
  const bool gradient = head.dfeatures && scale != 0;
  const std::int64_t parts = std::clamp<std::int64_t>(packed.molecules, 1, Loss::kMostParts);
  const std::int64_t hops = head.outputs / Loss::kOutputs, atoms = packed.atoms();
  PassArguments<T> a{packed, head, gradient, logits, nullptr, nullptr, nullptr, nullptr};
  const auto lay_out = [&](Carver carver) {
    a.results = carver.take<PairLossResult>(hops * parts);
    if (gradient) {
      a.dbias = carver.take<float>(parts * head.outputs);
      a.dweight = carver.take<float>(parts * head.outputs * kMapSize);
      a.dfeatures = carver.take<float>(hops * atoms * 2 * kWidth);
    }
    return carver.bytes();
  };
  lay_out(Carver(gpu.scratch(lay_out(Carver()))));
  launch(gpu, bilinear_pass<T, Loss>, dim3(static_cast<unsigned>(parts), static_cast<unsigned>(hops)),
         Layout<T, Loss>::kThreads, Layout<T, Loss>::kBytes, a, loss);
  const unsigned weight_blocks = gradient ? blocks_for(head.outputs * kMapSize, kSumPiece) : 0;
  const unsigned feature_blocks = head.dfeatures ? blocks_for(atoms * 16, kSumThreads) : 0;
  launch(gpu, add_up<T>, weight_blocks + 1 + feature_blocks, kSumThreads, 0,
         SumArguments<T>{parts, hops, gradient, a, result, weight_blocks});
}

}  // namespace
}  // namespace moleblend::pair_head
