// The settings as JSON: how they stand in a checkpoint, and how two of them differ.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "engine/training/settings.h"

namespace moleblend {
namespace {
using Json = nlohmann::ordered_json;

constexpr std::string_view name_of(DistanceTarget target) {
  return target == DistanceTarget::distance ? "distance" : "displacement";
}
}  // namespace

Json to_json(const ModelConfig& c) {
  return {{"name", c.name},
          {"layers", c.layers},
          {"width", c.width},
          {"heads", c.heads},
          {"ffn", c.ffn},
          {"kernels", c.kernels},
          {"distance_hidden", c.distance_hidden},
          {"target", name_of(c.target)},
          {"reference_language_head", c.reference_language_head},
          {"tasks", c.tasks},
          {"with_distance", c.with_distance},
          {"attention_dropout", c.attention_dropout},
          {"activation_dropout", c.activation_dropout},
          {"hidden_dropout", c.hidden_dropout},
          {"drop_path", c.drop_path}};
}

ModelConfig model_config_from(const Json& j) {
  ModelConfig c;
  j.at("name").get_to(c.name);
  j.at("layers").get_to(c.layers);
  j.at("width").get_to(c.width);
  j.at("heads").get_to(c.heads);
  j.at("ffn").get_to(c.ffn);
  j.at("kernels").get_to(c.kernels);
  j.at("distance_hidden").get_to(c.distance_hidden);
  c.target = j.at("target").get<std::string>() == name_of(DistanceTarget::distance) ? DistanceTarget::distance
                                                                                    : DistanceTarget::displacement;
  j.at("reference_language_head").get_to(c.reference_language_head);
  j.at("tasks").get_to(c.tasks);
  j.at("with_distance").get_to(c.with_distance);
  j.at("attention_dropout").get_to(c.attention_dropout);
  j.at("activation_dropout").get_to(c.activation_dropout);
  j.at("hidden_dropout").get_to(c.hidden_dropout);
  j.at("drop_path").get_to(c.drop_path);
  return c;
}

Json to_json(const Objective& o) {
  return {{"name", o.name},
          {"pair_spd", o.blend.pair_spd},
          {"pair_edge", o.blend.pair_edge},
          {"pair_distance", o.blend.pair_distance},
          {"atom_2d", o.blend.atom_2d},
          {"atom_3d", o.blend.atom_3d},
          {"spd_factor", o.spd_factor},
          {"edge_factor", o.edge_factor},
          {"distance_factor", o.distance_factor},
          {"denoise_factor", o.denoise_factor},
          {"noise_scale", o.noise_scale}};
}

Objective objective_from(const Json& j) {
  Objective o;
  j.at("name").get_to(o.name);
  j.at("pair_spd").get_to(o.blend.pair_spd);
  j.at("pair_edge").get_to(o.blend.pair_edge);
  j.at("pair_distance").get_to(o.blend.pair_distance);
  j.at("atom_2d").get_to(o.blend.atom_2d);
  j.at("atom_3d").get_to(o.blend.atom_3d);
  j.at("spd_factor").get_to(o.spd_factor);
  j.at("edge_factor").get_to(o.edge_factor);
  j.at("distance_factor").get_to(o.distance_factor);
  j.at("denoise_factor").get_to(o.denoise_factor);
  j.at("noise_scale").get_to(o.noise_scale);
  return o;
}

Json to_json(const PretrainSettings& s) {
  Json json = {{"model", to_json(s.model)},
               {"objective", to_json(s.objective)},
               {"schedule", name_of(s.schedule.decay)},
               {"lr", s.schedule.peak},
               {"steps", s.schedule.steps},
               {"warmup", s.schedule.warmup},
               {"final_lr", s.schedule.floor},
               {"beta1", s.adam.beta1},
               {"beta2", s.adam.beta2},
               {"adam_epsilon", s.adam.epsilon},
               {"weight_decay", s.adam.weight_decay},
               {"clip", s.adam.clip_norm},
               {"seed", s.loader.seed},
               {"batch_size", s.loader.batch_size},
               {"micro_batch_atoms", s.loader.micro_batch_atoms},
               {"micro_batches", s.loader.micro_batches},
               {"shuffle", s.loader.shuffle},
               {"use_positions", s.loader.use_positions},
               {"random_conformer", s.loader.random_conformer},
               {"reference_values", s.reference_values},
               {"init", s.init},
               {"valid_fraction", s.valid_fraction},
               {"split", kSplitRule},
               {"precision", s.place.precision}};
  if (s.skip_spikes) json["skip_spikes_above"] = s.spike_z;  // runs of before there was such a thing go on
  return json;
}

std::string first_difference(const Json& here, const Json& there) {
  for (const auto& [key, value] : here.items()) {
    if (!there.contains(key)) return fmt::format("{} is {} here and missing there", key, value.dump());
    const Json& other = there.at(key);
    if (value.is_object() && other.is_object()) {
      if (std::string inner = first_difference(value, other); !inner.empty()) return inner;
    } else if (value != other) {
      return fmt::format("{} is {} here and {} there", key, value.dump(), other.dump());
    }
  }
  for (const auto& [key, value] : there.items())
    if (!here.contains(key)) return fmt::format("{} is missing here and {} there", key, value.dump());
  return {};
}

}  // namespace moleblend
