#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>

#include "kernels/linear/linear.h"

namespace moleblend {
namespace {

/// One thread's product. fp32 by oneDNN's sgemm and not by a matmul primitive: as fast on these shapes (within 5 %), while a primitive
/// costs 0.3 ms to create for every new number of tokens, which nearly every batch has. Returns oneDNN's status.
dnnl_status_t one_product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
                          std::int64_t ldc) {
  return dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
}
dnnl_status_t one_product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                          const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c,
                          std::int64_t ldc) {
  tile_product(transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
  return dnnl_success;
}

/// C [m, n] = op(A) [m, k] · op(B) [k, n] + beta · C on all threads, dense: each thread does whole rows of C, or whole
/// columns where there are more of those.
template <class T>
void product(Cpu& cpu, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
             const T* b, T beta, T* c) {
  const std::int64_t lda = transpose_a ? m : k, ldb = transpose_b ? k : n;
  // Cuts on multiples of the register tiles' heights and widths.
  constexpr std::int64_t kCut = 48;
  std::atomic<int> status = dnnl_success;
  cpu.parallel([&](int thread) {
    const auto [begin, end] = even_part(std::max(m, n), cpu.threads(), thread, kCut);
    if (begin == end) return;
    const dnnl_status_t own =
        m >= n ? one_product(transpose_a, transpose_b, end - begin, n, k, a + begin * (transpose_a ? 1 : lda), lda, b,
                             ldb, beta, c + begin * n, n)
               : one_product(transpose_a, transpose_b, m, end - begin, k, a, lda, b + begin * (transpose_b ? ldb : 1),
                             ldb, beta, c + begin, n);
    if (own != dnnl_success) status = own;
  });
  if (status != dnnl_success) {
    throw std::runtime_error("matrix product " + std::to_string(m) + " x " + std::to_string(n) + " x " +
                             std::to_string(k) + ": oneDNN reports status " + std::to_string(status) +
                             " (1 is out of memory)");
  }
}

/// sum[j] += Σ_rows x[row, j]. Columns are shared out, rows go in order: the same bits for every number of threads.
/// Partial sums over 64 rows keep the rounding error of long float sums small.
template <class T>
void add_column_sums(Cpu& cpu, std::int64_t rows, std::int64_t columns, const T* x, T* sum) {
  constexpr std::int64_t kColumnBlock = 128, kRowBlock = 64;
  cpu.parallel([&](int thread) {
    const auto [begin, end] = even_part(columns, cpu.threads(), thread, 64 / static_cast<std::int64_t>(sizeof(T)));
    for (std::int64_t j0 = begin; j0 < end; j0 += kColumnBlock) {
      const std::int64_t width = std::min(kColumnBlock, end - j0);
      for (std::int64_t r0 = 0; r0 < rows; r0 += kRowBlock) {
        T partial[kColumnBlock] = {};
        for (std::int64_t r = r0; r < std::min(rows, r0 + kRowBlock); ++r) {
          const T* row = x + r * columns + j0;
          for (std::int64_t j = 0; j < width; ++j) partial[j] += row[j];
        }
        for (std::int64_t j = 0; j < width; ++j) sum[j0 + j] += partial[j];
      }
    }
  });
}

}  // namespace

template <class T>
void linear_forward(Cpu& cpu, const LinearForward<T>& a) {
  if (a.rows == 0 || a.out == 0) return;
  if (a.bias) {
    cpu.parallel([&](int thread) {
      const auto [begin, end] = even_part(a.rows, cpu.threads(), thread);
      for (std::int64_t r = begin; r < end; ++r) std::copy_n(a.bias, a.out, a.y + r * a.out);
    });
  }
  product(cpu, false, true, a.rows, a.out, a.in, a.x, a.weight, a.bias ? T(1) : T(0), a.y);
}

template <class T>
void linear_backward(Cpu& cpu, const LinearBackward<T>& a) {
  if (a.rows == 0) return;
  if (a.dx) product(cpu, false, false, a.rows, a.in, a.out, a.dy, a.weight, a.add_to_dx ? T(1) : T(0), a.dx);
  if (a.dweight) product(cpu, true, false, a.out, a.in, a.rows, a.dy, a.x, T(1), a.dweight);
  if (a.dbias) add_column_sums(cpu, a.rows, a.out, a.dy, a.dbias);
}

template void linear_forward(Cpu&, const LinearForward<float>&);
template void linear_forward(Cpu&, const LinearForward<double>&);
template void linear_backward(Cpu&, const LinearBackward<float>&);
template void linear_backward(Cpu&, const LinearBackward<double>&);

}  // namespace moleblend
