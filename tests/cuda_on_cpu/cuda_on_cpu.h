#pragma once
// CUDA C++ for the host compiler: what kernels call, with the meaning it has on a GPU. Kernels include it through
// kernels/common/cuda/cuda.cuh, and only where the compiler is not nvcc; runtime.h says how they are run.
//
// An intrinsic that is missing here is a compile error: add it with its exact meaning.
#ifdef __CUDACC__
#error "cuda_on_cpu.h is for host compilers; nvcc has the real thing"
#endif

// CUDA's own headers come before the macros below.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <device_launch_parameters.h>

#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "runtime.h"

#define threadIdx (::cuda_on_cpu::self().tid)
#define blockIdx (::cuda_on_cpu::block_view().bid)
#define blockDim (::cuda_on_cpu::block_view().bdim)
#define gridDim (::cuda_on_cpu::block_view().gdim)
#define warpSize 32
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __cluster_dims__
#define __cluster_dims__(...)
#undef __shared__
// It works, one block at a time being on a host thread; but no bounds are checked: GPU_SHARED is better.
#define __shared__ thread_local

// Last parameter of what threads meet in, and its value.
#define CUDA_ON_CPU_SITE int line_ = __builtin_LINE(), const char *file_ = __builtin_FILE()
#define CUDA_ON_CPU_HERE \
  ::cuda_on_cpu::Site {  \
    file_, line_         \
  }

// ---- barriers -----------------------------------------------------------------------------------
inline void __syncthreads(CUDA_ON_CPU_SITE) {
  cuda_on_cpu::sync_block(0, -1, CUDA_ON_CPU_HERE);
}
inline int __syncthreads_count(int predicate, CUDA_ON_CPU_SITE) {
  return cuda_on_cpu::sync_block_reduce(predicate, 0, CUDA_ON_CPU_HERE);
}
inline int __syncthreads_and(int predicate, CUDA_ON_CPU_SITE) {
  return cuda_on_cpu::sync_block_reduce(predicate, 1, CUDA_ON_CPU_HERE);
}
inline int __syncthreads_or(int predicate, CUDA_ON_CPU_SITE) {
  return cuda_on_cpu::sync_block_reduce(predicate, 2, CUDA_ON_CPU_HERE);
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::sync_warp(mask, CUDA_ON_CPU_HERE);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// ---- warp-wide operations -----------------------------------------------------------------------
namespace cuda_on_cpu {

/// The value of lane `source`.
template <class T>
T shfl(unsigned mask, T value, int source, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "shuffles move values of at most 8 bytes");
  Collective* c = warp_arrive(mask, kShfl, &value, sizeof(T), nullptr, site);
  T result;
  if (!warp_read(c, source, &result, sizeof(T)))
    fail("shuffle reads a lane that is not in the mask or has exited", site);
  warp_leave(c);
  return result;
}

/// combine() over the lanes, lowest first.
template <class T, class F>
T reduce(unsigned mask, T value, Site site, F combine) {
  Collective* c = warp_arrive(mask, kReduce, &value, sizeof(T), nullptr, site);
  bool first = true;
  T result{}, x{};
  for (int lane = 0; lane < 32; ++lane) {
    if (!warp_read(c, lane, &x, sizeof x)) continue;
    result = first ? x : combine(result, x);
    first = false;
  }
  warp_leave(c);
  return result;
}

/// Four 8 × 8 matrices of 16-bit values; lane l gives the address of row l % 8 of matrix l / 8.
template <bool Transpose>
void ldmatrix(std::uint32_t (&r)[4], const void* row, Site site) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) fail("ldmatrix row address is not 16-byte aligned", site);
  Collective* c = warp_arrive(0xFFFFFFFFu, kLdmatrix, &row, sizeof row, nullptr, site);
  if (warp_present(c) != 0xFFFFFFFFu) fail("ldmatrix needs all 32 lanes", site);
  const int lane = static_cast<int>(self().lane);
  for (int matrix = 0; matrix < 4; ++matrix) {
    if (Transpose) {
      std::uint32_t word = 0;
      for (int half = 0; half < 2; ++half) {
        const std::uint16_t* p;
        warp_read(c, matrix * 8 + lane % 4 * 2 + half, &p, sizeof p);
        word |= std::uint32_t{p[lane / 4]} << (16 * half);
      }
      r[matrix] = word;
    } else {
      const std::uint32_t* p;
      warp_read(c, matrix * 8 + lane / 4, &p, sizeof p);
      r[matrix] = p[lane % 4];
    }
  }
  warp_leave(c);
}

