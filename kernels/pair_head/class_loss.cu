// Cross-entropy of the SPD classes and of the hops' bond classes.

#include "kernels/pair_head/bilinear_pass.cuh"

namespace moleblend {
namespace {

using pair_head::Molecule;
using pair_head::PairSums;

/// Cross-entropy of one pair. With `gradient`, x ← scale · (softmax − [class = target]).
template <int K>
__device__ __forceinline__ void cross_entropy(int target, float scale, bool gradient, float (&x)[K], PairSums& sums) {
  float largest = x[0], of_target = x[0];
  int best = 0;
#pragma unroll
  for (int k = 1; k < K; ++k) {
    if (x[k] > largest) {  // strictly: of equal logits the first class is the prediction
      largest = x[k];
      best = k;
    }
    if (k == target) of_target = x[k];
  }
  // The fast exponential: it is off by at most 2 + 1.2 |x| units in the last place, of a value exp(x) <= 1 beside the largest one, 1.
  float sum = 0;
#pragma unroll
  for (int k = 0; k < K; ++k) sum += x[k] = cuda::exp_fast(x[k] - largest);
  sums.loss += static_cast<double>(largest - of_target + logf(sum));
  ++sums.count;
  sums.correct += best == target;
  if (!gradient) return;
  const float factor = scale / sum;
#pragma unroll
  for (int k = 0; k < K; ++k) x[k] = x[k] * factor - (k == target ? scale : 0.0f);
}

struct SpdPairs {
  static constexpr int kOutputs = kSpdClasses, kWarps = 6, kBlocksPerMultiprocessor = 2;
  static constexpr std::int64_t kMostParts = pair_head::kMultiprocessors * kBlocksPerMultiprocessor;
  static constexpr bool kCountsPairs = false, kLittleMemory = false;
  const std::uint16_t* spd;
  float scale;

  __device__ int look_up(int, const Molecule& m, int i, int j) const {
    return spd[m.pair + std::int64_t{i} * m.atoms + j];
  }
  __device__ int target(int found) const { return spd_class(found); }
  __device__ void evaluate(const Molecule&, int, int, int target, std::int64_t, bool gradient, float (&x)[kOutputs],
                           PairSums& sums) const {
    cross_entropy(target, scale, gradient, x, sums);
  }
};

struct EdgePairs {
  static constexpr int kOutputs = kEdgeClasses, kWarps = 12, kBlocksPerMultiprocessor = 1;
  static constexpr std::int64_t kMostParts = pair_head::kMultiprocessors * kBlocksPerMultiprocessor / kPathHops;
  static constexpr bool kCountsPairs = false, kLittleMemory = false;
  const std::uint8_t* path;
  float scale;

  __device__ int look_up(int hop, const Molecule& m, int i, int j) const {
    return path[(m.pair + std::int64_t{i} * m.atoms + j) * kPathHops + hop];
  }
  __device__ int target(int found) const { return edge_class(static_cast<std::uint8_t>(found)); }
  __device__ void evaluate(const Molecule&, int, int, int target, std::int64_t, bool gradient, float (&x)[kOutputs],
                           PairSums& sums) const {
    cross_entropy(target, scale, gradient, x, sums);
  }
};

/// Slower, for GPUs whose blocks have less than 146 KiB of shared memory.
struct EdgePairsInLittleMemory : EdgePairs {
  static constexpr int kWarps = 8;
  static constexpr bool kLittleMemory = true;
};

}  // namespace

template <class T>
void spd_loss(Gpu& gpu, const SpdLoss<T>& a) {
  pair_head::run(gpu, a.packed, a.head, a.scale, a.logits, a.result, SpdPairs{a.spd, static_cast<float>(a.scale)});
}

template <class T>
void edge_loss(Gpu& gpu, const EdgeLoss<T>& a) {
  const EdgePairs pairs{a.path, static_cast<float>(a.scale)};
  if (pair_head::fits<T, EdgePairs>(gpu)) {
    pair_head::run(gpu, a.packed, a.head, a.scale, a.logits, a.result, pairs);
  } else {
    pair_head::run(gpu, a.packed, a.head, a.scale, a.logits, a.result, EdgePairsInLittleMemory{pairs});
  }
}

template void spd_loss(Gpu&, const SpdLoss<float>&);
template void spd_loss(Gpu&, const SpdLoss<bf16>&);
template void edge_loss(Gpu&, const EdgeLoss<float>&);
template void edge_loss(Gpu&, const EdgeLoss<bf16>&);

}  // namespace moleblend
