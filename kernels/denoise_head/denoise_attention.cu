// Attention of the denoising head on the GPU: head_force forward; dq, dk, dbias and the gradients of the projections backward.
//
// A block is one molecule and four heads, a head a warp; scores are worked on in tiles of 16 × 16 atoms (denoise_tile.cuh). Most
// molecules are one tile or 2 × 2, so the rows of q and k of four heads are what a block loads, once, and nothing of size n² leaves
// the registers but the bias' gradient.
//   forward: a row of tiles from left to right with a running maximum and sum, since all that a row leaves are four numbers a head;
//     one of them is the logarithm of the sum of exponentials.
//   backward: with that logarithm a probability is an exponential, and Σ_j p_ij dp_ij is df_i · f_i of the head, so that tiles do not
//     depend on each other. Molecules up to 32 atoms make each tile once, for dq and dk both; longer ones once by rows (dq, dbias) and once
//     by columns (dk, dprojected), a block a row or column of tiles. So do heads wider than 64, in slices of 64 features.
// Every sum has one owner, so nothing is added by two blocks.
//
// The second number of __launch_bounds__ is as many blocks of a multiprocessor as registers allow without spilling.

#include <algorithm>

#include "kernels/denoise_head/denoise_cuda.cuh"
#include "kernels/denoise_head/denoise_tile.cuh"

namespace moleblend::denoise {
namespace {

constexpr float kUnitEpsilon = 1e-5f;  // of Δ / (r + ε), ångström
constexpr int kFused = 32;             // most atoms for which backward makes each tile once
constexpr int kUnitPitch = 1;          // added to a row of unit displacements

/// A block's molecule and heads, and its warp's and lane's place there.
template <class T>
struct Place {
  const DenoiseHead<T>& a;
  std::int64_t b, atom;
  std::int64_t pairs;  // where the bias of the molecule and the warp's head begins
  int n, first_head, heads, warp, head, g, t;

  __device__ Place(const DenoiseHead<T>& args, std::int64_t molecule, unsigned group)
      : a(args),
        b(molecule),
        atom(args.packed.atom_offset[molecule]),
        n(static_cast<int>(args.packed.atoms_of(molecule))),
        first_head(static_cast<int>(group) * kHeads),
        heads(min(kHeads, static_cast<int>(args.heads) - first_head)),
        warp(static_cast<int>(threadIdx.x) / 32),
        head(first_head + warp),
        g(static_cast<int>(threadIdx.x) % 32 / 4),
        t(static_cast<int>(threadIdx.x) % 4) {
    pairs = args.heads * args.packed.token_pair_offset[molecule] + std::int64_t{head} * (n + 1) * (n + 1);
  }

  __device__ bool has_head() const { return warp < heads; }
  __device__ int head_width() const { return static_cast<int>(a.width / a.heads); }
  __device__ Slab slab(int first_row, int feature) const {
    return {3 * a.width, n - first_row, heads, head_width(), feature};
  }
  /// Of q at the block's heads in [N, 3 D]; k is a.width further.
  __device__ std::int64_t row(int i) const { return (atom + i) * 3 * a.width + first_head * head_width(); }
  /// Of a value a (atom, head).
  __device__ std::int64_t of_head(int i) const { return (atom + i) * a.heads + head; }
  /// Of the bias of two atoms, in a block of all tokens.
  __device__ std::int64_t pair(int i, int j) const { return pairs + std::int64_t{i + 1} * (n + 1) + j + 1; }
  /// Dropout draws of the tile at (i, j).
  __device__ void draw(std::uint32_t (&word)[2][2], int i, int j) const {
    const auto stride = static_cast<std::uint32_t>((n + 7) / 8);
    const auto first =
        static_cast<std::uint32_t>(std::int64_t{head} * n + i) * stride + static_cast<std::uint32_t>(j / 8);
    draw_words(word, a.molecule_key[b], Draw::denoise_dropout, first, stride);
  }
};

/// unit [kRows, kColumns + kUnitPitch] of atoms from (first_row, first_column): ((x_j − x_i) / (r + ε), unused). By the whole block.
template <class T, int kRows, int kColumns>
__device__ __forceinline__ void unit_displacements(float4* unit, const Place<T>& place, int first_row,
                                                   int first_column) {
#pragma unroll 1
  for (int p = static_cast<int>(threadIdx.x); p < kRows * kColumns; p += kThreads) {
    const int row = p / kColumns, column = p % kColumns;
    float4 u = make_float4(0, 0, 0, 0);
    if (first_row + row < place.n && first_column + column < place.n) {
      const float* from = place.a.positions + 3 * (place.atom + first_row + row);
      const float* to = place.a.positions + 3 * (place.atom + first_column + column);
      const float x = to[0] - from[0], y = to[1] - from[1], z = to[2] - from[2];
      const float by = 1 / (sqrtf(x * x + y * y + z * z) + kUnitEpsilon);
      u = make_float4(x * by, y * by, z * by, 0);
    }
    unit[row * (kColumns + kUnitPitch) + column] = u;
  }
}

/// The bias of a lane's entries of the tile at (r0, c0).
template <class T>
__device__ __forceinline__ void load_bias(float (&bias)[2][4], const Place<T>& place, int r0, int c0) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int i = r0 + place.g + 8 * r;
    const T* from = place.a.bias + place.pair(i, c0 + 2 * place.t);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int j = c0 + 8 * (e / 2) + 2 * place.t + e % 2;
      bias[e / 2][2 * r + e % 2] = i < place.n && j < place.n ? to_float(from[8 * (e / 2) + e % 2]) : 0.f;
    }
  }
}

