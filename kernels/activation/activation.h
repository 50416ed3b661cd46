#pragma once
// y = drop(gelu(x)), gelu(x) = ½ x (1 + erf(x / √2)): the exact form. The dropout of an element is drawn again in backward.
// On a GPU (gelu.cuh has its functions) all arrays are 32-byte aligned; with dropout, F is best a multiple of 8.

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"
#include "kernels/common/precision.h"
#include "kernels/common/vector_math.h"
#include "kernels/random/philox.h"

namespace moleblend {

/// In float: error below 2e-7 or two units in the last place, whichever is larger; loops over it are vectorised.
template <class T>
inline T gelu(T x) {
  return x * normal(x).cdf;
}
/// d gelu / dx = Φ(x) + x φ(x). In float: absolute error below 2e-7.
template <class T>
inline T gelu_derivative(T x) {
  const Normal<T> n = normal(x);
  return n.cdf + x * n.density;
}

/// Rows are the packed tokens (`packed` gives each row its molecule), or any rows if dropout is not active.
template <class T>
struct GeluForward {
  Packed packed;
  std::int64_t rows, features;  // [T, F]
  const T* x;                   // [rows, features]
  Dropout dropout;
  std::uint32_t layer;                // of Draw::activation_dropout
  const std::uint64_t* molecule_key;  // [B], or null
  T* y;                               // [rows, features]; may alias x
};
template <class T>
void gelu_forward(Cpu& cpu, const GeluForward<T>& a);
template <class T>
void gelu_forward(Gpu& gpu, const GeluForward<T>& a);

template <class T>
struct GeluBackward {
  Packed packed;
  std::int64_t rows, features;
  const T* x;  // the input of forward
  Dropout dropout;
  std::uint32_t layer;
  const std::uint64_t* molecule_key;
  const T* dy;  // [rows, features]
  T* dx;        // [rows, features]; overwritten; may alias dy
  /// [features] Σ_rows dx, added to: the gradient of a bias that x ends with. Null: not wanted; on the CPU, where the product that reads dx
  /// has it on the way, always.
  Wide<T>* dx_sum = nullptr;
};
template <class T>
void gelu_backward(Cpu& cpu, const GeluBackward<T>& a);
template <class T>
void gelu_backward(Gpu& gpu, const GeluBackward<T>& a);

}  // namespace moleblend
