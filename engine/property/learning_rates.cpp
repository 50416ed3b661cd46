#include "engine/property/learning_rates.h"

#include <charconv>
#include <cmath>

namespace moleblend {
namespace {

/// 0 for the head, 1 for the last layer, layers + 1 for what is below the first.
std::int64_t distance_below_head(std::string_view name, std::int64_t layers) {
  constexpr std::string_view kHead = "encoder.proj_out.", kLayers = "encoder.molecule_encoder.layers.";
  if (name.starts_with(kHead)) return 0;
  if (!name.starts_with(kLayers)) return layers + 1;
  std::int64_t layer = 0;
  std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
  return layers - layer;
}

}  // namespace

std::vector<RateRange> learning_rates(const Model& model, double layer_decay, bool freeze_encoder) {
  if (layer_decay == 1 && !freeze_encoder) return {};
  std::vector<RateRange> ranges;
  for (const ParameterInfo& p : model.parameters()) {
    const std::int64_t distance = distance_below_head(p.name, model.config().layers);
    if (freeze_encoder && distance > 0) continue;
    const double factor = std::pow(layer_decay, static_cast<double>(distance));
    // A range reaches to the next one's beginning: tensors that are updated together begin where alignment wants it.
    if (!ranges.empty() && ranges.back().factor == factor)
      ranges.back().end = p.offset + p.count;
    else
      ranges.push_back({p.offset, p.offset + p.count, factor});
  }
  return ranges;
}

}  // namespace moleblend
