#pragma once
// Sample kernels in the style of the program's, each with a few faults that can be switched on: mutations. Whatever runs kernels for
// tests has to notice every one of them.

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/common/precision.h"

namespace moleblend::mutants {

enum class Mutation {
  none,
  // attend
  no_barrier_before_refill,
  no_barrier_after_fill,
  forgotten_tail,
  divergent_shuffle,
  no_syncwarp,
  too_little_shared,
  // multiply
  waits_for_too_few_copies,
  no_barrier_before_async_refill,
  misaligned_rows,
  // normalise
  static_shared_out_of_bounds,
  no_barrier_after_partial_sums,
  reads_absent_partial_sums,
  divergent_barrier,
  // histogram
  shared_sum_not_atomic,
  device_sum_not_atomic,
};
extern Mutation mutation;

constexpr int kWidth = 32;  // of a head in attend

/// out [n, 32]: softmax over j of q_i · k_j + table[relation_ij], times v. q, k, v [n, 32], relation [n, n], table [relations].
struct Attend {
  const float *q, *k, *v;
  const std::uint8_t* relation;
  const float* table;
  float* out;
  int n, relations;
};
cudaError_t attend(const Attend& a);

/// c [m, 16] = a [m, k] · b [k, 16]; m a multiple of 64, k of 16.
cudaError_t multiply(const bf16* a, const bf16* b, float* c, int m, int k);

/// y = (x − mean) / deviation of each row.
cudaError_t normalise(const float* x, float* y, int rows, int columns);

/// sums [bins] += values, each in the bin of its key.
cudaError_t histogram(const std::uint8_t* key, const float* value, float* sums, int count, int bins);

}  // namespace moleblend::mutants
