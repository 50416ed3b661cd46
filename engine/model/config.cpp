#include "engine/model/config.h"

#include <cmath>

#include "io/support/error.h"

namespace moleblend {

ModelConfig ModelConfig::named(std::string_view name) {
  ModelConfig c;
  c.name = name;
  if (name == "tiny") {
    c.layers = 2, c.width = 64, c.heads = 4, c.ffn = 64, c.kernels = 16, c.distance_hidden = 32;
  } else if (name == "small") {
    c.layers = 6, c.width = 256, c.heads = 8, c.ffn = 256, c.kernels = 64, c.distance_hidden = 256;
  } else if (name == "base") {
    c.layers = 12, c.width = 768, c.heads = 32, c.ffn = 768, c.kernels = 128, c.distance_hidden = 256;
  } else {
    throw UsageError("no model is called '{}'; choose tiny, small or base", name);
  }
  return c;
}

void ModelConfig::check() const {
  const auto need = [](bool ok, std::string_view what) {
    if (!ok) throw UsageError("this model can't be built: {}", what);
  };
  need(layers >= 1, "layers must be at least 1");
  need(heads >= 1 && width >= 8 && width % heads == 0, "width must be a multiple of heads, and at least 8");
  need(ffn >= 8 && ffn % 8 == 0 && width % 8 == 0,
       "width and ffn must be multiples of 8 (dropout draws eight elements at a time)");
  need(kernels >= 1 && distance_hidden >= 1, "kernels and distance-hidden must be at least 1");
  need(tasks >= 0, "tasks must not be negative");
  for (const double p : {attention_dropout, activation_dropout, hidden_dropout, drop_path})
    need(p >= 0 && p < 1, "dropout and drop-path probabilities must be at least 0 and below 1");
}

Objective Objective::named(std::string_view name) {
  Objective o;
  o.name = name;
  // METHOD section 11: corners of the blend probabilities and factors switched on or off.
  if (name == "blend") {
  } else if (name == "3d-to-2d") {  // show distance, recover SPD and edges
    o.blend = {0, 0, 1, 0, 1};
    o.distance_factor = o.denoise_factor = 0;
  } else if (name == "2d-to-3d") {  // show SPD and edges, recover 3D
    o.blend = {0.5, 0.5, 0, 1, 0};
    o.spd_factor = o.edge_factor = o.denoise_factor = 0;
  } else if (name == "2d-to-2d") {  // show one of SPD and edge a pair, recover both
    o.blend = {0.5, 0.5, 0, 1, 0};
    o.distance_factor = o.denoise_factor = 0;
  } else if (name == "3d-to-3d") {  // show noised distances, recover clean 3D and the noise
    o.blend = {0, 0, 1, 0, 1};
    o.spd_factor = o.edge_factor = 0;
  } else if (name == "blend-without-denoising") {
    o.denoise_factor = 0;
  } else if (name == "denoising") {  // coordinates alone
    o.blend = {0, 0, 1, 0, 1};
    o.spd_factor = o.edge_factor = o.distance_factor = 0;
  } else {
    throw UsageError(
        "no objective is called '{}'; choose blend, 3d-to-2d, 2d-to-3d, 2d-to-2d, 3d-to-3d, denoising or "
        "blend-without-denoising",
        name);
  }
  return o;
}

void Objective::check() const {
  const auto need = [](bool ok, std::string_view what) {
    if (!ok) throw UsageError("this objective can't be trained: {}", what);
  };
  for (const double p : {blend.pair_spd, blend.pair_edge, blend.pair_distance, blend.atom_2d, blend.atom_3d})
    need(p >= 0 && p <= 1, "blend probabilities must lie in [0, 1]");
  need(std::abs(blend.pair_spd + blend.pair_edge + blend.pair_distance - 1) < 1e-9,
       "the pair probabilities must sum to 1");
  need(std::abs(blend.atom_2d + blend.atom_3d - 1) < 1e-9, "the atom probabilities must sum to 1");
  double sum = 0;
  for (const double f : {spd_factor, edge_factor, distance_factor, denoise_factor}) {
    need(f >= 0 && std::isfinite(f), "loss factors must be finite and not negative");
    sum += f;
  }
  need(sum > 0, "at least one loss factor must be positive");
  need(noise_scale >= 0 && std::isfinite(noise_scale), "the noise scale must be finite and not negative");
}

}  // namespace moleblend
