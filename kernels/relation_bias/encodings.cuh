#pragma once
// What the CUDA kernels of the relation bias share: tables built once a call, the Gaussians, pairs and their places in memory.

#include <algorithm>

#include "kernels/common/carve.h"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/relation_bias/relation_bias.h"
#include "kernels/relation_bias/rows.h"

namespace moleblend::relation {

/// The input without its type of activations, of which it has none.
using Input = RelationBiasInput<float>;
template <class T>
Input input_of(const RelationBiasInput<T>& in) {
  return {in.packed,     in.heads,     in.kernels,      in.spd,          in.path,
          in.atom_codes, in.positions, in.pair_visible, in.atom_visible, in.tables};
}

/// Nothing shows its distance or Gaussians without positions.
inline bool has_distances(const Input& in) {
  return in.kernels > 0 && in.positions;
}

// Sizes that kernels on tensor cores are compiled for; H and K are padded to the next. 0: none is large enough.
inline int padded_kernels(std::int64_t kernels) {
  return kernels > 128 ? 0 : kernels > 64 ? 128 : kernels > 16 ? 64 : 16;
}
inline int padded_heads(std::int64_t heads) {
  return heads > 64 ? 0 : heads > 32 ? 64 : heads > 16 ? 32 : 16;
}
template <class T>
bool on_tensor_cores(const Input& in) {
  return sizeof(T) == 2 && has_distances(in) && padded_kernels(in.kernels) && padded_heads(in.heads);
}

/// Calls f(KP, HP) with the padded sizes as compile-time constants.
template <class F>
void with_padded_sizes(const Input& in, F&& f) {
  const auto with_kernels = [&]<int HP>(std::integral_constant<int, HP> heads) {
    switch (padded_kernels(in.kernels)) {
      case 16:
        return f(std::integral_constant<int, 16>{}, heads);
      case 64:
        return f(std::integral_constant<int, 64>{}, heads);
      default:
        return f(std::integral_constant<int, 128>{}, heads);
    }
  };
  switch (padded_heads(in.heads)) {
    case 16:
      return with_kernels(std::integral_constant<int, 16>{});
    case 32:
      return with_kernels(std::integral_constant<int, 32>{});
    default:
      return with_kernels(std::integral_constant<int, 64>{});
  }
}

/// Tables in device memory, built once a call. KP, HP: the sizes for tensor cores, or K and H where they are not used.
struct DeviceEncodings {
  std::int64_t kernels, heads;  // KP, HP
  float* bond_mean;             // [61, H] mean of a bond's three rows of edge_table
  float* hop;                   // [5, 61, H] bond_mean · W_hop
  // Past K: zero, so that a padded Gaussian is zero.
  float* mean;           // [KP]
  float* inverse_sigma;  // [KP] 1 / σ
  float* height;         // [KP] 1 / (√(2 · 3.14159) σ)
  float* b1;             // [KP]
  float* b2;             // [HP]
  // For tensor cores, zero past K and H.
  bf16* w1;  // [KP, KP]
  bf16* w2;  // [HP, KP]
  // Without them: products run along rows.
  float* w1_transposed;  // [K in, K out]
  float* w2_transposed;  // [K, H]

  static DeviceEncodings carve(Carver& carver, const Input& in, bool tensor_cores);
};
void build_encodings(Gpu& gpu, const Input& in, const DeviceEncodings& e);

/// Dynamic shared memory cut into arrays; without memory it only counts.
class SharedCut {
 public:
  MOLEBLEND_HD explicit SharedCut(unsigned char* memory) : memory_(memory) {}
  template <class T>
  MOLEBLEND_HD T* take(std::int64_t count) {
    T* piece = memory_ ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 15) / 16 * 16;
    return piece;
  }
  MOLEBLEND_HD std::size_t bytes() const { return used_; }

 private:
  unsigned char* memory_;
  std::size_t used_ = 0;
};

/// ⌊a / b⌋ of a >= 0, b > 0. In line, since a call in the midst of a kernel costs it its registers; beyond 32 bits, which takes a molecule
/// of more than 65,535 atoms, by bisection.
__device__ inline std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if ((a | b) >> 32 == 0) return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
  std::int64_t low = 0, high = a;
  while (low < high) {
    const std::int64_t middle = low + (high - low + 1) / 2;
    if (middle <= 0x7FFFFFFFFFFFFFFF / b && middle * b <= a) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

/// Block `block` of `blocks` has its share of `count` things in [begin, end).
struct Share {
  std::int64_t begin, end;
};
__device__ inline Share share_of(std::int64_t count, std::int64_t block, std::int64_t blocks) {
  const std::int64_t each = quotient(count, blocks), rest = count - each * blocks;
  return {block * each + min(block, rest), (block + 1) * each + min(block + 1, rest)};
}

/// The molecule that has item `at` of [0, offset[molecules]).
__device__ inline std::int64_t molecule_of(const std::int64_t* offset, std::int64_t molecules, std::int64_t at) {
  std::int64_t low = 0, high = molecules;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (offset[middle] <= at ? low : high) = middle;
  }
  return low;
}