/// Transposes an 8 × 8 matrix of 16-bit values, of which every lane holds two neighbours in one word.
inline std::uint32_t movmatrix(std::uint32_t x, Site site) {
  Collective* c = warp_arrive(0xFFFFFFFFu, kMovmatrix, &x, sizeof x, nullptr, site);
  if (warp_present(c) != 0xFFFFFFFFu) fail("movmatrix needs all 32 lanes", site);
  const int row = static_cast<int>(self().lane) / 4, column = static_cast<int>(self().lane) % 4 * 2;
  std::uint32_t result = 0;
  for (int half = 0; half < 2; ++half) {
    std::uint32_t word;
    warp_read(c, (column + half) * 4 + row / 2, &word, sizeof word);
    result |= (word >> (16 * (row % 2)) & 0xFFFFu) << (16 * half);
  }
  warp_leave(c);
  return result;
}

}  // namespace cuda_on_cpu

// `width` (a power of two) cuts the warp into segments; a source outside of the lane's own segment is the lane itself.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDA_ON_CPU_SITE) {
  const int lane = static_cast<int>(cuda_on_cpu::self().lane), segment = lane & ~(width - 1);
  return cuda_on_cpu::shfl(mask, value, segment | (source & (width - 1)), CUDA_ON_CPU_HERE);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CUDA_ON_CPU_SITE) {
  const int lane = static_cast<int>(cuda_on_cpu::self().lane), segment = lane & ~(width - 1), source = lane ^ bits;
  return cuda_on_cpu::shfl(mask, value, source < segment + width ? source : lane, CUDA_ON_CPU_HERE);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, CUDA_ON_CPU_SITE) {
  const int lane = static_cast<int>(cuda_on_cpu::self().lane), segment = lane & ~(width - 1);
  const int source = lane - static_cast<int>(distance);
  return cuda_on_cpu::shfl(mask, value, source >= segment ? source : lane, CUDA_ON_CPU_HERE);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, CUDA_ON_CPU_SITE) {
  const int lane = static_cast<int>(cuda_on_cpu::self().lane), segment = lane & ~(width - 1);
  const int source = lane + static_cast<int>(distance);
  return cuda_on_cpu::shfl(mask, value, source < segment + width ? source : lane, CUDA_ON_CPU_HERE);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_ON_CPU_SITE) {
  return cuda_on_cpu::ballot(mask, predicate, CUDA_ON_CPU_HERE, nullptr);
}
inline int __any_sync(unsigned mask, int predicate, CUDA_ON_CPU_SITE) {
  return cuda_on_cpu::ballot(mask, predicate, CUDA_ON_CPU_HERE, nullptr) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_ON_CPU_SITE) {
  unsigned active;
  const unsigned votes = cuda_on_cpu::ballot(mask, predicate, CUDA_ON_CPU_HERE, &active);
  return votes == active;
}
template <class T>
T __reduce_add_sync(unsigned mask, T value, CUDA_ON_CPU_SITE) {
  return cuda_on_cpu::reduce(mask, value, CUDA_ON_CPU_HERE, [](T a, T b) { return T(a + b); });
}
template <class T>
T __reduce_max_sync(unsigned mask, T value, CUDA_ON_CPU_SITE) {
  return cuda_on_cpu::reduce(mask, value, CUDA_ON_CPU_HERE, [](T a, T b) { return a > b ? a : b; });
}
template <class T>
T __reduce_min_sync(unsigned mask, T value, CUDA_ON_CPU_SITE) {
  return cuda_on_cpu::reduce(mask, value, CUDA_ON_CPU_HERE, [](T a, T b) { return a < b ? a : b; });
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::Collective* c =
      cuda_on_cpu::warp_arrive(mask, cuda_on_cpu::kMatch, &value, sizeof value, nullptr, CUDA_ON_CPU_HERE);
  unsigned matches = 0;
  T x{};
  for (int lane = 0; lane < 32; ++lane) {
    if (cuda_on_cpu::warp_read(c, lane, &x, sizeof x) && x == value) matches |= 1u << lane;
  }
  cuda_on_cpu::warp_leave(c);
  return matches;
}

