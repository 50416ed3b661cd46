#pragma once
// Small kernels around each primitive of kernels/common/cuda/cuda.cuh, for its test on both sides: the instruction on a GPU, its twin in
// the executor. All pointers are to device memory.

#include "kernels/common/gpu.h"
#include "kernels/common/precision.h"
#include "kernels/random/philox.h"

namespace moleblend::testing {

/// d [16, 8] = c [16, 8] + a [16, 16] · b [16, 8], by one warp.
void multiply_tile(Gpu& gpu, const bf16* a, const bf16* b, const float* c, float* d);
/// words [32, 4]: what each lane gets of the 32 × 8 values (four matrices, one below the other) by ldmatrix, plain or transposed.
void load_matrices(Gpu& gpu, bool transposed, const std::uint16_t* rows, std::uint32_t* words);
/// words [32]: what each lane has of the 8 × 8 values after transpose_8x8.
void transpose_matrix(Gpu& gpu, const std::uint16_t* values, std::uint32_t* words);
/// to [3, 4]: 16 bytes each, copied asynchronously from `from` with 16, 8 and 0 bytes of source.
void copy_asynchronously(Gpu& gpu, const std::uint32_t* from, std::uint32_t* to);
/// to [rounds, 32]: what a consumer warp reads, reversed, of what a producer warp of the same block writes in each round.
void hand_over(Gpu& gpu, int rounds, int* to);
/// rounded [count] and packed [count / 2] of x.
void round_values(Gpu& gpu, int count, const float* x, bf16* rounded, std::uint32_t* packed);
/// sums [32], largest [32]: on each lane, of x [32].
void reduce_warp(Gpu& gpu, const float* x, float* sums, float* largest);
/// to = 2 · from, eight values at a time; count is a multiple of 8.
void double_in_pieces(Gpu& gpu, int count, const bf16* from, bf16* to);
/// words [32, 3, 4]: of lane l philox(key, l, attention_dropout, 3), and in layer 5 of hidden_dropout's block l + 100 and drop_path's 7 l.
void draw_words(Gpu& gpu, std::uint64_t key, std::uint32_t* words);

/// kept [32, 2]: of words [32], whether the lower and the upper half are kept.
void keep_halves(Gpu& gpu, const Dropout& dropout, const std::uint32_t* words, std::uint32_t* kept);
/// power [count] = 2^x.
void powers_of_two(Gpu& gpu, int count, const float* x, float* power);

}  // namespace moleblend::testing