/// A token that is an atom, or the graph token.
struct AtomToken {
  std::int64_t molecule, atom;  // atom < 0: the graph token
};
__device__ inline AtomToken atom_token(const Packed& packed, std::int64_t token) {
  const std::int64_t b = packed.token_molecule[token];
  return {b, token == packed.token_offset(b) ? -1 : token - b - 1};
}

/// Distance of a pair of atoms (indices in the batch) and the Gaussians' argument.
struct Argument {
  float r, u;
};
__device__ inline Argument argument(const Input& in, std::int64_t i, std::int64_t j) {
  float square = 0;
#pragma unroll
  for (int axis = 0; axis < 3; ++axis) {
    const float d = in.positions[3 * j + axis] - in.positions[3 * i + axis];
    square += d * d;
  }
  const int row = row_element(in.atom_codes[i * kAtomFeatures]),
            column = column_element(in.atom_codes[j * kAtomFeatures]);
  const float r = sqrtf(square);
  const float* mul = in.tables.gaussian_mul;
  const float* bias = in.tables.gaussian_bias;
  return {r, (mul[row] + mul[column]) * r + (bias[row] + bias[column])};
}

/// exp(−z²/2). `Fast`: what is rounded to bf16 afterwards, or multiplied with what was, can do with the machine's own exponential.
template <bool Fast>
__device__ __forceinline__ float bell(float z) {
  return Fast ? cuda::exp2_fast(z * (z * (-0.5f * cuda::kLog2E))) : expf(-0.5f * z * z);
}

/// The shape of a set of Gaussians, in shared or device memory.
struct Gaussians {
  const float *mean, *inverse_sigma, *height;
};

/// The hop table's rows and the weight of a path's hops, and the row of the SPD table, as far as the pair shows them.
struct LookUp {
  int spd_row;  // −1: not shown
  int hops;     // 0: not shown
  float weight;
};
__device__ inline LookUp look_up(const Input& in, std::int64_t pair) {
  const unsigned visible = in.pair_visible[pair];
  if (!(visible & (kShowSpd | kShowEdge))) return {-1, 0, 0.0f};
  const int spd = in.spd[pair], hops = visible & kShowEdge ? hops_of(spd) : 0;
  const float weight = hops < 2 ? 1.0f : hops == 2 ? 1.0f / 2 : hops == 3 ? 1.0f / 3 : hops == 4 ? 1.0f / 4 : 1.0f / 5;
  return {visible & kShowSpd ? spd + 1 : -1, hops, weight};
}

// Operands of mma from shared memory, 16 × 16 at (row, column) of a row-major array with `pitch` values a row (a multiple of 8).
// a_rows: A as it lies; a_columns: A is the transpose of what lies there. b_rows: B [k, n] of two neighbouring n-tiles, where its
// transpose [n, k] lies there; b_columns: as it lies.
__device__ __forceinline__ void a_rows(std::uint32_t (&f)[4], const bf16* x, int pitch, int row, int column) {
  const int lane = threadIdx.x % 32;
  cuda::ldmatrix_x4(f, x + (row + lane % 16) * pitch + column + lane / 16 * 8);
}
__device__ __forceinline__ void a_columns(std::uint32_t (&f)[4], const bf16* x, int pitch, int k, int m) {
  const int lane = threadIdx.x % 32;
  cuda::ldmatrix_x4_trans(f, x + (k + lane % 8 + lane / 16 * 8) * pitch + m + lane / 8 % 2 * 8);
}
__device__ __forceinline__ void b_rows(std::uint32_t (&f)[4], const bf16* x, int pitch, int n, int k) {
  const int lane = threadIdx.x % 32;
  cuda::ldmatrix_x4(f, x + (n + lane % 8 + lane / 16 * 8) * pitch + k + lane / 8 % 2 * 8);
}
__device__ __forceinline__ void b_columns(std::uint32_t (&f)[4], const bf16* x, int pitch, int k, int n) {
  const int lane = threadIdx.x % 32;
  cuda::ldmatrix_x4_trans(f, x + (k + lane % 16) * pitch + n + lane / 16 * 8);
}

/// to [rows, columns + 8] in shared memory = from [rows, columns], columns a multiple of 8, by all threads of the block.
template <int Rows, int Columns>
__device__ __forceinline__ void load_weights(bf16* to, const bf16* from) {
  struct alignas(16) Octet {
    bf16 value[8];
  };
  for (int k = threadIdx.x; k < Rows * Columns / 8; k += blockDim.x) {
    const int row = k / (Columns / 8), column = k % (Columns / 8) * 8;
    *reinterpret_cast<Octet*>(to + row * (Columns + 8) + column) =
        *reinterpret_cast<const Octet*>(from + row * Columns + column);
  }
}

}  // namespace moleblend::relation
