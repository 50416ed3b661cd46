// The 3D head's loss: on displacements, or on distances.

#include "kernels/pair_head/bilinear_pass.cuh"
#include "kernels/pair_head/cosine_loss.h"
#include "kernels/pair_head/smooth_l1.h"

namespace moleblend {
namespace {

using pair_head::Molecule;
using pair_head::PairSums;

/// `Outputs` 3: displacements, 1: distances. The arithmetic of a pair is in double, as on the CPU.
template <int Outputs>
struct DistancePairs {
  static constexpr int kOutputs = Outputs, kWarps = 4, kBlocksPerMultiprocessor = 4;
  static constexpr std::int64_t kMostParts = pair_head::kMultiprocessors * kBlocksPerMultiprocessor;
  static constexpr bool kCountsPairs = true, kLittleMemory = false;
  const float* positions;
  const std::uint8_t* has_positions;
  const std::uint8_t* position_known;
  double scale;

  __device__ bool known(std::int64_t atom) const { return !position_known || position_known[atom]; }
  /// An atom coincides with itself, so this covers i = j too.
  __device__ int look_up(int, const Molecule& m, int i, int j) const {
    if (!has_positions[m.index] || !known(m.atom + i) || !known(m.atom + j)) return 0;
    const float *x = positions + 3 * (m.atom + i), *y = positions + 3 * (m.atom + j);
    return x[0] != y[0] || x[1] != y[1] || x[2] != y[2];
  }
  __device__ int target(int valid) const { return valid - 1; }
  __device__ void evaluate(const Molecule& m, int i, int j, int, std::int64_t pairs, bool gradient,
                           float (&outputs)[Outputs], PairSums& sums) const {
    const float *x = positions + 3 * (m.atom + i), *y = positions + 3 * (m.atom + j);
    double t[3];
#pragma unroll
    for (int c = 0; c < 3; ++c) t[c] = static_cast<double>(y[c]) - static_cast<double>(x[c]);
    const double share = 1 / static_cast<double>(pairs);  // there is at least this one
    if constexpr (Outputs == 3) {
      const double predicted[3] = {outputs[0], outputs[1], outputs[2]};
      const CosineLoss pair = cosine_loss(predicted, t);
      sums.loss += (1 - pair.cosine) * share;
      sums.pair_error += pair.cosine;
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        if (gradient) outputs[c] = static_cast<float>(scale * share * pair.gradient[c]);
      }
    } else {
      const SmoothL1 pair = smooth_l1(outputs[0], std::sqrt(t[0] * t[0] + t[1] * t[1] + t[2] * t[2]));
      sums.loss += pair.loss * share;
      sums.pair_error += pair.size;
      if (gradient) outputs[0] = static_cast<float>(scale * share * pair.gradient);
    }
  }
};

}  // namespace

template <class T>
void distance_loss(Gpu& gpu, const DistanceLoss<T>& a) {
  if (a.target == DistanceTarget::displacement) {
    pair_head::run(gpu, a.packed, a.head, a.scale, a.predictions, a.result,
                   DistancePairs<3>{a.positions, a.has_positions, a.position_known, a.scale});
  } else {
    pair_head::run(gpu, a.packed, a.head, a.scale, a.predictions, a.result,
                   DistancePairs<1>{a.positions, a.has_positions, a.position_known, a.scale});
  }
}

template void distance_loss(Gpu&, const DistanceLoss<float>&);
template void distance_loss(Gpu&, const DistanceLoss<bf16>&);

}  // namespace moleblend