/// The projections of a lane's four columns.
template <class T>
__device__ __forceinline__ void load_projected(float (&projected)[4][3], const Place<T>& place, const Scratch& scratch,
                                               int c0) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const float4 s = scratch.projected[place.of_head(min(c0 + e / 2 * 8 + 2 * place.t + e % 2, place.n - 1))];
    projected[e][0] = s.x;
    projected[e][1] = s.y;
    projected[e][2] = s.z;
  }
}

template <class T, int W>
struct AttendShared {
  alignas(16) T q[kTile * Rows<T, W>::kPitch];
  alignas(16) T k[kTile * Rows<T, W>::kPitch];
  float4 unit[kTile * (kTile + kUnitPitch)];
};

template <class T, int W>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 2 ? 6 : 4)
    attend(const DenoiseHead<T> a, const Scratch scratch, std::int64_t first) {
  GPU_DYNAMIC_SHARED(memory);
  auto& shared = *reinterpret_cast<AttendShared<T, W>*>(memory);
  const Place<T> place(a, a.packed.by_size[first + blockIdx.x], blockIdx.y);
  if (!a.has_positions[place.b]) return;
  const int n = place.n, d = place.head_width(), t = place.t;
  const float keep_scale = static_cast<float>(a.dropout.scale);
  for (int r0 = static_cast<int>(blockIdx.z) * kTile; r0 < n; r0 += static_cast<int>(gridDim.z) * kTile) {
    float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {}, force[2][3] = {};
    for (int c0 = 0; c0 < n; c0 += kTile) {
      float bias[2][4], s[2][4] = {};
      float projected[4][3];
      std::uint32_t word[2][2];
      if (place.has_head()) {
        load_bias(bias, place, r0, c0);
        load_projected(projected, place, scratch, c0);
      }
      for (int feature = 0; feature < d; feature += W) {
        __syncthreads();
        if (c0 == 0 || d > W) stage<T, W, kTile>(shared.q, a.qkv + place.row(r0), place.slab(r0, feature));
        stage<T, W, kTile>(shared.k, a.qkv + a.width + place.row(c0), place.slab(c0, feature));
        copy_async_commit();
        if (feature == 0) unit_displacements<T, kTile, kTile>(shared.unit, place, r0, c0);
        copy_async_wait<0>();
        __syncthreads();
        if (place.has_head()) add_scores<W>(s, shared.q + place.warp * W, shared.k + place.warp * W);
      }
      if (!place.has_head()) continue;
      if (a.dropout.active()) place.draw(word, r0, c0);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float here = -INFINITY;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float& x = s[e / 2][2 * r + e % 2];
          x = c0 + e / 2 * 8 + 2 * t + e % 2 < n ? x * a.scale + bias[e / 2][2 * r + e % 2] : -INFINITY;
          here = fmaxf(here, x);
        }
        const float reached = fmaxf(largest[r], row_max(here));
        const float shrink = exp_fast(largest[r] - reached);
        largest[r] = reached;
        sum[r] *= shrink;
        for (float& f : force[r]) f *= shrink;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float p = exp_fast(s[e / 2][2 * r + e % 2] - reached);
          sum[r] += p;
          if (a.dropout.active()) p = keeps(word[e / 2][r], e % 2, upper_threshold(a.dropout)) ? p * keep_scale : 0.f;
          const float4 u = shared.unit[(place.g + 8 * r) * (kTile + kUnitPitch) + e / 2 * 8 + 2 * t + e % 2];
          force[r][0] += p * u.x * projected[e][0];
          force[r][1] += p * u.y * projected[e][1];
          force[r][2] += p * u.z * projected[e][2];
        }
      }
    }
    if (!place.has_head()) continue;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float all = row_sum(sum[r]);
      for (float& f : force[r]) f = row_sum(f) / all;
      const int i = r0 + place.g + 8 * r;
      if (t == 0 && i < n) {
        scratch.head_force[place.of_head(i)] =
            make_float4(force[r][0], force[r][1], force[r][2], largest[r] + logf(all));
      }
    }
  }
}

