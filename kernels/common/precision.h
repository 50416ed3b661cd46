#pragma once
// Number types of the operations. T is what activations are stored in; sums, parameters and their gradients are Wide<T>.

#include <bit>
#include <cstdint>

#if defined(__CUDACC__)
#define MOLEBLEND_HD __host__ __device__
#else
#define MOLEBLEND_HD
#endif

namespace moleblend {

/// bfloat16 as storage: 8 bits of exponent, 7 of fraction. Arithmetic is done in float.
struct bf16 {
  std::uint16_t bits;
};

MOLEBLEND_HD inline float to_float(float x) {
  return x;
}
MOLEBLEND_HD inline double to_float(double x) {
  return x;
}
MOLEBLEND_HD inline float to_float(bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

/// Rounded to nearest, ties to even; NaN stays NaN.
MOLEBLEND_HD inline bf16 to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

namespace detail {
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<bf16> {
  using type = float;
};
}  // namespace detail
/// float for bf16; else the type itself.
template <class T>
using Wide = typename detail::WideOf<T>::type;

template <class T>
MOLEBLEND_HD inline T narrow(Wide<T> x) {
  return x;
}
template <>
MOLEBLEND_HD inline bf16 narrow<bf16>(float x) {
  return to_bf16(x);
}

}  // namespace moleblend
