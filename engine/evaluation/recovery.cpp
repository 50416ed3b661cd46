#include "engine/evaluation/recovery.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/evaluation/fixed_batches.h"
#include "io/support/error.h"
#include "kernels/random/draws.h"

namespace moleblend {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// Positions as the network is shown them.
std::vector<float> noisy_positions(const Batch& batch, double scale) {
  Cpu cpu(1);
  std::vector<float> positions(batch.positions.size());
  draw_noise(cpu, {.packed = batch.packed(),
                   .molecule_key = batch.key.data(),
                   .has_positions = batch.has_positions.data(),
                   .position_known = batch.position_known.data(),
                   .scale = static_cast<float>(scale),
                   .noise = positions.data()});
  for (std::size_t k = 0; k < positions.size(); ++k) positions[k] += batch.positions[k];
  return positions;
}

std::vector<std::uint8_t> visible_pairs(const Batch& batch, const Blend& blend) {
  Cpu cpu(1);
  std::vector<std::uint8_t> visible(batch.spd.size());
  draw_modalities(cpu, {.packed = batch.packed(),
                        .molecule_key = batch.key.data(),
                        .has_positions = batch.has_positions.data(),
                        .blend = blend,
                        .pair_visible = visible.data(),
                        .atom_visible = nullptr});
  return visible;
}

Subset those_with_positions(const Dataset& data, const Subset& part) {
  if (data.info().with_positions == data.size()) return part;
  std::vector<std::uint64_t> kept;
  if (data.info().with_positions == 0) return kept;
  MoleculeView molecule;
  for (const std::uint64_t index : part) {
    data.view(index, molecule);
    if (molecule.conformers > 0) kept.push_back(index);
  }
  return kept;
}

struct Mode {
  const char *key, *title;
  Blend blend;
};

double ratio(double a, std::int64_t b) {
  return b > 0 ? a / static_cast<double>(b) : kNone;
}

std::string number(double x) {
  return std::isnan(x) ? std::string("–") : fmt::format("{:.3f}", x);
}

/// One line of the result.
struct Line {
  const char *key, *title;
  double model, constant, lookup;
  bool higher_is_better;
  /// A baseline as it stands in the table, with a tick where the model beats it; NaN beats nothing.
  std::string beside(double baseline) const {
    const bool beaten = higher_is_better ? model > baseline : model < baseline;
    return fmt::format("{:>9} {}", number(baseline), beaten ? "✓" : " ");
  }
};

std::vector<Line> lines(const InputRecovery& r, DistanceTarget target) {
  const BaselineSum &c = r.constant, &l = r.lookup;
  std::vector<Line> all{
      {"spd_accuracy", "SPD accuracy", r.model.spd_accuracy, ratio(static_cast<double>(c.spd_correct), c.spd_pairs),
       ratio(static_cast<double>(l.spd_correct), l.spd_pairs), true},
      {"edge_accuracy", "edge accuracy", r.model.edge_accuracy, ratio(static_cast<double>(c.edge_correct), c.edge_hops),
       ratio(static_cast<double>(l.edge_correct), l.edge_hops), true}};
  const bool has_3d = c.distance_pairs > 0;
  if (target == DistanceTarget::distance)
    all.push_back({"distance_mae", "distance MAE (Å)", r.model.distance, ratio(c.distance_error, c.distance_pairs),
                   ratio(l.distance_error, l.distance_pairs), false});
  else
    all.push_back({"direction_cosine", "direction cosine", r.model.distance, has_3d ? 0 : kNone, kNone, true});
  all.push_back({"denoise_cosine", "denoising cosine", r.shows_3d ? r.model.denoise_cosine : kNone,
                 r.shows_3d ? 0 : kNone, kNone, true});
  return all;
}

}  // namespace

Recovery recover(Model& model, const Dataset& data, const Subset& part, const Subset& train, const Objective& trained,
                 const RecoveryOptions& options) {
  if (part.empty()) throw Error("there is no molecule to evaluate; choose another --part or data set");
  Recovery recovery;
  Subset chosen = those_with_positions(data, part);
  const bool has_3d = !chosen.empty();
  if (!has_3d) chosen = part;
  recovery.molecules = chosen.size();
  recovery.left_out = part.size() - chosen.size();

  const Subset fitting = sample(train, options.fit_molecules, options.seed);
  recovery.fitted = fitting.size();
  LookupTables tables;
  Batch batch;
  for (FixedBatches batches(data, fitting, options.seed, 0, options.batch_atoms); batches.next(batch);)
    tables.fit(batch, noisy_positions(batch, trained.noise_scale));
  tables.finish();

  const Mode modes[] = {
      {"2d", "2D only", {0.5, 0.5, 0, 1, 0}}, {"3d", "3D only", {0, 0, 1, 0, 1}}, {"blend", "blended", trained.blend}};
  for (const Mode& mode : modes) {
    if (!has_3d && &mode != modes) break;
    Objective objective = trained;
    objective.blend = mode.blend;
    InputRecovery input{mode.key, mode.title, mode.blend.atom_3d > 0, {}, {}, {}};
    PretrainResult sum;
    for (int draw = 0; draw < options.draws; ++draw)
      for (FixedBatches batches(data, chosen, options.seed, static_cast<std::uint64_t>(draw), options.batch_atoms);
           batches.next(batch);) {
        sum += model.pretrain(
            batch,
            {.objective = &objective, .counts = count_targets(batch, objective), .dropout = false, .gradients = false});
        tables.score(batch, visible_pairs(batch, mode.blend), noisy_positions(batch, trained.noise_scale),
                     input.constant, input.lookup);
      }
    input.model = scores(sum, objective);
    recovery.inputs.push_back(std::move(input));
  }
  return recovery;
}

std::string table(const Recovery& recovery, DistanceTarget target) {
  std::string text =
      fmt::format("{:<9} {:<18} {:>8} {:>9}   {:>9}\n", "shown", "recovered", "model", "constant", "look-up");
  for (const InputRecovery& input : recovery.inputs)
    for (const Line& line : lines(input, target))
      text += fmt::format("{:<9} {:<18} {:>8} {} {}\n", input.title, line.title, number(line.model),
                          line.beside(line.constant), line.beside(line.lookup));
  return text;
}

nlohmann::ordered_json to_json(const Recovery& recovery, DistanceTarget target) {
  nlohmann::ordered_json json;
  for (const InputRecovery& input : recovery.inputs) {
    nlohmann::ordered_json& of_input = json[input.key];
    for (const Line& line : lines(input, target)) {
      nlohmann::ordered_json values;
      put_if_known(values, "model", line.model);
      put_if_known(values, "constant", line.constant);
      put_if_known(values, "lookup", line.lookup);
      if (!values.is_null()) of_input[line.key] = values;
    }
  }
  return json;
}

}  // namespace moleblend