/// What a lane takes from memory for the gradient of its entries of a tile: asked for at once, and before q and k have come if they
/// have not.
struct TileValues {
  float bias[2][4], dbias[2][4];
  float projected[4][3];     // of its columns
  float4 force[2];           // of its rows: Scratch::head_force
  float df[2][3];            // of its rows
  std::uint32_t word[2][2];  // dropout
};
template <class T>
__device__ __forceinline__ void load_tile(TileValues& v, const Place<T>& place, const Scratch& scratch, int r0, int c0,
                                          bool add_to_bias) {
  const DenoiseHead<T>& a = place.a;
  // Before the loads, whose values would lie in registers meanwhile.
  if (a.dropout.active()) place.draw(v.word, r0, c0);
  load_bias(v.bias, place, r0, c0);
  load_projected(v.projected, place, scratch, c0);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int i = r0 + place.g + 8 * r, within = min(i, place.n - 1);
    v.force[r] = scratch.head_force[place.of_head(within)];
    const float4 df = scratch.df[place.atom + within];
    v.df[r][0] = df.x;
    v.df[r][1] = df.y;
    v.df[r][2] = df.z;
    if (!add_to_bias) continue;
    const float* from = a.dbias + place.pair(i, c0 + 2 * place.t);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int j = c0 + 8 * (e / 2) + 2 * place.t + e % 2;
      v.dbias[e / 2][2 * r + e % 2] = i < place.n && j < place.n ? from[8 * (e / 2) + e % 2] : 0.f;
    }
  }
}

/// From q · k of the tile at (r0, c0) in `s` to the gradient of q · k. Adds that of the scores to dbias if wanted, and to `column`
/// [2 j + c] what the tile gives to dprojected in the lane's columns and rows. `unit` begins at the tile.
template <class T>
__device__ __forceinline__ void score_gradient(float (&s)[2][4], float (&column)[4][3], const TileValues& v,
                                               const Place<T>& place, const float4* unit, int unit_pitch, int r0,
                                               int c0, bool add_to_bias) {
  const DenoiseHead<T>& a = place.a;
  const float keep_scale = static_cast<float>(a.dropout.scale);
  float mean[2];  // Σ_j p_ij dp_ij
#pragma unroll
  for (int r = 0; r < 2; ++r)
    mean[r] = v.force[r].x * v.df[r][0] + v.force[r].y * v.df[r][1] + v.force[r].z * v.df[r][2];
#pragma unroll
  for (int e = 0; e < 4; ++e)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int at = 2 * r + e % 2, i = r0 + place.g + 8 * r, j = c0 + e / 2 * 8 + 2 * place.t + e % 2;
      float& x = s[e / 2][at];
      const bool inside = i < place.n && j < place.n;
      const float p = inside ? exp_fast(x * a.scale + v.bias[e / 2][at] - v.force[r].w) : 0.f;
      const float factor = !a.dropout.active()                                          ? 1.f
                           : keeps(v.word[e / 2][r], e % 2, upper_threshold(a.dropout)) ? keep_scale
                                                                                        : 0.f;
      const float4 u = unit[(place.g + 8 * r) * unit_pitch + e / 2 * 8 + 2 * place.t + e % 2];
      const float along[3] = {u.x * v.df[r][0] * factor, u.y * v.df[r][1] * factor, u.z * v.df[r][2] * factor};
      const float dp = along[0] * v.projected[e][0] + along[1] * v.projected[e][1] + along[2] * v.projected[e][2];
      const float ds = p * (dp - mean[r]);
#pragma unroll
      for (int c = 0; c < 3; ++c) column[e][c] += p * along[c];
      if (add_to_bias && inside) a.dbias[place.pair(i, j)] = v.dbias[e / 2][at] + ds;
      x = ds * a.scale;
    }
}

