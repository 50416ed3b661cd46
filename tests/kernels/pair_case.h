#pragma once
// Inputs of the pair heads, for their tests on every device.

#include <algorithm>

#include "kernels/pair_head/pair_head.h"
#include "tests/kernels/check.h"

namespace moleblend::testing {

enum class Head { spd, edge, displacement, distance };
inline constexpr Head kHeads[] = {Head::spd, Head::edge, Head::displacement, Head::distance};

inline const char* name(Head head) {
  constexpr const char* kNames[] = {"Spd", "Edge", "Displacement", "Distance"};
  return kNames[static_cast<int>(head)];
}
inline std::int64_t outputs_of(Head head) {
  constexpr std::int64_t kOutputs[] = {kSpdClasses, kPathHops * kEdgeClasses, 3, 1};
  return kOutputs[static_cast<int>(head)];
}

/// Molecules with random relations and positions; the relations need not belong to a graph.
struct PairCase {
  // Features are those of three heads; the second one's columns are the case's.
  static constexpr std::int64_t kStride = 6 * 32, kRow = 64, kColumn = 96;

  PackedSizes sizes;
  Head head;
  std::int64_t outputs;
  std::vector<double> features, weight, bias;
  std::vector<std::uint16_t> spd;
  std::vector<std::uint8_t> path, has_positions, known;
  std::vector<float> positions;
  double scale = 0.7;

  PairCase(Head h, const PackedSizes& molecules) : sizes(molecules), head(h), outputs(outputs_of(h)) {
    const Packed p = sizes.packed();
    features = random_values(std::size_t(p.atoms() * kStride), 1, 0.7);
    weight = random_values(std::size_t(outputs * 1024), 2, 0.1);
    bias = random_values(std::size_t(outputs), 3);
    std::mt19937 g(4);
    spd.resize(std::size_t(p.pairs()));
    path.resize(std::size_t(p.pairs() * kPathHops));
    for (std::int64_t b = 0; b < p.molecules; ++b) {
      const std::int64_t n = p.atoms_of(b);
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
          const auto pair = std::size_t(p.pair_offset[b] + i * n + j);
          // Distances past the last class and past the table's end of the reference, and pairs without a path.
          const int s = i == j ? 0 : g() % 9 == 0 ? kUnreachable : 1 + int(g() % 25);
          spd[pair] = static_cast<std::uint16_t>(s);
          for (int hop = 0; hop < kPathHops && s != kUnreachable && hop < s; ++hop)
            path[pair * kPathHops + std::size_t(hop)] = static_cast<std::uint8_t>(1 + g() % kBondCodes);
        }
      has_positions.push_back(b % 3 != 2);
    }
    positions = as<float>(random_values(std::size_t(p.atoms() * 3), 5, 2));
    known.assign(std::size_t(p.atoms()), 1);
    for (std::size_t k = 5; k < known.size(); k += 11) known[k] = 0;
    // Two atoms at one place: no direction to predict.
    if (p.atoms() > 3) std::copy_n(positions.begin() + 3, 3, positions.begin() + 6);
  }

  /// Takes from a pair what the class heads predict.
  void clear_relations(std::int64_t pair, std::uint16_t hops) {
    spd[std::size_t(pair)] = hops;
    std::fill_n(path.begin() + pair * kPathHops, kPathHops, std::uint8_t{0});
  }

  /// The case's head on `device`, its arrays there.
  template <class T, class Device>
  void call(Device& device, const Packed& packed, const Bilinear<T>& bilinear, const std::uint16_t* hops,
            const std::uint8_t* codes, const float* x, const std::uint8_t* has, const std::uint8_t* is_known,
            Wide<T>* logits, PairLossResult* result) const {
    if (head == Head::spd) {
      spd_loss(device, SpdLoss<T>{packed, bilinear, hops, scale, logits, result});
    } else if (head == Head::edge) {
      edge_loss(device, EdgeLoss<T>{packed, bilinear, codes, scale, logits, result});
    } else {
      const auto target = head == Head::distance ? DistanceTarget::distance : DistanceTarget::displacement;
      distance_loss(device, DistanceLoss<T>{packed, bilinear, target, x, has, is_known, scale, logits, result});
    }
  }
};

}  // namespace moleblend::testing
