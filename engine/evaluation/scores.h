#pragma once
// How well relations are recovered, from the sums that the model reports.

#include <nlohmann/json_fwd.hpp>

#include "engine/model/model.h"

namespace moleblend {

/// Means over everything that a PretrainResult counted; NaN where it counted nothing.
struct Scores {
  double spd_loss, edge_loss, distance_loss, denoise_loss;
  double total;  // weighted by the objective's factors, parts without targets left out
  double spd_accuracy, edge_accuracy;
  double distance;  // mean |predicted − true| in Å (target distance) or mean cosine (displacement)
  double denoise_cosine;
};
Scores scores(const PretrainResult& sum, const Objective& objective);

/// As the `valid` object of metrics.jsonl: loss, loss_spd, loss_edge, loss_3d, loss_denoise, spd_accuracy,
/// edge_accuracy, distance_mae or direction_cosine, denoise_cosine; without what has no targets.
nlohmann::ordered_json to_json(const Scores& scores, DistanceTarget target);

/// Adds key and value unless the value is NaN (nothing was counted).
void put_if_known(nlohmann::ordered_json& json, const char* key, double value);

}  // namespace moleblend
