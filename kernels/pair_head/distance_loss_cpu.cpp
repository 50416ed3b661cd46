// The 3D head's loss: on displacements, or on distances.

#include <cmath>

#include "kernels/pair_head/bilinear_pass.h"
#include "kernels/pair_head/cosine_loss.h"
#include "kernels/pair_head/smooth_l1.h"

namespace moleblend {
namespace {

template <class T>
struct DistanceRows {
  const DistanceLoss<T>& a;

  bool known(std::int64_t atom) const { return !a.position_known || a.position_known[atom]; }
  const float* position(std::int64_t atom) const { return a.positions + 3 * atom; }
  /// Of two atoms whose positions are known. An atom coincides with itself, so this covers i = j too.
  bool coincide(std::int64_t i, std::int64_t j) const {
    const float *x = position(i), *y = position(j);
    return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
  }

  /// Counts the valid pairs, which each of them is divided by.
  void begin(std::int64_t b, PairLossResult& result) const {
    if (!a.has_positions[b]) return;
    const std::int64_t first = a.packed.atom_offset[b], end = a.packed.atom_offset[b + 1];
    for (std::int64_t i = first; i < end; ++i)
      for (std::int64_t j = i + 1; j < end; ++j)
        if (known(i) && known(j) && !coincide(i, j)) result.pairs += 2;
    result.count = result.pairs > 0;
  }
  bool any(std::int64_t b, std::int64_t i, std::int64_t) const {
    return a.has_positions[b] && a.packed.atoms_of(b) > 1 && known(a.packed.atom_offset[b] + i);
  }
  void row(std::int64_t b, std::int64_t i, std::int64_t, std::int64_t stride, bool gradient, T* outputs, T*,
           PairLossResult& result) const {
    const std::int64_t n = a.packed.atoms_of(b), first = a.packed.atom_offset[b], components = a.head.outputs;
    double loss = 0;
    for (std::int64_t j = 0; j < stride; ++j) {
      double d[3] = {0, 0, 0};  // gradient of this pair's loss
      if (j < n && known(first + j) && !coincide(first + i, first + j)) {
        double target[3], predicted[3];
        for (int c = 0; c < 3; ++c) target[c] = double(position(first + j)[c]) - double(position(first + i)[c]);
        for (std::int64_t c = 0; c < components; ++c) predicted[c] = static_cast<double>(outputs[c * stride + j]);
        if (a.target == DistanceTarget::displacement) {
          const CosineLoss pair = cosine_loss(predicted, target);
          loss += 1 - pair.cosine;
          result.pair_error += pair.cosine;
          std::copy_n(pair.gradient, 3, d);
        } else {
          const SmoothL1 pair =
              smooth_l1(*predicted, std::sqrt(target[0] * target[0] + target[1] * target[1] + target[2] * target[2]));
          loss += pair.loss;
          result.pair_error += pair.size;
          *d = pair.gradient;
        }
      }
      if (gradient) {
        const double weight = result.pairs > 0 ? a.scale / static_cast<double>(result.pairs) : 0;
        for (std::int64_t c = 0; c < components; ++c) outputs[c * stride + j] = static_cast<T>(weight * d[c]);
      }
    }
    if (result.pairs > 0) result.loss += loss / static_cast<double>(result.pairs);
  }
};

}  // namespace

template <class T>
void distance_loss(Cpu& cpu, const DistanceLoss<T>& a) {
  *a.result = pair_head::run(cpu, a.packed, a.head, 1, a.scale, a.predictions, DistanceRows<T>{a});
}

template void distance_loss(Cpu&, const DistanceLoss<float>&);
template void distance_loss(Cpu&, const DistanceLoss<double>&);

}  // namespace moleblend
