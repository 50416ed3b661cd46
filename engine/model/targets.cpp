// What a batch's losses are averaged over.

#include "engine/model/model.h"
#include "kernels/denoise_head/denoise_head.h"

namespace moleblend {

TargetCounts& TargetCounts::operator+=(const TargetCounts& o) {
  spd_pairs += o.spd_pairs;
  edge_hops += o.edge_hops;
  distance_molecules += o.distance_molecules;
  denoise_atoms += o.denoise_atoms;
  return *this;
}

PretrainResult& PretrainResult::operator+=(const PretrainResult& o) {
  spd += o.spd;
  edge += o.edge;
  distance += o.distance;
  denoise += o.denoise;
  total += o.total;
  const auto add = [](PairLossResult& a, const PairLossResult& b) {
    a.loss += b.loss;
    a.count += b.count;
    a.correct += b.correct;
    a.pairs += b.pairs;
    a.pair_error += b.pair_error;
  };
  add(spd_detail, o.spd_detail);
  add(edge_detail, o.edge_detail);
  add(distance_detail, o.distance_detail);
  denoise_cosine += o.denoise_cosine;
  denoise_atoms += o.denoise_atoms;
  return *this;
}

namespace {

/// Whether any two different atoms of the molecule have known, different positions.
bool has_valid_pair(const Batch& batch, std::int64_t b) {
  std::int64_t first = -1;
  for (std::int64_t i = batch.atom_offset[b]; i < batch.atom_offset[b + 1]; ++i) {
    if (!batch.position_known[i]) continue;
    if (first < 0) {
      first = i;
      continue;
    }
    const float *x = &batch.positions[3 * first], *y = &batch.positions[3 * i];
    if (x[0] != y[0] || x[1] != y[1] || x[2] != y[2]) return true;
  }
  return false;
}

}  // namespace

TargetCounts count_targets(const Batch& batch, std::span<const std::uint8_t> atom_visible) {
  TargetCounts counts;
  for (const std::uint16_t s : batch.spd) counts.spd_pairs += spd_class(s) >= 0;
  for (const std::uint8_t code : batch.path) counts.edge_hops += edge_class(code) >= 0;
  for (std::int64_t b = 0; b < batch.molecules(); ++b) {
    if (!batch.has_positions[b]) continue;
    counts.distance_molecules += has_valid_pair(batch, b);
    for (std::int64_t i = batch.atom_offset[b]; i < batch.atom_offset[b + 1]; ++i)
      counts.denoise_atoms += asks_for_noise(batch.packed().atoms_of(b), atom_visible[i], batch.position_known[i]);
  }
  return counts;
}

TargetCounts count_targets(const Batch& batch, const Objective& objective) {
  // The draws of the atoms alone cost next to nothing; one thread, since batches are counted by the loader's consumer.
  Cpu cpu(1);
  std::vector<std::uint8_t> atom_visible(static_cast<std::size_t>(batch.atoms()));
  draw_modalities(cpu, {.packed = batch.packed(),
                        .molecule_key = batch.key.data(),
                        .has_positions = batch.has_positions.data(),
                        .blend = objective.blend,
                        .pair_visible = nullptr,
                        .atom_visible = atom_visible.data()});
  return count_targets(batch, atom_visible);
}

}  // namespace moleblend
