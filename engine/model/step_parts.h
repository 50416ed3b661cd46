#pragma once
// What a training step's time goes to.

#include <array>
#include <string_view>

namespace moleblend {

enum class StepPart {
  other,  // of the host: reading results, the next batch
  draws,
  relation_bias_forward,
  relation_bias_backward,
  atom_embedding_forward,
  atom_embedding_backward,
  linear_forward,
  linear_backward,
  attention_forward,
  attention_backward,
  residual_norm_forward,
  residual_norm_backward,
  gelu_forward,
  gelu_backward,
  pair_maps,
  spd_loss,
  edge_loss,
  distance_loss,
  denoise_head,
  property_head,
  zero,
  gradient_sum,
  update,
};
inline constexpr std::array kStepPartNames = std::to_array<std::string_view>({"other",
                                                                              "draws",
                                                                              "relation_bias.forward",
                                                                              "relation_bias.backward",
                                                                              "atom_embedding.forward",
                                                                              "atom_embedding.backward",
                                                                              "linear.forward",
                                                                              "linear.backward",
                                                                              "attention.forward",
                                                                              "attention.backward",
                                                                              "residual_norm.forward",
                                                                              "residual_norm.backward",
                                                                              "gelu.forward",
                                                                              "gelu.backward",
                                                                              "pair_maps",
                                                                              "spd_loss",
                                                                              "edge_loss",
                                                                              "distance_loss",
                                                                              "denoise_head",
                                                                              "property_head",
                                                                              "zero",
                                                                              "gradient_sum",
                                                                              "update"});
static_assert(kStepPartNames.size() == static_cast<std::size_t>(StepPart::update) + 1);

}  // namespace moleblend
