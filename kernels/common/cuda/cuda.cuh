#pragma once
// The one header that kernels include for CUDA: the same names under nvcc and under the executor that runs kernels on the CPU
// (tests/cuda_on_cpu). All inline PTX of the program is here, each piece with a CPU twin.
//
// Rules that let one source serve both:
//   * launch() instead of <<<>>>; GPU_SHARED and GPU_DYNAMIC_SHARED instead of __shared__;
//   * _sync intrinsics with explicit masks; shuffles do not order memory, __syncwarp does;
//   * __syncthreads is one textual statement for all threads that live; named_barrier for specialised warps;
//   * no spin-waits between blocks, no branches on __CUDA_ARCH__.

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "kernels/common/gpu.h"
#include "kernels/common/precision.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
// GPU_SHARED(float, tile, [32][33]);  GPU_DYNAMIC_SHARED(bytes);
#define GPU_SHARED(T, name, ...) __shared__ T name __VA_ARGS__
#define GPU_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#else
#include "cuda_on_cpu.h"
#define GPU_SHARED(T, name, ...) auto& name = ::cuda_on_cpu::shared_ref<T __VA_ARGS__>([] {})
#define GPU_DYNAMIC_SHARED(name) unsigned char* const name = static_cast<unsigned char*>(::cuda_on_cpu::dyn_smem())
#endif

namespace moleblend::cuda {

/// Throws GpuError unless `error` is cudaSuccess.
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that the next operation does not meet it again
  throw GpuError(std::string(what) + ": " + cudaGetErrorString(error));
}

constexpr unsigned kFullWarp = 0xFFFFFFFFu;

#ifdef __CUDACC__

/// Queues kernel(args…). An empty grid is nothing to do.
template <class... P, class... A>
void launch(Gpu& gpu, void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, A&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "shared memory of a kernel");
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = gpu.stream();
  check(cudaLaunchKernelEx(&config, kernel, static_cast<A&&>(args)...), "launching a kernel");
}

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// d [16, 8] += a [16, 16] · b [16, 8]; fragments as in the PTX manual, mma.m16n8k16 with .bf16.
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                                  std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// Four 8 × 8 matrices of 16-bit values; lane l gives the address of row l % 8 of matrix l / 8, 16-byte aligned.
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
/// The 8 × 8 matrix of 16-bit values that a warp holds (lane l: row l / 4, columns 2 (l % 4) and the one after), transposed.
__device__ __forceinline__ std::uint32_t transpose_8x8(std::uint32_t x) {
  std::uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;\n" : "=r"(y) : "r"(x));
  return y;
}
/// 16 bytes from global to shared memory, asynchronously; bytes past `source_bytes` become zero.
__device__ __forceinline__ void copy_async_16(void* to, const void* from, int source_bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(source_bytes)
               : "memory");
}
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int Keep>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Keep) : "memory");
}
/// 16 bytes to global memory, surely in one transaction: of a store after products nvcc has been seen to make four.
__device__ __forceinline__ void store_16_bytes(void* to, const std::uint32_t (&word)[4]) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(word[0]),
               "r"(word[1]), "r"(word[2]), "r"(word[3])
               : "memory");
}
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}
/// 2^x within 2 units in the last place; what is below the least normal number becomes zero. An instruction, where exp2f takes four to keep
/// denormal numbers.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// The words of a · b. Of a 64-bit product of widened words nvcc forgets that their upper halves are zero, and adds those up too.
__device__ __forceinline__ void multiply_words(std::uint32_t a, std::uint32_t b, std::uint32_t& low,
                                               std::uint32_t& high) {
  asm("{ .reg .b64 product; mul.wide.u32 product, %2, %3; mov.b64 {%0, %1}, product; }"
      : "=r"(low), "=r"(high)
      : "r"(a), "r"(b));
}
__device__ __forceinline__ bf16 round_to_bf16(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
/// Two values in one word, `low` in the low half.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&v);
}

#else

template <class... P, class... A>
void launch(Gpu& gpu, void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, A&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  check(cuda_on_cpu::launch(kernel, grid, block, shared_bytes, gpu.stream(), static_cast<A&&>(args)...), "a kernel");
}

