#pragma once
// gelu and its derivative in kernels: the exact form, in float.

#include "kernels/common/cuda/cuda.cuh"

namespace moleblend::cuda {

/// ½ x (1 + erf(x / √2)), absolute error below 2e-7 · max(1, |x|).
__device__ __forceinline__ float gelu(float x) {
  const float half = 0.5f * x;
  return fmaf(half, erff(x * 0.70710678f), half);
}

/// Φ(x) + x φ(x), absolute error below 4e-7. The fast exponential has an absolute error like the exact one's: it is within
/// 2 + 1.2 |x²/2| units in the last place, of a value that falls as exp(−x²/2).
__device__ __forceinline__ float gelu_derivative(float x) {
  const float cdf = fmaf(0.5f, erff(x * 0.70710678f), 0.5f);
  return fmaf(x, 0.39894228f * __expf(-0.5f * x * x), cdf);
}

}  // namespace moleblend::cuda
