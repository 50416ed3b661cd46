#include "io/support/checksum_x86.h"

#include "io/support/sha256_rounds.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <zlib.h>

namespace moleblend::x86 {
namespace {

/// x^n modulo the polynomial of CRC-32, in its reflected form (bit 31 is x⁰) and times x, which a carry-less product of two reflected
/// numbers lacks.
constexpr long long power_of_x(int n) {
  std::uint32_t power = 0x80000000u;
  for (int k = 0; k < n; ++k) power = (power >> 1) ^ ((power & 1) != 0 ? 0xEDB88320u : 0);
  return static_cast<long long>(std::uint64_t{power} << 1);
}

/// What 16 bytes are worth `bits` later, modulo the polynomial: their lower half stands 64 bits before the upper one.
template <int bits>
[[gnu::target("pclmul")]] __m128i carried(__m128i x) {
  // Constants, so that no build calculates them: one without optimisation spent three quarters of its time there.
  constexpr long long upper = power_of_x(bits - 32), lower = power_of_x(bits + 32);
  const __m128i by = _mm_set_epi64x(upper, lower);
  return _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11));
}

__m128i load(const std::byte* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

}  // namespace

bool has_crc32() {
  return __builtin_cpu_supports("pclmul");
}

// Gopal and others, "Fast CRC computation for generic polynomials using PCLMULQDQ", Intel 2009: sixteen bytes further on count for what
// they are times a power of x, so the text is folded onto its end. The last bytes go through the table.
[[gnu::target("pclmul")]] std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t start) {
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size() - 64;
  __m128i a = _mm_xor_si128(load(at), _mm_cvtsi32_si128(static_cast<int>(~start))), b = load(at + 16),
          c = load(at + 32), d = load(at + 48);
  for (at += 64; left >= 64; at += 64, left -= 64) {
    a = _mm_xor_si128(carried<512>(a), load(at));
    b = _mm_xor_si128(carried<512>(b), load(at + 16));
    c = _mm_xor_si128(carried<512>(c), load(at + 32));
    d = _mm_xor_si128(carried<512>(d), load(at + 48));
  }
  b = _mm_xor_si128(carried<128>(a), b);
  c = _mm_xor_si128(carried<128>(b), c);
  d = _mm_xor_si128(carried<128>(c), d);
  for (; left >= 16; at += 16, left -= 16) d = _mm_xor_si128(carried<128>(d), load(at));
  alignas(16) Bytef last[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(last), d);
  // zlib inverts before and after: from all ones it starts with the zero that the folded bytes need.
  const auto folded = ::crc32_z(0xFFFFFFFFu, last, sizeof last);
  return static_cast<std::uint32_t>(left == 0 ? folded : ::crc32_z(folded, reinterpret_cast<const Bytef*>(at), left));
}

bool has_sha256() {
  // Bit 29 of EBX of leaf 7; __builtin_cpu_supports of some compilers does not know it.
  unsigned a = 7, b = 0, c = 0, d = 0;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return (b >> 29 & 1) != 0 && __builtin_cpu_supports("sse4.1");
}

// The instructions keep the state as (a, b, e, f) and (c, d, g, h), do two rounds at once and make four words of the schedule.
[[gnu::target("sha,sse4.1")]] void sha256_blocks(std::array<std::uint32_t, 8>& state, const std::byte* bytes,
                                                 std::size_t blocks) {
  const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  const auto word = [&](int k) { return static_cast<int>(state[static_cast<std::size_t>(k)]); };
  __m128i abef = _mm_set_epi32(word(0), word(1), word(4), word(5)),
          cdgh = _mm_set_epi32(word(2), word(3), word(6), word(7));
  for (; blocks > 0; --blocks, bytes += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];
    for (int k = 0; k < 4; ++k) w[k] = _mm_shuffle_epi8(load(bytes + 16 * k), big_endian);
#pragma GCC unroll 16
    for (int four = 0; four < 16; ++four) {
      __m128i& now = w[four % 4];
      if (four >= 4) {
        // W[t] = s1(W[t−2]) + W[t−7] + s0(W[t−15]) + W[t−16]
        const __m128i seven_before = _mm_alignr_epi8(w[(four + 3) % 4], w[(four + 2) % 4], 4);
        now = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(now, w[(four + 1) % 4]), seven_before),
                                   w[(four + 3) % 4]);
      }
      const __m128i sum = _mm_add_epi32(
          now, _mm_loadu_si128(reinterpret_cast<const __m128i*>(&kSha256Rounds[4 * static_cast<std::size_t>(four)])));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  alignas(16) std::uint32_t first[4], second[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(first), abef);
  _mm_store_si128(reinterpret_cast<__m128i*>(second), cdgh);
  state = {first[3], first[2], second[3], second[2], first[1], first[0], second[1], second[0]};
}

}  // namespace moleblend::x86

#else

namespace moleblend::x86 {

bool has_crc32() {
  return false;
}
bool has_sha256() {
  return false;
}
std::uint32_t crc32(std::span<const std::byte>, std::uint32_t) {
  return 0;
}
void sha256_blocks(std::array<std::uint32_t, 8>&, const std::byte*, std::size_t) {}

}  // namespace moleblend::x86

#endif
