#pragma once
// Sums over the rows of an array: gradients of biases and of LayerNorm's parameters. Blocks leave partial sums of their rows, which are then
// added, always in the same order; atomic additions would come in any.

#include <cstdint>
#include <initializer_list>

#include "kernels/common/gpu.h"

namespace moleblend::cuda {

inline constexpr int kMostSums = 3;

/// sums[k] [columns] += Σ_c partial [chunks, sums, columns] of chunk c, for every k of at most kMostSums. All in device memory.
void add_partial_sums(Gpu& gpu, std::int64_t columns, std::int64_t chunks, const float* partial,
                      std::initializer_list<float*> sums);

/// sum [columns] += Σ_rows x [rows, columns]. Takes the GPU's scratch.
template <class T>
void add_column_sums(Gpu& gpu, std::int64_t rows, std::int64_t columns, const T* x, float* sum);

}  // namespace moleblend::cuda
