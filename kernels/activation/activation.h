#pragma once
// y = drop(gelu(x)), gelu(x) = ½ x (1 + erf(x / √2)): the exact form. The dropout of an element is drawn again in backward.

#include <cmath>

#include "kernels/common/cpu.h"
#include "kernels/common/packed.h"
#include "kernels/random/philox.h"

namespace moleblend {

template <class T>
inline T gelu(T x) {
  return T(0.5) * x * (T(1) + std::erf(x * T(0.70710678118654752440)));
}
/// d gelu / dx = Φ(x) + x φ(x).
template <class T>
inline T gelu_derivative(T x) {
  return T(0.5) * (T(1) + std::erf(x * T(0.70710678118654752440))) + x * T(0.39894228040143267794) * std::exp(T(-0.5) * x * x);
}

/// Rows are the packed tokens (`packed` gives each row its molecule), or any rows if dropout is not active.
template <class T>
struct GeluForward {
  Packed packed;
  std::int64_t rows, features;        // [T, F]
  const T* x;                         // [rows, features]
  Dropout dropout;
  std::uint32_t layer;                // of Draw::activation_dropout
  const std::uint64_t* molecule_key;  // [B], or null
  T* y;                               // [rows, features]; may alias x
};
template <class T>
void gelu_forward(Cpu& cpu, const GeluForward<T>& a);

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
};
template <class T>
void gelu_backward(Cpu& cpu, const GeluBackward<T>& a);

}  // namespace moleblend