/// Completes `column` over the lanes and writes it as dprojected of 16 atoms from c0.
template <class T>
__device__ __forceinline__ void put_columns(float (&column)[4][3], const Place<T>& place, const Scratch& scratch,
                                            int c0) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    for (float& x : column[e]) x = column_sum(x);
    const int j = c0 + e / 2 * 8 + 2 * place.t + e % 2;
    if (place.g == 0 && j < place.n) {
      scratch.dprojected[place.of_head(j)] = make_float4(column[e][0], column[e][1], column[e][2], 0);
    }
  }
}

template <class T>
__device__ bool has_gradient(const DenoiseHead<T>& a, const Scratch& scratch, std::int64_t b) {
  return scratch.sums[b].count > 0 && a.loss_scale != 0;
}

/// Zero gradients of `rows` atoms from `first` on.
template <class T, int W>
__device__ void no_gradient(const Place<T>& place, const Scratch& scratch, int first, int rows) {
  for (int r0 = first; r0 < min(first + rows, place.n); r0 += kTile) {
    for (int feature = 0; feature < place.head_width(); feature += W) {
      const Slab slab = place.slab(r0, feature);
      unstage<T, W, kTile>(place.a.dqkv + place.row(r0), nullptr, slab);
      unstage<T, W, kTile>(place.a.dqkv + place.a.width + place.row(r0), nullptr, slab);
    }
    const int i = r0 + static_cast<int>(threadIdx.x) % 32;
    if (place.has_head() && i < min(r0 + kTile, place.n))
      scratch.dprojected[place.of_head(i)] = make_float4(0, 0, 0, 0);
  }
}

template <class T, int W, int kRows>
struct FusedShared {
  static constexpr int kPitch = gradient_pitch<T>(kRows);
  alignas(16) T q[kRows * Rows<T, W>::kPitch];  // becomes dq
  alignas(16) T k[kRows * Rows<T, W>::kPitch];  // becomes dk
  alignas(16) T ds[kHeads][kRows * kPitch];
  float4 unit[kRows * (kRows + kUnitPitch)];
};

/// Molecules of up to kRows atoms, a block each; those of the smaller variant are left to it.
template <class T, int W, int kRows>
__global__ void __launch_bounds__(kThreads, kRows > kTile ? (W > 32 ? 2 : 3) : (W > 32 || sizeof(T) == 4 ? 4 : 5))
    attend_backward_fused(const DenoiseHead<T> a, const Scratch scratch, std::int64_t first) {
  GPU_DYNAMIC_SHARED(memory);
  using Shared = FusedShared<T, W, kRows>;
  auto& shared = *reinterpret_cast<Shared*>(memory);
  constexpr int kTiles = kRows / kTile, kPitch = Rows<T, W>::kPitch;
  const Place<T> place(a, a.packed.by_size[first + blockIdx.x], blockIdx.y);
  if ((place.n > kTile) != (kRows > kTile)) return;
  if (!has_gradient(a, scratch, place.b)) {
    no_gradient<T, W>(place, scratch, 0, place.n);
    return;
  }
  const Slab slab = place.slab(0, 0);
  const bool add_to_bias = a.dbias != nullptr;
  TileValues values;
  stage<T, W, kRows>(shared.q, a.qkv + place.row(0), slab);
  stage<T, W, kRows>(shared.k, a.qkv + a.width + place.row(0), slab);
  copy_async_commit();
  if (kTiles == 1 && place.has_head()) load_tile(values, place, scratch, 0, 0, add_to_bias);
  unit_displacements<T, kRows, kRows>(shared.unit, place, 0, 0);
  copy_async_wait<0>();
  __syncthreads();
  if (place.has_head()) {
    T *q = shared.q + place.warp * W, *k = shared.k + place.warp * W, *ds = shared.ds[place.warp];
#pragma unroll 1
    for (int c0 = 0; c0 < kRows; c0 += kTile) {
      float column[4][3] = {};
#pragma unroll 1
      for (int r0 = 0; r0 < kRows; r0 += kTile) {
        float s[2][4] = {};
        add_scores<W>(s, q + r0 * kPitch, k + c0 * kPitch);
        if (kTiles > 1) load_tile(values, place, scratch, r0, c0, add_to_bias);
        score_gradient(s, column, values, place, shared.unit + r0 * (kRows + kUnitPitch) + c0, kRows + kUnitPitch, r0,
                       c0, add_to_bias);
        put<T, 2, Shared::kPitch>(ds + r0 * Shared::kPitch + c0, s);
      }
      put_columns(column, place, scratch, c0);
    }
    __syncwarp();
    float dk[kTiles][W / 8][4] = {};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int r0 = 0; r0 < kRows; r0 += kTile)
        add_product<W, Shared::kPitch, true>(dk[tile], ds + r0 * Shared::kPitch + tile * kTile, q + r0 * kPitch);
    __syncwarp();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      float dq[W / 8][4] = {};
#pragma unroll
      for (int c0 = 0; c0 < kRows; c0 += kTile)
        add_product<W, Shared::kPitch, false>(dq, ds + tile * kTile * Shared::kPitch + c0, k + c0 * kPitch);
      put<T, W / 8, kPitch>(q + tile * kTile * kPitch, dq);
    }
    __syncwarp();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) put<T, W / 8, kPitch>(k + tile * kTile * kPitch, dk[tile]);
  }
  __syncthreads();
  unstage<T, W, kRows>(a.dqkv + place.row(0), shared.q, slab);
  unstage<T, W, kRows>(a.dqkv + a.width + place.row(0), shared.k, slab);
}

