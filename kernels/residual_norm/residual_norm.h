#pragma once
// y = LayerNorm(x + path_scale · drop(branch)): residual, dropout, drop-path and LayerNorm in one pass over memory.
// Without a branch it is a plain LayerNorm (of the embeddings).
//
// Drop-path drops a molecule's whole branch: path_scale[b] is 0 or 1/(1 − p), one draw a (molecule, layer, branch).
// Gradients of weight and bias are summed a thread at a time, then over threads in order.

#include "kernels/common/cpu.h"
#include "kernels/common/packed.h"
#include "kernels/random/philox.h"

namespace moleblend {

inline constexpr double kLayerNormEpsilon = 1e-5;

template <class T>
struct ResidualNormForward {
  Packed packed;
  std::int64_t width;                 // D
  const T* x;                         // [T, D]
  const T* branch;                    // [T, D], or null
  const T* weight;                    // [D]
  const T* bias;                      // [D]
  Dropout hidden_dropout, drop_path;  // on the branch
  std::uint32_t layer;                // of the draws: 2 · l for attention, 2 · l + 1 for feed-forward
  const std::uint64_t* molecule_key;  // [B]; may be null if neither dropout is active
  T* y;                               // [T, D]
  T* normalised;                      // [T, D] (x − mean) · rstd, kept for backward; or null
  T* rstd;                            // [T], kept for backward; or null
};
template <class T>
void residual_norm_forward(Cpu& cpu, const ResidualNormForward<T>& a);

template <class T>
struct ResidualNormBackward {
  Packed packed;
  std::int64_t width;
  const T* dy;          // [T, D]
  const T* normalised;  // [T, D]
  const T* rstd;        // [T]
  const T* weight;      // [D]
  Dropout hidden_dropout, drop_path;
  std::uint32_t layer;
  const std::uint64_t* molecule_key;
  T* dx;       // [T, D] gradient of x; overwritten; may alias dy
  T* dbranch;  // [T, D] gradient of branch; overwritten; or null if there is none
  T* dweight;  // [D] added to
  T* dbias;    // [D] added to
};
template <class T>
void residual_norm_backward(Cpu& cpu, const ResidualNormBackward<T>& a);

}  // namespace moleblend
