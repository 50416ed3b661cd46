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
std::int64_t overflow_of_distance_backward_float(Gpu& gpu, const Input& in);

/// The pairs of a block's share that show their distance, queued in shared memory to be worked on `Rows` at a time. All threads of the
/// block make each call.
template <int Threads, int Rows>
class ShownPairs {
 public:
  std::int64_t *pair, *at;  // index of the pair; head h of it is at + h · tokens² in dbias
  int* tokens;              // of its molecule
  float* u;                 // the Gaussians' argument

  MOLEBLEND_HD explicit ShownPairs(SharedCut& cut)
      : pair(cut.take<std::int64_t>(kLength)),
        at(cut.take<std::int64_t>(kLength)),
        tokens(cut.take<int>(kLength)),
        u(cut.take<float>(kLength)),
        share_(cut.take<Share>(1)),
        count_(cut.take<int>(kWarps)) {}

  __device__ __forceinline__ void start(const Input& in) {
    if (threadIdx.x == 0) *share_ = share_of(in.packed.pairs(), blockIdx.x, gridDim.x);
    __syncthreads();
    molecule_ = static_cast<int>(molecule_of(in.packed.pair_offset, in.packed.molecules,
                                             min(share_->begin + threadIdx.x, in.packed.pairs() - 1)));
  }
  /// How many there are to work on now: Rows, but for the last time.
  __device__ __forceinline__ int fill(const Input& in) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    while (queued_ < Rows && share_->begin + scanned_ < share_->end) {
      const std::int64_t own = share_->begin + scanned_ + threadIdx.x;
      const bool shows = own < share_->end && (in.pair_visible[own] & kShowDistance);
      const unsigned showing = __ballot_sync(cuda::kFullWarp, shows);
      if (lane == 0) count_[warp] = __popc(showing);
      __syncthreads();
      int place = queued_ + __popc(showing & ((1u << lane) - 1));
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        place += w < warp ? count_[w] : 0;
        queued_ += count_[w];
      }
      if (shows) {
        const std::int64_t* offset = in.packed.pair_offset;
        while (offset[molecule_ + 1] <= own) ++molecule_;
        const std::int64_t n = in.packed.atoms_of(molecule_), local = own - offset[molecule_], i = quotient(local, n),
                           j = local - i * n;
        const std::int64_t first = in.packed.atom_offset[molecule_];
        pair[place] = own;
        at[place] = in.heads * in.packed.token_pair_offset[molecule_] + (i + 1) * (n + 1) + j + 1;
        tokens[place] = static_cast<int>(n + 1);
        u[place] = argument(in, first + i, first + j).u;
      }
      scanned_ += Threads;
      __syncthreads();
    }
    return min(queued_, Rows);
  }
  __device__ __forceinline__ std::int64_t stride(int row) const {
    return std::int64_t{tokens[row]} * tokens[row];
  }
  /// Takes away the first `rows`, the last fill()'s; others move to the front.
  __device__ __forceinline__ void drop(int rows) {
    queued_ -= rows;
    const int tid = threadIdx.x, from = Rows + tid;
    const bool moves = tid < queued_;
    std::int64_t moved_pair = 0, moved_at = 0;
    int moved_tokens = 0;
    float moved_u = 0;
    if (moves) moved_pair = pair[from], moved_at = at[from], moved_tokens = tokens[from], moved_u = u[from];
    __syncthreads();
    if (moves) {
      pair[tid] = moved_pair, at[tid] = moved_at;
      tokens[tid] = moved_tokens, u[tid] = moved_u;
    }
    __syncthreads();
  }

 private:
  static constexpr int kLength = Rows + Threads, kWarps = Threads / 32;
  Share* share_;  // not in registers, which the kernels are short of
  int* count_;    // [kWarps]
  int scanned_ = 0, queued_ = 0, molecule_ = 0;
};

}  // namespace moleblend::relation
