#pragma once
// Standard normal numbers, the same bits on CPU and CUDA.
//
// Box and Muller, Ann. Math. Stat. 29 (1958) 610: sqrt(−2 log u) · (cos, sin)(2π v). Everything is IEEE basic
// arithmetic, sqrt and explicit fma in double, which round alike everywhere; every product that is added to something
// is written as an fma, so that no compiler has a contraction of its own to choose. Libraries' log, sin and cos differ
// in the last bits from one to the next.

#include <cmath>

#include "kernels/random/philox.h"

namespace moleblend {

/// log(k · 2⁻³²) for an integer 1 <= k <= 2³². Error below 2e-16 · max(1, |log|).
MOLEBLEND_HD inline double log_of_fraction(double k) {
  double exponent = -32, m = k;  // k = m · 2^(exponent + 32); every scaling is exact
  if (m >= 0x1p16) m *= 0x1p-16, exponent += 16;
  if (m >= 0x1p16) m *= 0x1p-16, exponent += 16;  // only k = 2³²
  if (m >= 0x1p8) m *= 0x1p-8, exponent += 8;
  if (m >= 0x1p4) m *= 0x1p-4, exponent += 4;
  if (m >= 0x1p2) m *= 0x1p-2, exponent += 2;
  if (m >= 0x1p1) m *= 0x1p-1, exponent += 1;
  if (m > 1.41421356237309515) m *= 0.5, exponent += 1;
  // log m = 2 artanh(s), s = (m − 1)/(m + 1), |s| <= 0.1716: the next term of the series, 2 s²³/23, is below 1e-18 · s.
  const double f = m - 1, s = f / (f + 2), z = s * s;
  double p = 1.0 / 21;
  p = std::fma(p, z, 1.0 / 19);
  p = std::fma(p, z, 1.0 / 17);
  p = std::fma(p, z, 1.0 / 15);
  p = std::fma(p, z, 1.0 / 13);
  p = std::fma(p, z, 1.0 / 11);
  p = std::fma(p, z, 1.0 / 9);
  p = std::fma(p, z, 1.0 / 7);
  p = std::fma(p, z, 1.0 / 5);
  p = std::fma(p, z, 1.0 / 3);
  p = std::fma(p, z, 1.0);
  return std::fma(exponent, 0.69314718055994531, 2 * s * p);
}

struct CosSin {
  double cos, sin;
};
/// cos and sin of 2π · word · 2⁻³². Error below 3e-16.
MOLEBLEND_HD inline CosSin cos_sin_of_turn(std::uint32_t word) {
  // The nearest quarter turn and what is left, in [−1/8, 1/8) of a turn, exactly.
  const std::uint32_t quarter = (word + 0x20000000u) >> 30;
  const auto rest = static_cast<std::int32_t>(word - (quarter << 30));
  const double x = rest * (6.28318530717958648 * 0x1p-32), z = x * x;
  // Taylor series on |x| <= π/4: the next terms, x¹⁹/19! and x²⁰/20!, are below 1e-19.
  double s = 1.0 / 355687428096000;
  s = std::fma(s, z, -1.0 / 1307674368000);
  s = std::fma(s, z, 1.0 / 6227020800);
  s = std::fma(s, z, -1.0 / 39916800);
  s = std::fma(s, z, 1.0 / 362880);
  s = std::fma(s, z, -1.0 / 5040);
  s = std::fma(s, z, 1.0 / 120);
  s = std::fma(s, z, -1.0 / 6);
  s = std::fma(s, z, 1.0);
  s *= x;
  double c = -1.0 / 6402373705728000;
  c = std::fma(c, z, 1.0 / 20922789888000);
  c = std::fma(c, z, -1.0 / 87178291200);
  c = std::fma(c, z, 1.0 / 479001600);
  c = std::fma(c, z, -1.0 / 3628800);
  c = std::fma(c, z, 1.0 / 40320);
  c = std::fma(c, z, -1.0 / 720);
  c = std::fma(c, z, 1.0 / 24);
  c = std::fma(c, z, -0.5);
  c = std::fma(c, z, 1.0);
  switch (quarter & 3) {
    case 0:
      return {c, s};
    case 1:
      return {-s, c};
    case 2:
      return {-c, -s};
    default:
      return {s, -c};
  }
}

/// Standard normal of `element` of (key, purpose), |value| <= 6.7. Elements 2k and 2k + 1 share a pair of uniforms
/// (cosine and sine): words 0 and 1 of block element / 4 for element % 4 < 2, words 2 and 3 for the others.
MOLEBLEND_HD inline double standard_normal(std::uint64_t key, Draw purpose, std::uint64_t element) {
  const PhiloxWords w = philox(key, static_cast<std::uint32_t>(element / 4), purpose, 0);
  const unsigned half = static_cast<unsigned>(element % 4 / 2);
  const double radius = std::sqrt(-2 * log_of_fraction(static_cast<double>(w.word[2 * half]) + 1));
  const CosSin turn = cos_sin_of_turn(w.word[2 * half + 1]);
  return radius * (element % 2 == 0 ? turn.cos : turn.sin);
}

}  // namespace moleblend
