#pragma once
// Linear maps: y = x · Wᵀ + b, and their gradients. rows >= 0; in, out > 0.
//
// CPU: products by dense_product_cpu.h, about as fast as oneDNN's on the models' shapes, and with the bias and its gradient on the way. The same
// bits for every number of threads, and for every instruction set that has fma. A Cpu with bf16_products rounds operands of float to bf16
// (what is smaller than the smallest normal number becomes zero) and sums in float.
// GPU: fp32 and bf16 by cuBLASLt, sums in float and never TF32. Deterministic for the same kind of GPU and version of cuBLASLt. A bias
// begins at a multiple of 16 bytes.

#include <type_traits>

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/precision.h"

namespace moleblend {

/// y [rows, out] = x [rows, in] · weightᵀ + bias. All row-major and dense.
template <class T>
struct LinearForward {
  std::int64_t rows, in, out;
  const T* x;       // [rows, in]
  const T* weight;  // [out, in]
  const T* bias;    // [out], or null
  T* y;             // [rows, out]; overwritten
};
template <class T>
void linear_forward(Cpu& cpu, const LinearForward<T>& a);
template <class T>
void linear_forward(Gpu& gpu, const LinearForward<T>& a);

/// dx = dy · weight (overwritten, or added to); dweight += dyᵀ · x; dbias += Σ_rows dy. A null output is not computed, and what only it
/// needs is not read.
template <class T>
struct LinearBackward {
  std::int64_t rows, in, out;
  const T* x;       // [rows, in]
  const T* weight;  // [out, in]
  const T* dy;      // [rows, out]
  T* dx;            // [rows, in], or null
  bool add_to_dx;
  Wide<T>* dweight;  // [out, in], or null; added to
  Wide<T>* dbias;    // [out], or null; added to
};
template <class T>
void linear_backward(Cpu& cpu, const LinearBackward<T>& a);
template <class T>
void linear_backward(Gpu& gpu, const LinearBackward<T>& a);

/// Whether dbias comes on the way of dweight. Where it does not, dy is read once more for it: then whoever makes dy had better sum it, while
/// it is in registers (ResidualNormBackward::dbranch_sum, GeluBackward::dx_sum).
template <class Device>
inline constexpr bool kBiasGradientOnTheWay = !std::is_same_v<Device, Gpu>;

/// One thread's product, for tiles inside an operation: C [m, n] = op(A) [m, k] · op(B) [k, n] + beta · C, row-major with leading
/// dimensions; op transposes when the flag is set. Call it inside Cpu::parallel().
template <class T>
void tile_product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
                  std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc);

}  // namespace moleblend
