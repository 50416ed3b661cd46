// A thread's matrix product.

#include "kernels/linear/linear.h"
#include "kernels/linear/panels_cpu.h"

namespace moleblend {

template <class T>
void tile_product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
                  std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  using namespace panels;
  constexpr std::int64_t kColumns = 1024;  // a block of B (kDepth × kColumns) stays in the third level
  thread_local ScratchBlock memory;
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) c[i * ldc + j] = beta == T(0) ? T(0) : beta * c[i * ldc + j];
    }
    return;
  }
  const View<T> rows_of_a = transpose_a ? View<T>{a, 1, lda} : View<T>{a, lda, 1};
  const View<T> columns_of_b = transpose_b ? View<T>{b, ldb, 1} : View<T>{b, 1, ldb};
  const std::int64_t step = depth_block<T>(k), height = row_block<T>(m, kernel<T>().rows),
                     tile_columns = kernel<T>().columns;
  const std::int64_t b_size = packed_size(std::min(n, kColumns), step, tile_columns);
  T* const packed_b =
      static_cast<T*>(memory.reserve(static_cast<std::size_t>(b_size + scratch_size<T>(height, step)) * sizeof(T)));

  for (std::int64_t p = 0; p < k; p += step) {
    const std::int64_t depth = std::min(step, k - p);
    const Start<T> start{p == 0 ? beta : T(1), nullptr};
    for (std::int64_t j = 0; j < n; j += kColumns) {
      const std::int64_t columns = std::min(kColumns, n - j);
      pack<T>(columns_of_b.from(j, p), columns, depth, tile_columns, packed_b);
      for (std::int64_t i = 0; i < m; i += height) {
        T* const scratch = packed_b + b_size;
        const BlockOfA<T> block = block_of_a<T>(std::min(height, m - i), columns, depth, rows_of_a.from(i, p), scratch);
        multiply_block<T>(block, columns, packed_b, start, c + i * ldc + j, ldc, scratch);
      }
    }
  }
}

template void tile_product(bool, bool, std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                           const float*, std::int64_t, float, float*, std::int64_t);
template void tile_product(bool, bool, std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                           const double*, std::int64_t, double, double*, std::int64_t);

}  // namespace moleblend
