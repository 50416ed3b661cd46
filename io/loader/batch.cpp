#include "io/loader/batch.h"

#include <algorithm>
#include <cmath>

#include "io/support/error.h"

namespace moleblend {
namespace {

/// The n × 3 positions of conformer `chosen`, or none: -1, no conformers, or a coordinate that is not finite.
std::span<const float> positions_of(const Molecule& molecule, std::int64_t chosen) {
  if (chosen < 0 || molecule.conformers == 0) return {};
  const std::size_t count = 3 * molecule.size();
  const std::size_t conformer = static_cast<std::uint64_t>(chosen) % molecule.conformers;
  const std::span<const float> positions = std::span(molecule.positions).subspan(conformer * count, count);
  const bool finite = std::all_of(positions.begin(), positions.end(), [](float x) { return std::isfinite(x); });
  return finite ? positions : std::span<const float>();
}

}  // namespace

void Batch::clear() {
  for (auto* offsets : {&atom_offset, &pair_offset, &token_pair_offset}) offsets->assign(1, 0);
  index.clear();
  key.clear();
  has_positions.clear();
  labels.clear();
  label_count = 0;
  atom_codes.clear();
  degree.clear();
  positions.clear();
  position_known.clear();
  spd.clear();
  path.clear();
}

void Batch::add(const Molecule& molecule, std::uint64_t molecule_index, std::uint64_t molecule_key,
                std::int64_t conformer, RelationScratch& scratch) {
  const std::size_t n = molecule.size();
  const auto labels_here = static_cast<std::int64_t>(molecule.labels.size());
  if (index.empty()) label_count = labels_here;
  if (labels_here != label_count)
    throw Error("molecule {} has {} labels where its batch has {}; prepare the data set again", molecule.identifier,
                labels_here, label_count);

  degree.resize(degree.size() + n);
  spd.resize(spd.size() + n * n);
  path.resize(path.size() + n * n * kPathHops);
  relations(n, molecule.bonds, spd.data() + spd.size() - n * n, path.data() + path.size() - n * n * kPathHops,
            degree.data() + degree.size() - n, scratch);

  for (const AtomCodes& codes : molecule.atoms) atom_codes.insert(atom_codes.end(), codes.begin(), codes.end());
  const std::span<const float> known = positions_of(molecule, conformer);
  if (known.empty()) {
    positions.resize(positions.size() + 3 * n, 0.0f);
  } else {
    positions.insert(positions.end(), known.begin(), known.end());
  }
  position_known.resize(position_known.size() + n, !known.empty());
  has_positions.push_back(!known.empty());
  labels.insert(labels.end(), molecule.labels.begin(), molecule.labels.end());
  index.push_back(molecule_index);
  key.push_back(molecule_key);
  const auto count = static_cast<std::int64_t>(n);
  atom_offset.push_back(atom_offset.back() + count);
  pair_offset.push_back(pair_offset.back() + count * count);
  token_pair_offset.push_back(token_pair_offset.back() + (count + 1) * (count + 1));
}

}  // namespace moleblend
