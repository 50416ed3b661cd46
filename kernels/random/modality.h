#pragma once
// The decision of one pair or atom: which modality it shows. CPU and CUDA share it.
//
// Pair e = i · n + j takes word e % 4 of block e / 4 of Draw::pair_modality, atom i the same of Draw::atom_modality.
// The word's unit_float is held against cumulative probabilities in the order SPD, edge, distance (atoms: 2D, 3D).

#include <cmath>

#include "kernels/common/packed.h"
#include "kernels/random/draws.h"
#include "kernels/random/philox.h"

namespace moleblend {

/// Cumulative probabilities as 24-bit integers: unit_float(word) < c is (word >> 8) < ceil(c · 2²⁴), without rounding.
/// A probability of 0 leaves an empty interval and one of 1 the whole: dividing by a sum taken in the same order makes
/// the last cumulative value exactly 1, so that no rounding can show a modality that has probability 0.
struct BlendThresholds {
  std::uint32_t pair_spd, pair_edge;  // below the first: SPD; else below the second: edge; else distance
  std::uint32_t atom_2d;              // below: 2D; else 3D

  static BlendThresholds of(const Blend& blend) {
    const auto threshold = [](double cumulative) { return static_cast<std::uint32_t>(std::ceil(cumulative * 0x1p24)); };
    const double spd_or_edge = blend.pair_spd + blend.pair_edge;
    const double pair_sum = spd_or_edge + blend.pair_distance;
    return {threshold(blend.pair_spd / pair_sum), threshold(spd_or_edge / pair_sum),
            threshold(blend.atom_2d / (blend.atom_2d + blend.atom_3d))};
  }
};

MOLEBLEND_HD inline std::uint8_t pair_modality(std::uint32_t word, const BlendThresholds& t) {
  const std::uint32_t u = word >> 8;
  return u < t.pair_spd ? kShowSpd : u < t.pair_edge ? kShowEdge : kShowDistance;
}

MOLEBLEND_HD inline std::uint8_t atom_modality(std::uint32_t word, const BlendThresholds& t) {
  return (word >> 8) < t.atom_2d ? kShowDegree : kShowGaussians;
}

/// What molecules without positions show.
inline constexpr std::uint8_t kFlatPair = kShowSpd | kShowEdge, kFlatAtom = kShowDegree;

struct Visible {
  std::uint8_t pair, atom;
};
/// What a molecule shows outside of pretraining (see ShowRelations).
MOLEBLEND_HD inline Visible visible_of(bool graph, bool distance, bool has_positions) {
  const bool far = distance && has_positions, near = graph || !far;
  return {static_cast<std::uint8_t>((near ? kFlatPair : 0) | (far ? kShowDistance : 0)),
          static_cast<std::uint8_t>((near ? kFlatAtom : 0) | (far ? kShowGaussians : 0))};
}

}  // namespace moleblend
