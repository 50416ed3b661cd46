#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/linear/linear.h"

#if defined(_OPENMP)
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#endif

namespace moleblend {
namespace {

/// C [m, n] = op(A) [m, k] · op(B) [k, n] + beta · C on all threads, dense: each thread does whole rows of C, or whole
/// columns where there are more of those.
template <class T>
void threaded_tiles(Cpu& cpu, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                    const T* a, const T* b, T beta, T* c) {
  const std::int64_t lda = transpose_a ? m : k, ldb = transpose_b ? k : n;
  // Cuts on multiples of every register tile's height and width.
  constexpr std::int64_t kCut = 96;
  cpu.parallel([&](int thread) {
    if (m >= n) {
      const auto [begin, end] = even_part(m, cpu.threads(), thread, kCut);
      const T* part = a + begin * (transpose_a ? 1 : lda);
      tile_product(transpose_a, transpose_b, end - begin, n, k, part, lda, b, ldb, beta, c + begin * n, n);
    } else {
      const auto [begin, end] = even_part(n, cpu.threads(), thread, kCut);
      const T* part = b + begin * (transpose_b ? ldb : 1);
      tile_product(transpose_a, transpose_b, m, end - begin, k, a, lda, part, ldb, beta, c + begin, n);
    }
  });
}

void product(Cpu& cpu, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
             const double* a, const double* b, double beta, double* c) {
  threaded_tiles(cpu, transpose_a, transpose_b, m, n, k, a, b, beta, c);
}

#if defined(_OPENMP)
/// oneDNN takes OpenMP's thread count; the caller's own setting is put back.
class OneDnnThreads {
 public:
  explicit OneDnnThreads(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~OneDnnThreads() { omp_set_num_threads(before_); }
  OneDnnThreads(const OneDnnThreads&) = delete;
  OneDnnThreads& operator=(const OneDnnThreads&) = delete;

 private:
  int before_;
};

/// sgemm and not a matmul primitive: as fast on these shapes (within 5 %), while a primitive costs 0.3 ms to create for
/// every new number of tokens, which nearly every batch has.
void product(Cpu& cpu, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
             const float* a, const float* b, float beta, float* c) {
  const OneDnnThreads threads(cpu.threads());
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1.0f, a,
                                          transpose_a ? m : k, b, transpose_b ? k : n, beta, c, n);
  if (status != dnnl_success) {
    throw std::runtime_error("matrix product " + std::to_string(m) + " x " + std::to_string(n) + " x " +
                             std::to_string(k) + ": oneDNN reports status " + std::to_string(status) +
                             " (1 is out of memory)");
  }
}
#else
// Without OpenMP (the thread sanitizer's build) nothing of oneDNN, which brings its own OpenMP threads, takes part.
void product(Cpu& cpu, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
             const float* a, const float* b, float beta, float* c) {
  threaded_tiles(cpu, transpose_a, transpose_b, m, n, k, a, b, beta, c);
}
#endif

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
