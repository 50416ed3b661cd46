#pragma once
// What the network is and what it is trained for.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/pair_head/pair_head.h"
#include "kernels/property_loss/property_loss.h"
#include "kernels/random/draws.h"

namespace moleblend {

/// Sizes and regularisation of the network (METHOD section 9).
struct ModelConfig {
  std::string name = "small";
  std::int64_t layers = 6, width = 256, heads = 8, ffn = 256, kernels = 64;
  std::int64_t distance_hidden = 256;  // of the 3D head
  DistanceTarget target = DistanceTarget::distance;
  bool reference_language_head = false;  // keep the reference's unused language-model head in checkpoints
  std::int64_t tasks = 0;                // > 0: a property head instead of the pretraining heads
  bool with_distance = true;             // the distance encoder exists (a 2D-only property model has none)
  double attention_dropout = 0.1, activation_dropout = 0.1, hidden_dropout = 0.0, drop_path = 0.1;

  /// tiny, small or base; throws UsageError naming the choices.
  static ModelConfig named(std::string_view name);
  /// Throws UsageError for sizes that can't work (width not a multiple of heads, kernels < 1 …).
  void check() const;
};

/// What a pretraining step shows and what it asks for (METHOD sections 5, 7 and 11).
struct Objective {
  std::string name = "blend";
  Blend blend;
  double spd_factor = 0.1, edge_factor = 0.1, distance_factor = 0.5, denoise_factor = 6;
  double noise_scale = 0.2;  // ångström

  /// The named members of the family; throws UsageError naming the choices.
  static Objective named(std::string_view name);
  void check() const;
};

}  // namespace moleblend
