#pragma once
// The denoising head and its loss (METHOD section 7): attention over a molecule's atoms, with the encoder's bias, whose probabilities
// weigh unit displacements of the noised positions.
//
//   s_{h,c,j} = w_c[head h] · v_j                                   (c = x, y, z; w_c is the map D → 1 of axis c)
//   f_{i,c}   = Σ_h Σ_j drop(softmax_j(scale · q_i · k_j + bias_ij))_h Δ_{ij,c} s_{h,c,j} + b_c,   Δ_ij = (x_j − x_i) / (r_ij + 1e-5)
//   loss      = Σ over atoms with `target` of 1 − cos(f_i, noise_i),  norms clamped at 1e-8
//
// Summing the maps into v first is the same function with a third of the work: no [3, N, D] values exist.
// Value and gradients in one operation. The same bits in every run: what several threads or blocks contribute to is added in a fixed
// order, which depends on the batch only (and, on the CPU, on the number of threads for dforce_weight and dforce_bias).
// On a GPU, qkv and dqkv are 16-byte aligned. The dropout of probabilities is Draw::denoise_dropout with layer 0 and elements
// (h · n + i) · round_up(n, 8) + j.

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"
#include "kernels/common/precision.h"
#include "kernels/random/philox.h"

namespace moleblend {

/// Whether an atom's noise is asked for: it shows 3D, its position is known, and it has company. What the network sees of a lone atom does
/// not depend on its noise, and its prediction is the bare bias, which starts at zero, where the gradient of a cosine is 1e8.
MOLEBLEND_HD constexpr bool asks_for_noise(std::int64_t atoms_of_molecule, std::uint8_t visible, bool position_known) {
  return atoms_of_molecule > 1 && (visible & kShowGaussians) && position_known;
}

struct DenoiseResult {
  double loss = 0;         // Σ 1 − cos over the atoms that count
  std::int64_t count = 0;  // those atoms
};

template <class T>
struct DenoiseHead {
  Packed packed;
  std::int64_t heads, width;
  const T* qkv;   // [N, 3 D] of the atoms (no graph tokens)
  const T* bias;  // [H · token_pairs]; the graph token's row and column are skipped
  Wide<T> scale;
  Dropout dropout;
  const std::uint64_t* molecule_key;   // [B], or null if dropout is not active
  const Wide<T>* positions;            // [N, 3] noised
  const float* noise;                  // [N, 3]
  const std::uint8_t* has_positions;   // [B]: others are skipped
  const std::uint8_t* position_known;  // [N], or null: all known
  const std::uint8_t* atom_visible;    // [N]: see asks_for_noise
  const Wide<T>* force_weight;         // [3, D]
  const Wide<T>* force_bias;           // [3]
  double loss_scale;                   // on the gradient: loss factor / number of such atoms in the global batch
  Wide<T>* prediction;                 // [N, 3], or null; zero for molecules without positions
  // Gradients; all null: value only.
  T* dqkv;                 // [N, 3 D] overwritten
  Wide<T>* dbias;          // [H · token_pairs] added to; or null: not wanted
  Wide<T>* dforce_weight;  // [3, D] added to
  Wide<T>* dforce_bias;    // [3] added to
  DenoiseResult* result;   // overwritten; in memory of the device
};
template <class T>
void denoise_head(Cpu& cpu, const DenoiseHead<T>& a);
template <class T>
void denoise_head(Gpu& gpu, const DenoiseHead<T>& a);

}  // namespace moleblend