template <class T, int W>
struct SweepShared {
  static constexpr int kPitch = gradient_pitch<T>(kTile);
  alignas(16) T q[kTile * Rows<T, W>::kPitch];
  alignas(16) T k[kTile * Rows<T, W>::kPitch];
  alignas(16) T ds[kHeads][kTile * kPitch];
  float4 unit[kTile * (kTile + kUnitPitch)];
};

/// Long molecules or wide heads. By rows: dq of 16 atoms, and their dbias; by columns: dk of 16 atoms, and their dprojected. blockIdx.z is
/// (16 atoms, slice of W features).
template <class T, int W, bool kByRows>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 && W > 32   ? 2
                                            : sizeof(T) == 4 || W > 32 ? 3
                                                                       : 4)
    attend_backward_sweep(const DenoiseHead<T> a, const Scratch scratch) {
  GPU_DYNAMIC_SHARED(memory);
  using Shared = SweepShared<T, W>;
  auto& shared = *reinterpret_cast<Shared*>(memory);
  const Place<T> place(a, a.packed.by_size[blockIdx.x], blockIdx.y);
  const int n = place.n, d = place.head_width(), slices = (d + W - 1) / W;
  const int own = static_cast<int>(blockIdx.z) / slices * kTile,
            own_feature = static_cast<int>(blockIdx.z) % slices * W;
  if (own >= n) return;
  if (!has_gradient(a, scratch, place.b)) {
    if (kByRows && own_feature == 0) no_gradient<T, W>(place, scratch, own, kTile);
    return;
  }
  T *own_tile = kByRows ? shared.q : shared.k, *other_tile = kByRows ? shared.k : shared.q;
  const std::int64_t own_column = kByRows ? 0 : a.width, other_column = kByRows ? a.width : 0;  // in a row of qkv
  const bool add_to_bias = kByRows && own_feature == 0 && a.dbias;
  float gradient[W / 8][4] = {}, column[4][3] = {};
  for (int other = 0; other < n; other += kTile) {
    const int r0 = kByRows ? own : other, c0 = kByRows ? other : own;
    float s[2][4] = {};
    TileValues values;
    if (place.has_head()) load_tile(values, place, scratch, r0, c0, add_to_bias);
    for (int feature = 0; feature < d; feature += W) {
      __syncthreads();
      if (other == 0 || slices > 1) {
        stage<T, W, kTile>(own_tile, a.qkv + own_column + place.row(own), place.slab(own, feature));
      }
      stage<T, W, kTile>(other_tile, a.qkv + other_column + place.row(other), place.slab(other, feature));
      copy_async_commit();
      if (feature == 0) unit_displacements<T, kTile, kTile>(shared.unit, place, r0, c0);
      copy_async_wait<0>();
      __syncthreads();
      if (place.has_head()) add_scores<W>(s, shared.q + place.warp * W, shared.k + place.warp * W);
    }
    if (slices > 1) {
      __syncthreads();
      stage<T, W, kTile>(other_tile, a.qkv + other_column + place.row(other), place.slab(other, own_feature));
      copy_async_commit();
      copy_async_wait<0>();
      __syncthreads();
    }
    if (!place.has_head()) continue;
    score_gradient(s, column, values, place, shared.unit, kTile + kUnitPitch, r0, c0, add_to_bias);
    T* ds = shared.ds[place.warp];
    put<T, 2, Shared::kPitch>(ds, s);
    __syncwarp();
    add_product<W, Shared::kPitch, !kByRows>(gradient, ds, other_tile + place.warp * W);
    __syncwarp();
  }
  if (place.has_head()) {
    if (!kByRows && own_feature == 0) put_columns(column, place, scratch, own);
    put<T, W / 8, Rows<T, W>::kPitch>(own_tile + place.warp * W, gradient);
  }
  __syncthreads();
  unstage<T, W, kTile>(a.dqkv + own_column + place.row(own), own_tile, place.slab(own, own_feature));
}