inline void mma_m16n8k16_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                              CUDA_ON_CPU_SITE) {
  cuda_on_cpu::mma_m16n8k16_bf16(d, a, b0, b1, CUDA_ON_CPU_HERE);
}
inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::ldmatrix<false>(r, row, CUDA_ON_CPU_HERE);
}
inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::ldmatrix<true>(r, row, CUDA_ON_CPU_HERE);
}
inline std::uint32_t transpose_8x8(std::uint32_t x, CUDA_ON_CPU_SITE) {
  return cuda_on_cpu::movmatrix(x, CUDA_ON_CPU_HERE);
}
inline void copy_async_16(void* to, const void* from, int source_bytes = 16, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::cp_async(to, from, 16, source_bytes, CUDA_ON_CPU_HERE);
}
inline void copy_async_commit() {
  cuda_on_cpu::cp_async_commit();
}
template <int Keep>
void copy_async_wait() {
  cuda_on_cpu::cp_async_wait(Keep);
}
inline void store_16_bytes(void* to, const std::uint32_t (&word)[4]) {
  struct alignas(16) Bytes {
    std::uint32_t word[4];
  };
  *static_cast<Bytes*>(to) = {{word[0], word[1], word[2], word[3]}};  // as a whole, so that sanitizers see misalignment
}
inline void named_barrier(int id, int threads, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::sync_block(static_cast<unsigned>(id), threads, CUDA_ON_CPU_HERE);
}
inline float exp2_fast(float x) {
  const float y = std::exp2(x);
  return y < std::numeric_limits<float>::min() ? 0.0f : y;  // NaN stays
}
inline void multiply_words(std::uint32_t a, std::uint32_t b, std::uint32_t& low, std::uint32_t& high) {
  const std::uint64_t product = std::uint64_t{a} * b;
  low = static_cast<std::uint32_t>(product);
  high = static_cast<std::uint32_t>(product >> 32);
}
inline bf16 round_to_bf16(float x) {
  return to_bf16(x);
}
inline std::uint32_t pack_bf16(float low, float high) {
  return to_bf16(low).bits | std::uint32_t{to_bf16(high).bits} << 16;
}

#endif

constexpr float kLog2E = 1.44269504f;
/// exp(x) within 2 + 1.2 |x| units in the last place; what is below the least normal number becomes zero.
__device__ __forceinline__ float exp_fast(float x) {
  return exp2_fast(x * kLog2E);
}

/// From float to what is stored.
template <class T>
__device__ __forceinline__ T store_as(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 store_as<bf16>(float x) {
  return round_to_bf16(x);
}

/// N neighbouring values as they lie in memory. A pointer to one is aligned to it, so that it moves in one transaction of at most 16 bytes
/// (or two).
template <int N, class T>
struct alignas(N * sizeof(T)) Piece {
  T value[N];

  __device__ __forceinline__ Piece() {
#pragma unroll
    for (int k = 0; k < N; ++k) value[k] = T{};
  }
  __device__ __forceinline__ explicit Piece(const float (&x)[N]) {
#pragma unroll
    for (int k = 0; k < N; ++k) value[k] = store_as<T>(x[k]);
  }
  __device__ __forceinline__ float operator[](int k) const {
    return to_float(value[k]);
  }
};
/// In words of two, the first in the lower half: of members of 16 bits nvcc makes stores of 16 bits, and takes two instructions to widen one.
template <int N>
requires(N % 2 == 0) struct alignas(N * sizeof(bf16)) Piece<N, bf16> {
  std::uint32_t word[N / 2];

  __device__ __forceinline__ Piece() {
#pragma unroll
    for (int k = 0; k < N / 2; ++k) word[k] = 0;
  }
  __device__ __forceinline__ explicit Piece(const float (&x)[N]) {
#pragma unroll
    for (int k = 0; k < N / 2; ++k) word[k] = pack_bf16(x[2 * k], x[2 * k + 1]);
  }
  __device__ __forceinline__ float operator[](int k) const {
    return __uint_as_float(k % 2 == 0 ? word[k / 2] << 16 : word[k / 2] & 0xFFFF0000u);
  }
};
template <int N, class T>
__device__ __forceinline__ void load(const T* p, float (&x)[N]) {
  const auto piece = *reinterpret_cast<const Piece<N, T>*>(p);
#pragma unroll
  for (int k = 0; k < N; ++k) x[k] = piece[k];
}
template <int N, class T>
__device__ __forceinline__ void store(T* p, const float (&x)[N]) {
  *reinterpret_cast<Piece<N, T>*>(p) = Piece<N, T>(x);
}

// Reductions over a warp, the same result on every lane, always in the same order.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, step));
  return x;
}

/// ⌈count / per⌉ as a grid dimension.
inline unsigned blocks_for(std::int64_t count, std::int64_t per) {
  return static_cast<unsigned>((count + per - 1) / per);
}

}  // namespace moleblend::cuda
