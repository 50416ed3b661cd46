#pragma once
// Which parameters learn how fast in fine-tuning.

#include <vector>

#include "engine/model/model.h"

namespace moleblend {

/// Factors of the learning rate for AdamSettings::ranges: 1 for the head, `layer_decay` to the power of a layer's distance below it for
/// the encoder (embeddings and relation encodings are the layer below the first), or 0 there if frozen. Empty if all learn alike.
std::vector<RateRange> learning_rates(const Model& model, double layer_decay, bool freeze_encoder);

}  // namespace moleblend
