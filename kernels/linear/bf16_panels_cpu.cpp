// Panels of bf16 and their kernel, for processors with AVX512-BF16. An instruction there multiplies a pair of bf16 with a pair and adds both
// products to a float.

#include <stdexcept>

#include "kernels/linear/panels_cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
// The rest of the program is compiled for older processors. A lambda would not inherit it.
#define MOLEBLEND_BF16 [[gnu::target("avx512f,avx512bw,avx512vl,avx512bf16")]]
#endif

namespace moleblend::panels {

#if defined(__x86_64__)

namespace {

constexpr int kTileRows = 12, kTileVectors = 2;
constexpr int kLanes = 16;  // floats, or pairs of bf16, of a vector
using Pairs [[gnu::vector_size(64)]] = std::int32_t;

/// The first `count` lanes.
std::uint16_t first(std::int64_t count) {
  return static_cast<std::uint16_t>(count >= kLanes ? 0xFFFF : count <= 0 ? 0 : (1u << count) - 1);
}

/// 32 floats, rounded: those of `low` first. Numbers below the smallest normal one become zero.
MOLEBLEND_BF16 inline Pairs rounded(__m512 low, __m512 high) {
  return (Pairs)_mm512_cvtne2ps_pbh(high, low);
}

/// Up to 32 floats at p, rounded, zeros after them.
MOLEBLEND_BF16 inline Pairs load_rounded(const float* p, std::int64_t count) {
  if (count >= 2 * kLanes) return rounded(_mm512_loadu_ps(p), _mm512_loadu_ps(p + kLanes));
  return rounded(_mm512_maskz_loadu_ps(first(count), p), _mm512_maskz_loadu_ps(first(count - kLanes), p + kLanes));
}

/// r[i] lane j <-> r[j] lane i, lanes of 32 bits.
MOLEBLEND_BF16 inline void transpose(Pairs (&r)[kLanes]) {
  // Squares of 1, 2, 4 and 8 lanes: the one above the diagonal changes places with the one below.
  Pairs t[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += i % 2 == 0 ? 1 : 3) {
    r[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    r[i + 2] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += i % 4 == 3 ? 5 : 1) {
    t[i] = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    t[i + 4] = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes / 2; ++i) {
    r[i] = __builtin_shufflevector(t[i], t[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    r[i + 8] = __builtin_shufflevector(t[i], t[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
}

/// pack() where a row of the panel's lies along memory.
MOLEBLEND_BF16 void pack_along_depth(const View<float>& v, std::int64_t count, std::int64_t depth, std::int64_t width,
                                     bf16* out) {
  const std::int64_t pairs = panel_depth<bf16>(depth) / 2;
  for (std::int64_t panel = 0; panel < count; panel += width, out += 2 * pairs * width) {
    for (std::int64_t pair = 0; pair < pairs; pair += kLanes) {
      for (std::int64_t r = 0; r < width; r += kLanes) {
        Pairs block[kLanes];
#pragma GCC unroll 16
        for (int k = 0; k < kLanes; ++k) {
          const bool there = r + k < width && panel + r + k < count;
          const float* row = v.data + (panel + r + k) * v.row + 2 * pair;
          __builtin_prefetch(row + 4 * kLanes);
          __builtin_prefetch(row + 5 * kLanes);
          block[k] = there ? load_rounded(v.data + (panel + r + k) * v.row + 2 * pair, depth - 2 * pair) : Pairs{};
        }
        transpose(block);
        for (int k = 0; k < std::min<std::int64_t>(kLanes, pairs - pair); ++k)
          _mm512_mask_storeu_epi32(out + 2 * ((pair + k) * width + r), first(width - r), (__m512i)block[k]);
      }
    }
  }
}

/// pack() where what lies side by side in the panel does so in memory. Several panels go together, so that the lines they share are
/// read once.
template <bool summed>
MOLEBLEND_BF16 void pack_across(const View<float>& v, std::int64_t count, std::int64_t depth, std::int64_t width,
                                bf16* out, float* sums) {
  constexpr std::int64_t kPanels = 32, kPairsAhead = 8;
  const std::int64_t pairs = panel_depth<bf16>(depth) / 2, vectors = (width + kLanes - 1) / kLanes;
  alignas(64) std::uint16_t order[32];  // 0, 16, 1, 17, …
  for (std::uint16_t k = 0; k < 32; ++k) order[k] = static_cast<std::uint16_t>(k / 2 + 16 * (k % 2));
  const __m512i in_pairs = _mm512_load_si512(order);
  for (std::int64_t group = 0; group < count; group += kPanels * width) {
    const std::int64_t end = std::min(count, group + kPanels * width);
    for (std::int64_t start = 0; start < pairs; start += kSumRows / 2) {
      __m512 partial[2 * kPanels];
      if (summed)
        for (__m512& sum : partial) sum = _mm512_setzero_ps();
      for (std::int64_t pair = start; pair < std::min(pairs, start + kSumRows / 2); ++pair) {
        const float *even = v.data + 2 * pair * v.column, *odd = even + v.column;
        const bool last = 2 * pair + 1 == depth;  // of an odd depth: nothing to pair it with
        __m512* sum = partial;
        for (std::int64_t panel = group; panel < end; panel += width) {
          bf16* to = out + 2 * (panel * pairs + pair * width);
          for (std::int64_t r = 0; r < width; r += kLanes) {
            __builtin_prefetch(even + panel + r + 2 * kPairsAhead * v.column);
            __builtin_prefetch(odd + panel + r + 2 * kPairsAhead * v.column);
            const __mmask16 there = first(std::min(width - r, end - panel - r));
            const __m512 low = _mm512_maskz_loadu_ps(there, even + panel + r),
                         high = last ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(there, odd + panel + r);
            const __m512i both = _mm512_permutexvar_epi16(in_pairs, (__m512i)rounded(low, high));
            _mm512_mask_storeu_epi32(to + 2 * r, first(width - r), both);
            if (summed) *sum = _mm512_add_ps(*sum, _mm512_add_ps(low, high));
            ++sum;
          }
        }
      }
      if (!summed) continue;
      for (std::int64_t panel = group, at = 0; panel < end; panel += width, at += vectors) {
        for (std::int64_t k = 0; k < vectors; ++k) {
          float* to = sums + panel + k * kLanes;
          const __mmask16 there = first(std::min(width - k * kLanes, end - panel - k * kLanes));
          _mm512_mask_storeu_ps(to, there, _mm512_add_ps(_mm512_maskz_loadu_ps(there, to), partial[at + k]));
        }
      }
    }
  }
}

MOLEBLEND_BF16 void multiply_bf16(std::int64_t depth, const View<bf16>& view, const bf16* b, const Start<float>& start,
                                  float* c, std::int64_t ldc) {
  // C is wanted after the loop, which is about as long as fetching it from memory takes.
  for (int i = 0; i < kTileRows; ++i) {
    __builtin_prefetch(c + i * ldc, 1);
    __builtin_prefetch(c + i * ldc + kTileVectors * kLanes - 1, 1);
  }
  __m512 sum[kTileRows][kTileVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) sum[i][v] = _mm512_setzero_ps();
  }
  const bf16* a = view.data;
  const std::int64_t row = view.row, step = view.column;
  for (std::int64_t p = 0; p < depth; p += 2) {
    __m512bh column[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) column[v] = (__m512bh)_mm512_loadu_si512(b + 2 * v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      std::int32_t pair;
      __builtin_memcpy(&pair, a + i * row, sizeof pair);
      const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) sum[i][v] = _mm512_dpbf16_ps(sum[i][v], both, column[v]);
    }
    a += step;
    b += 2 * kTileVectors * kLanes;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      float* out = c + i * ldc + v * kLanes;
      __m512 value = sum[i][v];
      if (start.row)
        value = _mm512_add_ps(value, _mm512_loadu_ps(start.row + v * kLanes));
      else if (start.beta != 0)
        value = _mm512_fmadd_ps(_mm512_set1_ps(start.beta), _mm512_loadu_ps(out), value);
      _mm512_storeu_ps(out, value);
    }
  }
}

MOLEBLEND_BF16 void round_rows_bf16(const View<float>& v, std::int64_t count, std::int64_t depth, bf16* out) {
  const std::int64_t stride = panel_depth<bf16>(depth);
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t p = 0; p < depth; p += 2 * kLanes) {
      // Rows may be longer than what is taken of them: the processor does not find the next one by itself.
      __builtin_prefetch(v.data + (i + 1) * v.row + p);
      __builtin_prefetch(v.data + (i + 1) * v.row + p + kLanes);
      _mm512_mask_storeu_epi32(out + i * stride + p, first((stride - p) / 2),
                               (__m512i)load_rounded(v.data + i * v.row + p, depth - p));
    }
  }
}

}  // namespace

template <>
const Kernel<bf16>& kernel() {
  static const Kernel<bf16> only{kTileRows, kTileVectors * kLanes, multiply_bf16};
  return only;
}
template <>
void pack(const View<float>& v, std::int64_t count, std::int64_t depth, std::int64_t width, bf16* out, float* sums) {
  if (v.row != 1)
    pack_along_depth(v, count, depth, width, out);
  else if (sums)
    pack_across<true>(v, count, depth, width, out, sums);
  else
    pack_across<false>(v, count, depth, width, out, sums);
}
void round_rows(const View<float>& v, std::int64_t count, std::int64_t depth, std::int64_t out_rows, bf16* out) {
  round_rows_bf16(v, count, depth, out);
  const std::int64_t stride = panel_depth<bf16>(depth);
  std::fill(out + count * stride, out + out_rows * stride, bf16{});
}

#else

namespace {
[[noreturn]] void nothing_here() {
  throw std::logic_error("this processor has no products of bf16; ask has_bf16_products() first");
}
}  // namespace

template <>
const Kernel<bf16>& kernel() {
  nothing_here();
}
template <>
void pack(const View<float>&, std::int64_t, std::int64_t, std::int64_t, bf16*, float*) {
  nothing_here();
}
void round_rows(const View<float>&, std::int64_t, std::int64_t, std::int64_t, bf16*) {
  nothing_here();
}

#endif

}  // namespace moleblend::panels
