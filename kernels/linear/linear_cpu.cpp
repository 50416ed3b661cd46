#include <algorithm>

#include "kernels/linear/dense_product_cpu.h"
#include "kernels/linear/linear.h"

namespace moleblend {
namespace {

using namespace panels;

/// sum[i] += Σ_p x[p, i], x [depth, count] at `ld`, count <= kRows<T>.
template <class T>
void add_column_sums(std::int64_t depth, std::int64_t count, const T* x, std::int64_t ld, T* sum) {
  T partial[kRows<T>];
  for (std::int64_t first = 0; first < depth; first += kSumRows) {
    std::fill_n(partial, count, T(0));
    for (std::int64_t p = first; p < std::min(depth, first + kSumRows); ++p) {
      for (std::int64_t i = 0; i < count; ++i) partial[i] += x[p * ld + i];
    }
    for (std::int64_t i = 0; i < count; ++i) sum[i] += partial[i];
  }
}

/// In the precision that the device multiplies in.
template <class T>
void multiply(Cpu& cpu, const DenseProduct<T>& p) {
  if constexpr (std::is_same_v<T, float>)
    if (cpu.bf16_products()) return multiply_dense<bf16>(cpu, p);
  multiply_dense<T>(cpu, p);
}

}  // namespace

template <class T>
void linear_forward(Cpu& cpu, const LinearForward<T>& a) {
  multiply<T>(cpu, {.transpose_a = false,
                    .transpose_b = true,
                    .m = a.rows,
                    .n = a.out,
                    .k = a.in,
                    .a = a.x,
                    .b = a.weight,
                    .start = {T(0), a.bias},
                    .c = a.y,
                    .row_sums = nullptr});
}

template <class T>
void linear_backward(Cpu& cpu, const LinearBackward<T>& a) {
  if (a.dx) {
    multiply<T>(cpu, {.transpose_a = false,
                      .transpose_b = false,
                      .m = a.rows,
                      .n = a.in,
                      .k = a.out,
                      .a = a.dy,
                      .b = a.weight,
                      .start = {a.add_to_dx ? T(1) : T(0), nullptr},
                      .c = a.dx,
                      .row_sums = nullptr});
  }
  if (a.dweight) {
    multiply<T>(cpu, {.transpose_a = true,
                      .transpose_b = false,
                      .m = a.out,
                      .n = a.in,
                      .k = a.rows,
                      .a = a.dy,
                      .b = a.x,
                      .start = {T(1), nullptr},
                      .c = a.dweight,
                      .row_sums = a.dbias});
  } else if (a.dbias) {
    cpu.parallel([&](int thread) {
      const auto [begin, end] = even_part(a.out, cpu.threads(), thread, kRows<T>);
      for (std::int64_t j = begin; j < end; j += kRows<T>)
        add_column_sums(a.rows, std::min(kRows<T>, end - j), a.dy + j, a.out, a.dbias + j);
    });
  }
}

template void linear_forward(Cpu&, const LinearForward<float>&);
template void linear_forward(Cpu&, const LinearForward<double>&);
template void linear_backward(Cpu&, const LinearBackward<float>&);
template void linear_backward(Cpu&, const LinearBackward<double>&);

}  // namespace moleblend
