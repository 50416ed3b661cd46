#pragma once
// gelu and its derivative in kernels, computed in float. `Store` says what the result becomes: float takes the exact form; bf16, whose
// rounding alone is a relative error of up to 2⁻⁸, takes one that is off by a tenth of that at most and costs half.

#include <type_traits>

#include "kernels/common/cuda/cuda.cuh"

namespace moleblend::cuda {

/// The tail Φ(−|x|) = exp(−x²/2) · P(|x|), P the polynomial of degree 8 with the least relative error on [0, 6]: 3.0e-4. Beyond 6 the
/// exponential is smaller than anything that it is added to, and up to 8, where |x| ends, P stays of order one.
struct GeluTail {
  float size, exponential;

  __device__ __forceinline__ explicit GeluTail(float x)
      : size(fminf(fabsf(x), 8.0f)), exponential(exp2_fast(x * (x * -0.72134752f))) {}  // NaN if x is
  /// P(|x|) − slope · |x|
  __device__ __forceinline__ float polynomial(float slope) const {
    float p = fmaf(2.672741175e-06f, size, -7.911304419e-05f);
    p = fmaf(p, size, 1.008695923e-03f);
    p = fmaf(p, size, -7.307073567e-03f);
    p = fmaf(p, size, 3.360064328e-02f);
    p = fmaf(p, size, -1.048303694e-01f);
    p = fmaf(p, size, 2.347225696e-01f);
    p = fmaf(p, size, -3.954405487e-01f - slope);
    return fmaf(p, size, 4.998524785e-01f);
  }
};

/// ½ x (1 + erf(x / √2)), absolute error below 2e-7 · max(1, |x|); for bf16 max(x, 0) − |x| Φ(−|x|), relative error below 4e-4 where |x| < 6.
template <class Store = float>
__device__ __forceinline__ float gelu(float x) {
  if constexpr (std::is_same_v<Store, bf16>) {
    const GeluTail tail(x);
    return fmaf(-tail.size * tail.exponential, tail.polynomial(0), fmaxf(x, 0.0f));
  } else {
    const float half = 0.5f * x;
    return fmaf(half, erff(x * 0.70710678f), half);
  }
}

/// Φ(x) + x φ(x), absolute error below 4e-7. The fast exponential has an absolute error like the exact one's: it is within
/// 2 + 1.2 |x²/2| units in the last place, of a value that falls as exp(−x²/2). For bf16 S or, of positive x, 1 − S with
/// S = exp(−x²/2) · (P(|x|) − |x| / √(2π)), absolute error below 2e-4.
template <class Store = float>
__device__ __forceinline__ float gelu_derivative(float x) {
  if constexpr (std::is_same_v<Store, bf16>) {
    const GeluTail tail(x);
    const float s = tail.exponential * tail.polynomial(0.39894228f);
    return x > 0 ? 1.0f - s : s;
  } else {
    const float cdf = fmaf(0.5f, erff(x * 0.70710678f), 0.5f);
    return fmaf(x, 0.39894228f * exp_fast(-0.5f * x * x), cdf);
  }
}

}  // namespace moleblend::cuda
