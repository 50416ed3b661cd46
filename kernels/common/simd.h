#pragma once
// Short vectors for the inner loops of attention and of the pair heads, whose rows are too short for a matrix library.
//
// They are the vector types of GCC and Clang, not intrinsics: the same source compiles to AVX2 (two 4-wide halves where
// there is only SSE or NEON), and a lane's arithmetic does not depend on which of them it was.

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace moleblend::simd {

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(32)));
  typedef std::uint32_t bits __attribute__((vector_size(32)));
  typedef std::int32_t lanes __attribute__((vector_size(32)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(32)));
  typedef std::uint64_t bits __attribute__((vector_size(32)));
  typedef std::int64_t lanes __attribute__((vector_size(32)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
/// What a comparison of vectors gives: all bits set, or none, in each lane.
template <class T>
using Mask = typename VectorOf<T>::lanes;
template <class T>
inline constexpr int kLanes = 32 / sizeof(T);

/// Rows of tiles are padded to a multiple of 8 elements: whole vectors of either type, and whole blocks of dropout
/// draws.
constexpr std::int64_t padded(std::int64_t n) {
  return (n + 7) / 8 * 8;
}

/// Pieces of a scratch block: a count rounded up so that the next piece starts on a cache line as well.
constexpr std::int64_t piece(std::int64_t count) {
  return (count + 15) / 16 * 16;
}

template <class T>
inline Vector<T> load(const T* p) {
  Vector<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline void store(T* p, Vector<T> v) {
  std::memcpy(p, &v, sizeof v);
}
template <class T>
inline Vector<T> all(T x) {
  return Vector<T>{} + x;
}

/// The first `count` elements at p, zero after them; reads a whole vector if that stays before `end`.
template <class T>
inline Vector<T> load_first(const T* p, std::int64_t count, const T* end) {
  if (end - p >= kLanes<T>) return load(p);
  T buffer[kLanes<T>] = {};
  for (std::int64_t k = 0; k < count; ++k) buffer[k] = p[k];
  return load(buffer);
}

/// Lanes below `count`.
template <class T>
inline Mask<T> first_lanes(std::int64_t count) {
  Vector<T> index;
  for (int k = 0; k < kLanes<T>; ++k) index[k] = T(k);
  return index < all(static_cast<T>(count));
}

template <class T>
inline Vector<T> larger(Vector<T> a, Vector<T> b) {
  return a > b ? a : b;
}

/// f(v) for each vector of a row: unrolled for V > 0, a loop over `vectors` for V = 0.
template <int V, class F>
inline void for_each_vector(std::int64_t vectors, F&& f) {
  if constexpr (V > 0) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) f(v);
  } else {
    for (std::int64_t v = 0; v < vectors; ++v) f(v);
  }
}

/// Calls f(constant V, vectors) for rows of `columns` elements; V = vectors up to 5 (40 floats, the common molecules),
/// else 0.
template <class T, class F>
inline void with_vector_count(std::int64_t columns, F&& f) {
  const std::int64_t vectors = (columns + kLanes<T> - 1) / kLanes<T>;
  switch (vectors) {
    case 1:
      return f(std::integral_constant<int, 1>{}, vectors);
    case 2:
      return f(std::integral_constant<int, 2>{}, vectors);
    case 3:
      return f(std::integral_constant<int, 3>{}, vectors);
    case 4:
      return f(std::integral_constant<int, 4>{}, vectors);
    case 5:
      return f(std::integral_constant<int, 5>{}, vectors);
    default:
      return f(std::integral_constant<int, 0>{}, vectors);
  }
}

/// Lanes turned around by half, a quarter, … of the vector, so that a reduction over lanes ends in every lane.
inline Vector<float> turned(Vector<float> v, int by) {
  if (by == 4) return __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  if (by == 2) return __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
}
inline Vector<double> turned(Vector<double> v, int by) {
  if (by == 2) return __builtin_shufflevector(v, v, 2, 3, 0, 1);
  return __builtin_shufflevector(v, v, 1, 0, 3, 2);
}
/// The sum of all lanes, in every lane.
template <class T>
inline Vector<T> sum_over_lanes(Vector<T> v) {
  for (int by = kLanes<T> / 2; by > 0; by /= 2) v += turned(v, by);
  return v;
}
template <class T>
inline Vector<T> max_over_lanes(Vector<T> v) {
  for (int by = kLanes<T> / 2; by > 0; by /= 2) v = larger<T>(v, turned(v, by));
  return v;
}

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  // ln 2 in two parts, the first with its low bits zero so that k · high is exact.
  static constexpr float log2_e = 1.44269504f, ln2_high = 0x1.62ep-1f, ln2_low = 0x1.0bfbe8p-15f;
  static constexpr float rounder = 0x1.8p23f, smallest = -87.33654f;  // ln 2⁻¹²⁶
  static constexpr std::uint32_t exponent_bias = 127;
  static constexpr int mantissa_bits = 23, degree = 7;
};
template <>
struct ExpConstants<double> {
  static constexpr double log2_e = 1.4426950408889634, ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
  static constexpr double rounder = 0x1.8p52, smallest = -708.3964185322641;  // ln 2⁻¹⁰²²
  static constexpr std::uint64_t exponent_bias = 1023;
  static constexpr int mantissa_bits = 52, degree = 13;
};

/// eˣ for x ≤ 0, the arguments of a softmax. Relative error below 2 units in the last place; results under the smallest
/// normal number are 0; −∞ gives 0 and NaN gives NaN.
///
/// x = k ln 2 + r with |r| ≤ ½ ln 2; eʳ by its Taylor series, cut where the rest is 5·10⁻⁹ (float) and 4·10⁻¹⁸ (double)
/// of it; times 2ᵏ through the exponent's bits. Adding `rounder` leaves k in the low bits of the sum.
template <class T>
inline Vector<T> exp_nonpositive(Vector<T> x) {
  using C = ExpConstants<T>;
  using Bits = typename VectorOf<T>::bits;
  const Vector<T> rounded = x * C::log2_e + C::rounder;
  const Vector<T> k = rounded - C::rounder;
  const Vector<T> r = (x - k * C::ln2_high) - k * C::ln2_low;
  constexpr auto coefficient = [](int power) {
    T factorial = 1;
    for (int f = 2; f <= power; ++f) factorial *= T(f);
    return T(1) / factorial;
  };
  Vector<T> y = all<T>(coefficient(C::degree));
#pragma GCC unroll 16
  for (int power = C::degree - 1; power >= 0; --power) y = y * r + coefficient(power);
  Bits bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  bits = (bits + C::exponent_bias) << C::mantissa_bits;
  Vector<T> power_of_two;
  std::memcpy(&power_of_two, &bits, sizeof bits);
  return x < C::smallest ? Vector<T>{} : y * power_of_two;
}

}  // namespace moleblend::simd
