#include <cstring>

#include "kernels/random/philox_blocks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/common/simd.h"
#include "kernels/common/wide.h"

namespace moleblend {
namespace {

using Lanes = simd::VectorOf<float>::bits;  // a counter word of eight blocks

/// High and low halves of a · m. Vector types have no product of 32 bits by 32 to 64, hence the one intrinsic.
inline void multiply(const Lanes& a, std::uint32_t m, Lanes& high, Lanes& low) {
#if defined(__AVX2__)
  const Lanes factor = Lanes{} + m, upper = __builtin_shufflevector(a, a, 1, 1, 3, 3, 5, 5, 7, 7);
  const auto even = (Lanes)_mm256_mul_epu32((__m256i)a, (__m256i)factor);
  const auto odd = (Lanes)_mm256_mul_epu32((__m256i)upper, (__m256i)factor);
  high = __builtin_shufflevector(even, odd, 1, 9, 3, 11, 5, 13, 7, 15);
  low = __builtin_shufflevector(even, odd, 0, 8, 2, 10, 4, 12, 6, 14);
#else
  for (int l = 0; l < 8; ++l) {
    const std::uint64_t product = std::uint64_t{a[l]} * m;
    high[l] = static_cast<std::uint32_t>(product >> 32);
    low[l] = static_cast<std::uint32_t>(product);
  }
#endif
}

/// words [32]: the words of eight blocks, block after block.
inline void store_blocks(const Lanes& c0, const Lanes& c1, const Lanes& c2, const Lanes& c3, std::uint32_t* words) {
  // Pairs of words, then whole blocks: 0 and 4, 1 and 5, 2 and 6, 3 and 7.
  const auto low01 = __builtin_shufflevector(c0, c1, 0, 8, 1, 9, 4, 12, 5, 13);
  const auto high01 = __builtin_shufflevector(c0, c1, 2, 10, 3, 11, 6, 14, 7, 15);
  const auto low23 = __builtin_shufflevector(c2, c3, 0, 8, 1, 9, 4, 12, 5, 13);
  const auto high23 = __builtin_shufflevector(c2, c3, 2, 10, 3, 11, 6, 14, 7, 15);
  const auto block04 = __builtin_shufflevector(low01, low23, 0, 1, 8, 9, 4, 5, 12, 13);
  const auto block15 = __builtin_shufflevector(low01, low23, 2, 3, 10, 11, 6, 7, 14, 15);
  const auto block26 = __builtin_shufflevector(high01, high23, 0, 1, 8, 9, 4, 5, 12, 13);
  const auto block37 = __builtin_shufflevector(high01, high23, 2, 3, 10, 11, 6, 7, 14, 15);
  const Lanes in_order[4] = {__builtin_shufflevector(block04, block15, 0, 1, 2, 3, 8, 9, 10, 11),
                             __builtin_shufflevector(block26, block37, 0, 1, 2, 3, 8, 9, 10, 11),
                             __builtin_shufflevector(block04, block15, 4, 5, 6, 7, 12, 13, 14, 15),
                             __builtin_shufflevector(block26, block37, 4, 5, 6, 7, 12, 13, 14, 15)};
  std::memcpy(words, in_order, sizeof in_order);
}

#if defined(__x86_64__)

using Lanes16 [[gnu::vector_size(64)]] = std::uint32_t;

// Both take references: what calls them is inlined into a function for AVX-512, but is none by itself.
MOLEBLEND_AVX512 inline void multiply(const Lanes16& a, std::uint32_t m, Lanes16& high, Lanes16& low) {
  const Lanes16 factor = Lanes16{} + m,
                upper = __builtin_shufflevector(a, a, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15);
  // With a mask of all lanes: g++ 12 warns of what the plain one is made of.
  const auto even = (Lanes16)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)factor);
  const auto odd = (Lanes16)_mm512_maskz_mul_epu32(0xFF, (__m512i)upper, (__m512i)factor);
  high = __builtin_shufflevector(even, odd, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
  low = __builtin_shufflevector(even, odd, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
}

/// Words [64] of sixteen blocks, block after block.
MOLEBLEND_AVX512 inline void store_blocks(const Lanes16& c0, const Lanes16& c1, const Lanes16& c2, const Lanes16& c3,
                                          std::uint32_t* words) {
  const auto low01 = __builtin_shufflevector(c0, c1, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const auto high01 = __builtin_shufflevector(c0, c1, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const auto low23 = __builtin_shufflevector(c2, c3, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const auto high23 = __builtin_shufflevector(c2, c3, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  // Whole blocks: k, k + 4, k + 8 and k + 12.
  const auto from0 = __builtin_shufflevector(low01, low23, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
  const auto from1 = __builtin_shufflevector(low01, low23, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  const auto from2 = __builtin_shufflevector(high01, high23, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
  const auto from3 =
      __builtin_shufflevector(high01, high23, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  // Two and two: 0, 1, 4, 5; 2, 3, 6, 7; and the same 8 further.
  const auto near01 = __builtin_shufflevector(from0, from1, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const auto near23 = __builtin_shufflevector(from2, from3, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const auto far01 =
      __builtin_shufflevector(from0, from1, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const auto far23 =
      __builtin_shufflevector(from2, from3, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const Lanes16 in_order[4] = {
      __builtin_shufflevector(near01, near23, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
      __builtin_shufflevector(near01, near23, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31),
      __builtin_shufflevector(far01, far23, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
      __builtin_shufflevector(far01, far23, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)};
  std::memcpy(words, in_order, sizeof in_order);
}

#endif

template <class L>
[[gnu::always_inline]] inline void draw_run(std::uint64_t key, std::uint32_t first_block, Draw purpose,
                                            std::uint32_t layer, std::uint32_t* words) {
  constexpr int kLanes = sizeof(L) / sizeof(std::uint32_t);
  constexpr int kGroups = 2;  // at a time, so that one's multiplications hide the other's latency
  static_assert(kPhiloxRun % (kGroups * kLanes) == 0);
  L index;
  for (std::uint32_t l = 0; l < kLanes; ++l) index[l] = l;
  for (int first = 0; first < kPhiloxRun; first += kGroups * kLanes) {
    L c0[kGroups], c1[kGroups], c2[kGroups], c3[kGroups];
    for (int g = 0; g < kGroups; ++g) {
      c0[g] = index + (first_block + static_cast<std::uint32_t>(first + g * kLanes));
      c1[g] = L{} + static_cast<std::uint32_t>(purpose);
      c2[g] = L{} + layer;
      c3[g] = L{};
    }
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 2
      for (int g = 0; g < kGroups; ++g) {
        L high0, low0, high1, low1;
        multiply(c0[g], 0xD2511F53u, high0, low0);
        multiply(c2[g], 0xCD9E8D57u, high1, low1);
        c0[g] = high1 ^ c1[g] ^ k0;
        c2[g] = high0 ^ c3[g] ^ k1;
        c1[g] = low1;
        c3[g] = low0;
      }
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    for (int g = 0; g < kGroups; ++g) store_blocks(c0[g], c1[g], c2[g], c3[g], words + 4 * (first + g * kLanes));
  }
}

#if defined(__x86_64__)
MOLEBLEND_AVX512 void draw_run_avx512(std::uint64_t key, std::uint32_t first_block, Draw purpose, std::uint32_t layer,
                                      std::uint32_t* words) {
  draw_run<Lanes16>(key, first_block, purpose, layer, words);
}
#endif

}  // namespace

void philox_run(std::uint64_t key, std::uint32_t first_block, Draw purpose, std::uint32_t layer, std::uint32_t* words) {
#if defined(__x86_64__)
  if (has_avx512()) return draw_run_avx512(key, first_block, purpose, layer, words);
#endif
  draw_run<Lanes>(key, first_block, purpose, layer, words);
}

}  // namespace moleblend
