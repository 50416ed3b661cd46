// Stands for cuBLASLt in the executor: the CPU's product in float, on operands widened to float. So a training step of a small model spends
// its time in kernels and not here.

#include "kernels/linear/products.h"

#include <vector>

#include "kernels/linear/linear.h"
#include "launch.h"

namespace moleblend {

namespace {

/// Element by element, as they lie: the rows of `from` need not be adjacent, those of the result are.
template <class T>
std::vector<float> widened(std::int64_t rows, std::int64_t columns, const T* from, std::int64_t ld) {
  std::vector<float> wide(static_cast<std::size_t>(rows * columns));
  float* to = wide.data();
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) *to++ = to_float(from[r * ld + c]);
  return wide;
}

}  // namespace

template <class In, class Out>
void product(Gpu&, const Product<In, Out>& p) {
  p.require_valid();
  cuda_on_cpu::count(cuda_on_cpu::Queued::product);
  const std::int64_t a_columns = p.transpose_a ? p.m : p.k, b_columns = p.transpose_b ? p.k : p.n;
  const auto a = widened(p.transpose_a ? p.k : p.m, a_columns, p.a, p.lda);
  const auto b = widened(p.transpose_b ? p.n : p.k, b_columns, p.b, p.ldb);
  std::vector<float> sums(static_cast<std::size_t>(p.m * p.n));
  tile_product(p.transpose_a, p.transpose_b, p.m, p.n, p.k, a.data(), a_columns, b.data(), b_columns, 0.0f, sums.data(),
               p.n);
  for (std::int64_t i = 0; i < p.m; ++i) {
    for (std::int64_t j = 0; j < p.n; ++j) {
      Out& c = p.c[i * p.ldc + j];
      float sum = sums[static_cast<std::size_t>(i * p.n + j)];
      if (p.bias) sum += to_float(p.bias[j]);
      if (p.beta != 0) sum += p.beta * to_float(c);
      c = narrow<Out>(sum);
    }
  }
}

template void product(Gpu&, const Product<float, float>&);
template void product(Gpu&, const Product<bf16, bf16>&);
template void product(Gpu&, const Product<bf16, float>&);

}  // namespace moleblend
