#pragma once
// A matrix product on all threads of the CPU.
//
// Each thread packs its part of B for all; then blocks of rows of C go to threads as they come. A thread that finds no more rows helps those
// that are still at work: it takes panels of their columns, with the rows of A that they have packed. So blocks can be large, and still a
// thread that is held up between panels keeps the others waiting for no more than one. Where C has so few rows that columns share out clearly
// more evenly, each thread works on its own columns instead.

#include "kernels/common/cpu.h"
#include "kernels/linear/panels_cpu.h"

namespace moleblend::panels {

/// C [m, n] = op(A) [m, k] · op(B) [k, n] + start, dense and row-major: op transposes where the flag is set.
template <class T>
struct DenseProduct {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  const T *a, *b;
  Start<T> start;
  T* c;
  T* row_sums;  // [m] += Σ_p op(A)[i, p], with transpose_a only; or null
};

/// P is what panels hold. Nothing happens where m, n or k is 0. The same bits for every number of threads.
template <class P>
void multiply_dense(Cpu& cpu, const DenseProduct<Wide<P>>& p);

}  // namespace moleblend::panels
