// Linear maps on the GPU: matrix products (products.h), and the sums over rows that the bias' gradient is.

#include "kernels/common/cuda/column_sums.h"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/linear/linear.h"
#include "kernels/linear/products.h"

namespace moleblend {
namespace {

using cuda::blocks_for;
using cuda::launch;

constexpr int kThreads = 256;

/// y [rows, columns]: the bias on every row.
template <class T>
__global__ void __launch_bounds__(kThreads) bias_rows(std::int64_t count, std::int64_t columns, const T* bias, T* y) {
  const std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (k < count) y[k] = bias[k % columns];
}

/// Maps with fewer outputs than fill 16 bytes of bf16 (read-outs of few tasks) start their product from the bias instead of adding it
/// in the product's epilogue, which libraries make for whole vectors of an output row.
constexpr std::int64_t kNarrow = 8;

}  // namespace

template <class T>
void linear_forward(Gpu& gpu, const LinearForward<T>& a) {
  if (a.rows == 0) return;
  const bool from_bias = a.bias && a.out < kNarrow;
  if (from_bias)
    launch(gpu, bias_rows<T>, blocks_for(a.rows * a.out, kThreads), kThreads, 0, a.rows * a.out, a.out, a.bias, a.y);
  product(gpu, Product<T, T>{.transpose_a = false,
                             .transpose_b = true,
                             .m = a.rows,
                             .n = a.out,
                             .k = a.in,
                             .a = a.x,
                             .lda = a.in,
                             .b = a.weight,
                             .ldb = a.in,
                             .beta = from_bias ? 1.0f : 0.0f,
                             .c = a.y,
                             .ldc = a.out,
                             .bias = from_bias ? nullptr : a.bias});
}

template <class T>
void linear_backward(Gpu& gpu, const LinearBackward<T>& a) {
  if (a.rows == 0) return;
  if (a.dx) {
    product(gpu, Product<T, T>{.transpose_a = false,
                               .transpose_b = false,
                               .m = a.rows,
                               .n = a.in,
                               .k = a.out,
                               .a = a.dy,
                               .lda = a.out,
                               .b = a.weight,
                               .ldb = a.in,
                               .beta = a.add_to_dx ? 1.0f : 0.0f,
                               .c = a.dx,
                               .ldc = a.in,
                               .bias = nullptr});
  }
  if (a.dweight) {
    product(gpu, Product<T, float>{.transpose_a = true,
                                   .transpose_b = false,
                                   .m = a.out,
                                   .n = a.in,
                                   .k = a.rows,
                                   .a = a.dy,
                                   .lda = a.out,
                                   .b = a.x,
                                   .ldb = a.in,
                                   .beta = 1,
                                   .c = a.dweight,
                                   .ldc = a.in,
                                   .bias = nullptr});
  }
  if (a.dbias) cuda::add_column_sums(gpu, a.rows, a.out, a.dy, a.dbias);
}

template void linear_forward(Gpu&, const LinearForward<float>&);
template void linear_forward(Gpu&, const LinearForward<bf16>&);
template void linear_backward(Gpu&, const LinearBackward<float>&);
template void linear_backward(Gpu&, const LinearBackward<bf16>&);

}  // namespace moleblend
