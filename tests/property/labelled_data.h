#pragma once
// A small labelled data set made by hand: chains and rings, whose labels are properties that their graphs or positions show.

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "io/dataset/dataset_writer.h"
#include "io/dataset/shard_writer.h"
#include "tests/engine/small_dataset.h"

namespace moleblend::testing {

/// Labels of molecule k: its share of atoms that are not carbon (in percent), whether it is a ring, and 7 for all.
/// The first is missing for every ninth molecule, the second for every seventh; molecule 5 has none.
inline std::vector<double> labels_of(const Molecule& molecule, int k) {
  constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
  double others = 0;
  for (const AtomCodes& atom : molecule.atoms) others += atom[0] != 5;
  const bool ring = molecule.bonds.size() == molecule.atoms.size();
  if (k == 5) return {kMissing, kMissing, kMissing};
  return {k % 9 == 8 ? kMissing : 100 * others / static_cast<double>(molecule.atoms.size()),
          k % 7 == 6 ? kMissing : static_cast<double>(ring), 7};
}

inline void write_labelled_dataset(const std::filesystem::path& folder, int molecules) {
  std::filesystem::create_directories(folder);
  ShardWriter writer(folder, 0, 3);
  for (int k = 0; k < molecules; ++k) {
    Molecule molecule = small_molecule(k);
    molecule.labels = labels_of(molecule, k);
    writer.add(molecule);
  }
  writer.finish();
  DatasetDescription description;
  description.labels = {"hetero", "ring", "seven"};
  description.sources.emplace_back().path = "made by hand";
  description.program_version = "test";
  write_dataset_json(folder, description);
}

}  // namespace moleblend::testing
