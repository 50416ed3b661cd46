#pragma once
// y = LayerNorm(x + path_scale · drop(branch)): residual, dropout, drop-path and LayerNorm in one pass over memory.
// Without a branch it is a plain LayerNorm (of the embeddings).
//
// Drop-path drops a molecule's whole branch: path_scale[b] is 0 or 1/(1 − p), one draw a (molecule, layer, branch).
// Gradients of weight and bias are partial sums, added in order: on the CPU one a thread, on a GPU a number that depends on the batch alone.
// On a GPU all arrays are 32-byte aligned if D is a multiple of 8; widths that are not, or beyond 1,024, take a slower path.

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"
#include "kernels/common/precision.h"
#include "kernels/random/philox.h"

namespace moleblend {

inline constexpr double kLayerNormEpsilon = 1e-5;

template <class T>
struct ResidualNormForward {
  Packed packed;
  std::int64_t width;                 // D
  const T* x;                         // [T, D]
  const T* branch;                    // [T, D], or null
  const Wide<T>* weight;              // [D]
  const Wide<T>* bias;                // [D]
  Dropout hidden_dropout, drop_path;  // on the branch
  std::uint32_t layer;                // of the draws: 2 · l for attention, 2 · l + 1 for feed-forward
  const std::uint64_t* molecule_key;  // [B]; may be null if neither dropout is active
  T* y;                               // [T, D]
  T* normalised;                      // [T, D] (x − mean) · rstd, kept for backward; or null
  Wide<T>* rstd;                      // [T], kept for backward; or null
};
template <class T>
void residual_norm_forward(Cpu& cpu, const ResidualNormForward<T>& a);
template <class T>
void residual_norm_forward(Gpu& gpu, const ResidualNormForward<T>& a);

template <class T>
struct ResidualNormBackward {
  Packed packed;
  std::int64_t width;
  const T* dy;            // [T, D]
  const T* normalised;    // [T, D]
  const Wide<T>* rstd;    // [T]
  const Wide<T>* weight;  // [D]
  Dropout hidden_dropout, drop_path;
  std::uint32_t layer;
  const std::uint64_t* molecule_key;
  T* dx;             // [T, D] gradient of x; overwritten; may alias dy
  T* dbranch;        // [T, D] gradient of branch; overwritten; or null if there is none
  Wide<T>* dweight;  // [D] added to
  Wide<T>* dbias;    // [D] added to
  /// [D] Σ_rows dbranch, added to: the gradient of a bias that the branch ends with. Null: not wanted; on the CPU, where the product that
  /// reads dbranch has it on the way, always.
  Wide<T>* dbranch_sum = nullptr;
};
template <class T>
void residual_norm_backward(Cpu& cpu, const ResidualNormBackward<T>& a);
template <class T>
void residual_norm_backward(Gpu& gpu, const ResidualNormBackward<T>& a);

}  // namespace moleblend
