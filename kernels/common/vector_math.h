#pragma once
// exp and the normal distribution as straight-line code, so that compilers turn loops over them into vector code (a call of the
// library's expf or erff can't be). The double versions are the library's: they serve the checks.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace moleblend {

/// exp(x) for x <= 0, relative error below 1.2e-7; zero below −87.3, near where the result leaves the normal numbers. NaN stays NaN.
inline float exp_nonpositive(float x) {
  // x = k ln 2 + r, |r| <= ½ ln 2. Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits. ln 2 in two parts (Cody and
  // Waite), the first short enough that k times it is exact.
  constexpr float kRound = 12582912.0f;
  const float shifted = x * 1.44269504f + kRound;
  const float k = shifted - kRound;
  const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  // Chebyshev fit of exp on |r| <= 0.3467: error 2e-9.
  float p = 1.39411466e-3f;
  p = p * r + 8.375156955e-3f;
  p = p * r + 4.166635244e-2f;
  p = p * r + 1.666641515e-1f;
  p = p * r + 5.000000047e-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float power = std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) + 127u) << 23);
  return x < -87.3f ? 0.0f : p * power;
}
inline double exp_nonpositive(double x) {
  return std::exp(x);
}

/// Φ(x) and φ(x) of the standard normal distribution.
template <class T>
struct Normal {
  T cdf, density;
};

/// Absolute error of Φ below 1.2e-7 (one unit in the last place), of φ below 6e-8; relative error of Φ(x) for x < 0 below 3e-7 · max(1, x²).
inline Normal<float> normal(float x) {
  const float e = exp_nonpositive(-0.5f * x * x);
  // Φ(−|x|) exp(x²/2) = ½ + w P(w), w = p |x| / (1 + p |x|): the substitution of Abramowitz and Stegun 7.1.26, turned round so that
  // nothing is lost near x = 0, with p = 0.45 and a Chebyshev fit of its own (degree 8, |x| <= 14; error of Φ 7e-9).
  const float a = std::min(6.3f, 0.45f * std::abs(x)), w = a / (1.0f + a);  // beyond 14, e is zero
  float p = -3.457355369e-2f;
  p = p * w + 1.053731782e-1f;
  p = p * w - 9.051105432e-2f;
  p = p * w + 3.369308876e-2f;
  p = p * w - 6.454802387e-2f;
  p = p * w - 3.398235436e-2f;
  p = p * w + 1.230499319e-1f;
  p = p * w + 3.480367993e-1f;
  p = p * w - 8.865384398e-1f;
  p = p * w + 0.5f;
  const float tail = e * p;
  return {x < 0 ? tail : 1.0f - tail, 0.398942280f * e};
}
inline Normal<double> normal(double x) {
  return {0.5 * std::erfc(x * -0.70710678118654752440), 0.39894228040143267794 * std::exp(-0.5 * x * x)};
}

/// Σ term(k) over [0, count) in sixteen running sums, folded at the end: a fixed order that compilers can keep in vectors.
template <class T, class Term>
inline T vector_sum(std::int64_t count, const Term& term) {
  constexpr int kLanes = 16;
  T lane[kLanes] = {};
  std::int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    for (int l = 0; l < kLanes; ++l) lane[l] += term(k + l);
  }
  for (int l = 0; k < count; ++k, ++l) lane[l] += term(k);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) lane[l] += lane[l + width];
  }
  return lane[0];
}

}  // namespace moleblend
