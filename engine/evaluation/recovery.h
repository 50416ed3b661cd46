#pragma once
// How well a pretrained network recovers each relation from each visible input, beside trivial baselines (METHOD section 5).

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/evaluation/lookup.h"
#include "engine/evaluation/scores.h"
#include "engine/model/model.h"
#include "io/dataset/dataset.h"
#include "io/loader/loader.h"

namespace moleblend {

struct RecoveryOptions {
  std::uint64_t seed = 1;              // of draws and noise
  int draws = 1;                       // independent sets of draws, pooled
  std::int64_t batch_atoms = 1024;     // atoms a forward pass
  std::uint64_t fit_molecules = 5000;  // training molecules that the baselines are fitted on, at most
};

/// One visible input.
struct InputRecovery {
  std::string key, title;  // "2d", "2D only"
  bool shows_3d = false;   // atoms draw 3D: there is a denoising score
  Scores model;
  BaselineSum constant, lookup;
};

struct Recovery {
  std::uint64_t molecules = 0;  // evaluated: those with positions, where any has
  std::uint64_t left_out = 0;   // without positions: they show all of 2D in every mode, which would blur the comparison
  std::uint64_t fitted = 0;     // molecules that the baselines come from
  std::vector<InputRecovery> inputs;  // 2D only, 3D only, blended; 2D only alone where no molecule has positions
};

/// Evaluates `part`; the baselines come from `train`. `blend` and `noise_scale` are those of the run. No dropout, no gradients; the same
/// arguments give the same figures.
Recovery recover(Model& model, const Dataset& data, const Subset& part, const Subset& train, const Objective& trained,
                 const RecoveryOptions& options);

/// A table for people: model, constant and look-up for each input and target, with a tick beside each baseline that the
/// model beats and "–" where there is no such score.
std::string table(const Recovery& recovery, DistanceTarget target);
/// Keys: inputs 2d, 3d, blend; in each spd_accuracy, edge_accuracy, distance_mae or direction_cosine, denoise_cosine; in each model,
/// constant, lookup.
nlohmann::ordered_json to_json(const Recovery& recovery, DistanceTarget target);

}  // namespace moleblend