/// f(constant W) with the width that q and k have in shared memory.
template <class F>
void with_width(std::int64_t head_width, F&& f) {
  if (head_width <= 16) return f(std::integral_constant<int, 16>());
  if (head_width <= 24) return f(std::integral_constant<int, 24>());
  if (head_width <= 32) return f(std::integral_constant<int, 32>());
  f(std::integral_constant<int, 64>());
}

/// How many molecules, the first of by_size, are not the fused kernels': molecules of 32 atoms have 33 tokens. In float the widest heads of 32
/// atoms take 100 KiB.
template <class T, int W>
std::int64_t swept(const Gpu& gpu, const DenoiseHead<T>& a) {
  if (a.width / a.heads > W) return a.packed.molecules;
  return sizeof(FusedShared<T, W, kFused>) <= gpu.shared_bytes_of_block() ? a.packed.beyond_32 : a.packed.beyond_16;
}

}  // namespace

template <class T>
void queue_attend(Gpu& gpu, const DenoiseHead<T>& a, const Scratch& s) {
  with_width(a.width / a.heads, [&](auto width) {
    constexpr int W = width;
    const unsigned groups = blocks_for(a.heads, kHeads);
    const std::int64_t longer = a.packed.beyond_32;
    // A short molecule's one or two rows of tiles are one block's; a long one's each a block's own.
    launch(gpu, attend<T, W>, dim3(static_cast<unsigned>(longer), groups, blocks_for(a.packed.largest, kTile)),
           dim3(kThreads), sizeof(AttendShared<T, W>), a, s, 0);
    launch(gpu, attend<T, W>, dim3(static_cast<unsigned>(a.packed.molecules - longer), groups), dim3(kThreads),
           sizeof(AttendShared<T, W>), a, s, longer);
  });
}

template <class T>
void queue_attend_backward(Gpu& gpu, const DenoiseHead<T>& a, const Scratch& s) {
  with_width(a.width / a.heads, [&](auto width) {
    constexpr int W = width;
    const unsigned groups = blocks_for(a.heads, kHeads);
    const std::int64_t longer = swept<T, W>(gpu, a);
    const dim3 sweep(static_cast<unsigned>(longer), groups,
                     blocks_for(a.packed.largest, kTile) * blocks_for(a.width / a.heads, W));
    launch(gpu, attend_backward_sweep<T, W, true>, sweep, dim3(kThreads), sizeof(SweepShared<T, W>), a, s);
    launch(gpu, attend_backward_sweep<T, W, false>, sweep, dim3(kThreads), sizeof(SweepShared<T, W>), a, s);
    // Molecules of 16 atoms have 17 tokens: they are in both launches, and the first leaves them.
    const auto fused = [&](auto rows, std::int64_t molecules) {
      launch(gpu, attend_backward_fused<T, W, rows>, dim3(static_cast<unsigned>(molecules), groups), dim3(kThreads),
             sizeof(FusedShared<T, W, rows>), a, s, longer);
    };
    fused(std::integral_constant<int, kFused>(), std::max<std::int64_t>(a.packed.beyond_16 - longer, 0));
    fused(std::integral_constant<int, kTile>(), a.packed.molecules - longer);
  });
}

template void queue_attend(Gpu&, const DenoiseHead<float>&, const Scratch&);
template void queue_attend(Gpu&, const DenoiseHead<bf16>&, const Scratch&);
template void queue_attend_backward(Gpu&, const DenoiseHead<float>&, const Scratch&);
template void queue_attend_backward(Gpu&, const DenoiseHead<bf16>&, const Scratch&);

}  // namespace moleblend::denoise