// ---- atomics ------------------------------------------------------------------------------------
namespace cuda_on_cpu {
/// *p = f(*p) at once, for any T of 2, 4 or 8 bytes; returns the former value.
template <class T, class F>
T atomic_update(T* p, F f) {
  using Word = std::conditional_t<sizeof(T) == 2, std::uint16_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;
  static_assert(sizeof(T) == sizeof(Word));
  Word* word = reinterpret_cast<Word*>(p);
  Word old_word = __atomic_load_n(word, __ATOMIC_RELAXED);
  for (;;) {
    T old_value;
    __builtin_memcpy(static_cast<void*>(&old_value), &old_word, sizeof old_value);
    const T new_value = f(old_value);
    Word new_word;
    __builtin_memcpy(&new_word, &new_value, sizeof new_word);
    if (__atomic_compare_exchange_n(word, &old_word, new_word, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return old_value;
  }
}
}  // namespace cuda_on_cpu

template <class T, class V>
T atomicAdd(T* p, V v) {
  return cuda_on_cpu::atomic_update(p, [v](T old) { return T(old + T(v)); });
}
inline __nv_bfloat162 atomicAdd(__nv_bfloat162* p, __nv_bfloat162 v) {
  return cuda_on_cpu::atomic_update(p, [v](__nv_bfloat162 old) { return __hadd2(old, v); });
}
template <class T, class V>
T atomicSub(T* p, V v) {
  return cuda_on_cpu::atomic_update(p, [v](T old) { return T(old - T(v)); });
}
template <class T, class V>
T atomicMax(T* p, V v) {
  return cuda_on_cpu::atomic_update(p, [v](T old) { return old > T(v) ? old : T(v); });
}
template <class T, class V>
T atomicMin(T* p, V v) {
  return cuda_on_cpu::atomic_update(p, [v](T old) { return old < T(v) ? old : T(v); });
}
template <class T, class V>
T atomicOr(T* p, V v) {
  return cuda_on_cpu::atomic_update(p, [v](T old) { return T(old | T(v)); });
}
template <class T, class V>
T atomicAnd(T* p, V v) {
  return cuda_on_cpu::atomic_update(p, [v](T old) { return T(old & T(v)); });
}
template <class T, class V>
T atomicExch(T* p, V v) {
  return cuda_on_cpu::atomic_update(p, [v](T) { return T(v); });
}
template <class T, class C, class V>
T atomicCAS(T* p, C expected, V v) {
  return cuda_on_cpu::atomic_update(p, [expected, v](T old) { return old == T(expected) ? T(v) : old; });
}

// ---- mathematics --------------------------------------------------------------------------------
// Those with two underscores are less accurate on a GPU.
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __logf(float x) {
  return std::log(x);
}
inline float __log2f(float x) {
  return std::log2(x);
}
inline float __sinf(float x) {
  return std::sin(x);
}
inline float __cosf(float x) {
  return std::cos(x);
}
inline float __powf(float x, float y) {
  return std::pow(x, y);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __frcp_rn(float a) {
  return 1.0f / a;
}
inline float __fsqrt_rn(float a) {
  return std::sqrt(a);
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __saturatef(float x) {
  return x > 0 ? (x < 1 ? x : 1) : 0;  // NaN becomes 0
}
inline int __float2int_rn(float x) {
  return static_cast<int>(std::nearbyint(x));
}
inline int __float2int_rd(float x) {
  return static_cast<int>(std::floor(x));
}
inline float __int2float_rn(int x) {
  return static_cast<float>(x);
}
template <class T>
constexpr std::enable_if_t<std::is_arithmetic_v<T>, T> min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr std::enable_if_t<std::is_arithmetic_v<T>, T> max(T a, T b) {
  return a < b ? b : a;
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  const float2 x = __bfloat1622float2(a), y = __bfloat1622float2(b), z = __bfloat1622float2(c);
  return __floats2bfloat162_rn(std::fma(x.x, y.x, z.x), std::fma(x.y, y.y, z.y));
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __float2bfloat16(std::fma(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c)));
}

// ---- bits ---------------------------------------------------------------------------------------
namespace cuda_on_cpu {
template <class To, class From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace cuda_on_cpu
inline int __float_as_int(float x) {
  return cuda_on_cpu::bits_as<int>(x);
}
inline unsigned __float_as_uint(float x) {
  return cuda_on_cpu::bits_as<unsigned>(x);
}
inline float __int_as_float(int x) {
  return cuda_on_cpu::bits_as<float>(x);
}
inline float __uint_as_float(unsigned x) {
  return cuda_on_cpu::bits_as<float>(x);
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __clz(int x) {
  return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((std::uint64_t{a} * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}

// ---- loads and stores with a hint for the caches -------------------------------------------------
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T v) {
  *p = v;
}
template <class T>
void __stcg(T* p, T v) {
  *p = v;
}

#define __trap() ::cuda_on_cpu::fail("__trap()", ::cuda_on_cpu::Site{__FILE__, __LINE__})
