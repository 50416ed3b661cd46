#pragma once
// Parts of the relation bias's backward pass on the GPU. Each leaves the partial sums of a bounded number of blocks, a number that depends on
// the batch alone, so that every GPU adds in the same order; add_sums adds them up.

#include "kernels/relation_bias/encodings.cuh"

namespace moleblend::relation {

/// out[k] += Σ_parts parts[part · stride + k], times the sign of sign_of[k] if that is given.
struct Sum {
  const float* parts;
  std::int64_t stride;
  int count;            // of parts
  std::int64_t values;  // of a part
  float* out;
  const float* sign_of;
  bool overwrite;  // out = instead
};
struct Sums {
  static constexpr int kMost = 10;
  Sum sum[kMost];
  std::int64_t first_block[kMost + 1];
  int count;
};
/// In the order of `sums`.
void add_sums(Gpu& gpu, std::initializer_list<Sum> sums);

/// Blocks that share `count` things, at least `each` of them to a block but for the last.
inline int blocks_of(std::int64_t count, std::int64_t each, int most) {
  return static_cast<int>(std::clamp<std::int64_t>((count + each - 1) / each, 1, most));
}
/// Blocks of the backward pass of pairs that show their distance.
inline int distance_blocks(const Input& in) {
  return blocks_of(in.packed.pairs(), 1024, 132);
}

/// One block's sums of the gradients of the MLP.
struct MlpPartial {
  std::int64_t w1 = 0, b1, w2, b2, length;  // places in the block's part
  MOLEBLEND_HD MlpPartial(std::int64_t heads, std::int64_t kernels)
      : b1(kernels * kernels), w2(b1 + kernels), b2(w2 + heads * kernels), length(b2 + heads) {}
};

/// Backward of the pairs that show their distance, from their dbias to MLP, Gaussians and u.
struct DistanceBackward {
  Input in;
  DeviceEncodings e;
  const float* dbias;
  float* du;              // [P] added to
  float* mlp_parts;       // [distance_blocks, MlpPartial::length]
  float* gaussian_parts;  // [distance_blocks, 2, K] means, widths
  float* overflow;        // [overflow_of_distance_backward_float], for float only; null if that is 0
};
void distance_backward_bf16(Gpu& gpu, const DistanceBackward& a);
void distance_backward_float(Gpu& gpu, const DistanceBackward& a);
/// Values that do not fit into shared memory.
std::int64_t overflow_of_distance_backward_float(const Input& in);

}  // namespace moleblend::relation
