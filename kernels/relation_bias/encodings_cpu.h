#pragma once
// What forward and backward of the relation bias share on the CPU: tables built once a call, the Gaussians, and how rows of the
// bias are shared out to threads.

#include "kernels/common/carve.h"
#include "kernels/common/vector_math.h"
#include "kernels/relation_bias/relation_bias.h"
#include "kernels/relation_bias/rows.h"

namespace moleblend::relation {

/// Built once a call: 5 · 60 hop vectors instead of a matrix product a pair, and transposes that let products run along rows.
template <class T>
struct Encodings {
  T* bond_mean;      // [61, H] mean of a bond's three rows of edge_table
  T* hop;            // [5, 61, H] bond_mean · W_hop
  T* inverse_sigma;  // [K] 1 / σ
  T* height;         // [K] 1 / (√(2 · 3.14159) σ)
  T* w1_transposed;  // [K in, K out]
  T* w2_transposed;  // [K, H]

  static Encodings carve(Carver& carver, std::int64_t heads, std::int64_t kernels);
  void build(const RelationBiasInput<T>& in);
};

/// g [K] at u.
template <class T>
inline void gaussians(const Encodings<T>& e, const T* __restrict mean, std::int64_t kernels, T u, T* __restrict g) {
  const T* __restrict inverse_sigma = e.inverse_sigma;
  const T* __restrict height = e.height;
  for (std::int64_t k = 0; k < kernels; ++k) {
    const T z = (u - mean[k]) * inverse_sigma[k];
    g[k] = height[k] * exp_nonpositive(T(-0.5) * z * z);
  }
}

/// Distance of a pair of atoms (indices in the batch) and the Gaussians' argument.
template <class T>
struct Argument {
  T r, u;
};
template <class T>
inline Argument<T> argument(const RelationBiasInput<T>& in, std::int64_t i, std::int64_t j) {
  T square = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const T d = in.positions[3 * j + axis] - in.positions[3 * i + axis];
    square += d * d;
  }
  const std::int64_t row = row_element(in.atom_codes[i * kAtomFeatures]),
                     column = column_element(in.atom_codes[j * kAtomFeatures]);
  const T r = std::sqrt(square);
  const T* mul = in.tables.gaussian_mul;
  const T* bias = in.tables.gaussian_bias;
  return {r, (mul[row] + mul[column]) * r + (bias[row] + bias[column])};
}

/// A pair that shows its distance, on its way through the MLP.
template <class T>
struct DistancePair {
  std::int64_t bias_at, head_stride;  // head h of the bias is at bias_at + h · head_stride
  std::int64_t row_atom, column_atom;
  Argument<T> argument;
};

/// Pairs that go through the MLP together: enough to keep the matrix products busy, few enough to stay in the second-level cache.
inline constexpr std::int64_t kTilePairs = 256;

struct RowCut {
  std::int64_t molecule, row;
};
/// Where part `part` begins: rows of all molecules, cut by their number of pairs, so that one large molecule is shared out too.
RowCut row_cut(const Packed& packed, int parts, int part);

/// Calls f(molecule, token row) for the rows of a part in order; a molecule's row 0 (the graph token) goes with its first atom's.
template <class F>
void for_each_row(const Packed& packed, int parts, int part, F&& f) {
  const RowCut first = row_cut(packed, parts, part), last = row_cut(packed, parts, part + 1);
  for (std::int64_t b = first.molecule; b < last.molecule || (b == last.molecule && last.row > 0); ++b) {
    const std::int64_t begin = b == first.molecule ? first.row : 0;
    const std::int64_t end = b == last.molecule ? last.row : packed.atoms_of(b);
    if (begin == 0) f(b, std::int64_t{0});
    for (std::int64_t i = begin; i < end; ++i) f(b, i + 1);
  }
}

}  // namespace moleblend::relation
