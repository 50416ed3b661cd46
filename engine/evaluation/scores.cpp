#include "engine/evaluation/scores.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace moleblend {

Scores scores(const PretrainResult& sum, const Objective& objective) {
  const auto mean = [](double total, std::int64_t count) {
    return count > 0 ? total / static_cast<double>(count) : std::numeric_limits<double>::quiet_NaN();
  };
  Scores s{};
  s.spd_loss = mean(sum.spd_detail.loss, sum.spd_detail.count);
  s.edge_loss = mean(sum.edge_detail.loss, sum.edge_detail.count);
  s.distance_loss = mean(sum.distance_detail.loss, sum.distance_detail.count);
  s.denoise_cosine = mean(sum.denoise_cosine, sum.denoise_atoms);
  s.denoise_loss = 1 - s.denoise_cosine;
  s.spd_accuracy = mean(static_cast<double>(sum.spd_detail.correct), sum.spd_detail.count);
  s.edge_accuracy = mean(static_cast<double>(sum.edge_detail.correct), sum.edge_detail.count);
  s.distance = mean(sum.distance_detail.pair_error, sum.distance_detail.pairs);
  const auto part = [](double factor, double loss, std::int64_t count) { return count > 0 ? factor * loss : 0; };
  s.total = part(objective.spd_factor, s.spd_loss, sum.spd_detail.count) +
            part(objective.edge_factor, s.edge_loss, sum.edge_detail.count) +
            part(objective.distance_factor, s.distance_loss, sum.distance_detail.count) +
            part(objective.denoise_factor, s.denoise_loss, sum.denoise_atoms);
  return s;
}

void put_if_known(nlohmann::ordered_json& json, const char* key, double value) {
  if (!std::isnan(value)) json[key] = value;
}

nlohmann::ordered_json to_json(const Scores& s, DistanceTarget target) {
  nlohmann::ordered_json json;
  json["loss"] = s.total;
  put_if_known(json, "loss_spd", s.spd_loss);
  put_if_known(json, "loss_edge", s.edge_loss);
  put_if_known(json, "loss_3d", s.distance_loss);
  put_if_known(json, "loss_denoise", s.denoise_loss);
  put_if_known(json, "spd_accuracy", s.spd_accuracy);
  put_if_known(json, "edge_accuracy", s.edge_accuracy);
  put_if_known(json, target == DistanceTarget::distance ? "distance_mae" : "direction_cosine", s.distance);
  put_if_known(json, "denoise_cosine", s.denoise_cosine);
  return json;
}

}  // namespace moleblend
