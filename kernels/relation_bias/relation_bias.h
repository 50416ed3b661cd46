#pragma once
// The blended relation bias of attention, one value per head and ordered token pair (METHOD sections 4 and 5), fused: a pair's
// relations are encoded only where they are shown, and nothing of size pairs × K is stored.
//
//   bias(i, j) = [SPD shown]      · spd_table[s + 1]
//              + [edge shown]     · (1/c) Σ_{hop < min(s, 5)} mean_f edge_table[row_f] · W_hop     (c = 1 if s = 0, else min(s, 5))
//              + [distance shown] · (W₂ · gelu(W₁ · g + b₁) + b₂)
//   g_k = exp(−½((u − μ_k)/σ_k)²) / (√(2 · 3.14159) · σ_k), u = (mul_i + mul_j) r + bias_i + bias_j, σ_k = |std_k| + 0.01
// between atoms; the graph token's value t once on all of row 0 and on column 0 of the other rows.
// Unreachable pairs (s = 510) have no path: their edge encoding is zero.
//
//   gaussian_sum[i] = Σ_j g_ij over all atoms j of the molecule, i included, for atoms that show Gaussians; else zero.
//
// Layout of the bias: per molecule [H, n + 1, n + 1] starting at H · token_pair_offset[b].
// Gradients are summed a thread (on the GPU: a block) at a time and then over those in order: deterministic for the same number of
// threads; on the GPU their number depends on the batch alone. In bf16 the GPU's products of Gaussians, hidden layer and weights take
// operands rounded to bf16 where H <= 64 and K <= 128; all else, and all sums, are float.

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"
#include "kernels/common/precision.h"

namespace moleblend {

/// Parameters of the encodings; with `T*` the same struct holds their gradients (added to).
template <class T>
struct RelationTables {
  T* spd_table;      // [512, H], row s + 1
  T* edge_table;     // [3 · 512 + 1, H], row category + 512 f + 3
  T* edge_hop;       // [128 · H · H]: hop d gives W_d [H in, H out], vector on the left; five are used
  T* graph_token;    // [H]
  T* gaussian_mul;   // [1536], row z + 3 for the row atom i, z + 515 for the column atom j (z = atomic-number category)
  T* gaussian_bias;  // [1536]
  T* gaussian_mean;  // [K]
  T* gaussian_std;   // [K]
  T* distance_w1;    // [K, K]
  T* distance_b1;    // [K]
  T* distance_w2;    // [H, K]
  T* distance_b2;    // [H]
};

template <class T>
struct RelationBiasInput {
  Packed packed;
  std::int64_t heads, kernels;       // H, K; K = 0: no distance encoder, its tables are null and nothing shows 3D
  const std::uint16_t* spd;          // [P] hops; 510 = unreachable
  const std::uint8_t* path;          // [P, 5] bond codes along the path, 0 = no such hop
  const std::uint16_t* atom_codes;   // [N, 9]; feature 0 is the atomic-number category
  const Wide<T>* positions;          // [N, 3] ångström, noised in pretraining; may be null if nothing shows 3D
  const std::uint8_t* pair_visible;  // [P] bits of PairVisible
  const std::uint8_t* atom_visible;  // [N] bits of AtomVisible
  RelationTables<const Wide<T>> tables;
};

template <class T>
struct RelationBiasForward {
  RelationBiasInput<T> in;
  T* bias;          // [H · token_pairs]
  T* gaussian_sum;  // [N, K], or null if no atom shows Gaussians
};
template <class T>
void relation_bias_forward(Cpu& cpu, const RelationBiasForward<T>& a);
template <class T>
void relation_bias_forward(Gpu& gpu, const RelationBiasForward<T>& a);

template <class T>
struct RelationBiasBackward {
  RelationBiasInput<T> in;
  const Wide<T>* dbias;    // [H · token_pairs]
  const T* dgaussian_sum;  // [N, K], or null
  RelationTables<Wide<T>> gradients;
};
template <class T>
void relation_bias_backward(Cpu& cpu, const RelationBiasBackward<T>& a);
template <class T>
void relation_bias_backward(Gpu& gpu, const RelationBiasBackward<T>& a);

}  // namespace moleblend
