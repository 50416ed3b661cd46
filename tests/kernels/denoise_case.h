#pragma once
// Inputs of the denoising head, for its tests on every device.

#include "kernels/denoise_head/denoise_head.h"
#include "tests/kernels/check.h"

namespace moleblend::testing {

struct DenoiseCase {
  PackedSizes sizes;
  std::int64_t heads, width;
  Dropout dropout;
  std::vector<double> qkv, bias, positions, force_weight, force_bias;
  std::vector<float> noise;
  std::vector<std::uint8_t> has_positions, known, visible;
  std::vector<std::uint64_t> key;
  double loss_scale = 0.3;

  /// Every third molecule, from the second on, has no positions.
  DenoiseCase(std::initializer_list<int> molecules, std::int64_t h, std::int64_t head_width, double drop)
      : sizes(molecules), heads(h), width(h * head_width), dropout(Dropout::of(drop)) {
    const Packed p = sizes.packed();
    qkv = random_values(std::size_t(p.atoms() * 3 * width), 1);
    bias = random_values(std::size_t(heads * p.token_pairs()), 2);
    positions = random_values(std::size_t(p.atoms() * 3), 3, 2);
    noise = as<float>(random_values(std::size_t(p.atoms() * 3), 4, 0.2));
    force_weight = random_values(std::size_t(3 * width), 5, 0.5);
    force_bias = random_values(3, 6, 0.5);
    for (std::int64_t b = 0; b < p.molecules; ++b) {
      has_positions.push_back(b % 3 != 1);
      key.push_back(molecule_key(3, 2, std::uint64_t(b)));
    }
    for (std::int64_t i = 0; i < p.atoms(); ++i) {
      visible.push_back(i % 5 == 2 ? kShowDegree : kShowGaussians);
      known.push_back(i % 7 != 6);
    }
  }

  double scale() const { return 1 / std::sqrt(double(width) / double(heads)); }
};

}  // namespace moleblend::testing
