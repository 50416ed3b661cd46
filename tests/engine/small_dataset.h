#pragma once
// A small data set made by hand: chains and rings of carbon, nitrogen and oxygen, some with positions.

#include <cmath>
#include <filesystem>
#include <string>

#include "io/dataset/dataset_writer.h"
#include "io/dataset/shard_writer.h"

namespace moleblend::testing {

/// Molecule k has 3 + k % 6 atoms; every fourth one has no positions. `salt` changes the content (and the fingerprint).
inline Molecule small_molecule(int k, int salt = 0) {
  Molecule m;
  m.identifier = "molecule-" + std::to_string(k);
  m.smiles = "?";
  const int n = 3 + k % 6;
  const bool ring = n >= 5 && k % 2 == 0;
  for (int i = 0; i < n; ++i) {
    const auto element = static_cast<std::uint8_t>((i * 7 + k + salt) % 5 == 0 ? 7
                                                   : (i + k) % 4 == 0          ? 6
                                                                               : 5);  // O, N, C
    const auto degree = static_cast<std::uint8_t>(ring || (i > 0 && i + 1 < n) ? 2 : 1);
    m.atoms.push_back({element, 0, degree, 5, 1, 0, 1, 0, static_cast<std::uint8_t>(ring)});
    if (i + 1 < n || ring)
      m.bonds.push_back({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>((i + 1) % n),
                         static_cast<std::uint8_t>((i + k) % 3 == 0), 0, 0});
  }
  m.source_record = static_cast<std::uint64_t>(k);
  if (k % 4 == 3) return m;
  m.conformer_source = ConformerSource::file;
  m.conformers = 1;
  for (int i = 0; i < n; ++i) {
    // A ring lies in the plane, a chain zigzags; both with bonds near 1.4 Å.
    const double angle = 2 * 3.14159265 * i / n, radius = 0.7 / std::sin(3.14159265 / n);
    m.positions.push_back(static_cast<float>(ring ? radius * std::cos(angle) : 1.2 * i));
    m.positions.push_back(static_cast<float>(ring ? radius * std::sin(angle) : 0.7 * (i % 2)));
    m.positions.push_back(static_cast<float>(0.05 * ((i * 3 + k) % 4)));
  }
  return m;
}

inline void write_small_dataset(const std::filesystem::path& folder, int molecules, int salt = 0) {
  std::filesystem::create_directories(folder);
  ShardWriter writer(folder, 0, 0);
  for (int k = 0; k < molecules; ++k) writer.add(small_molecule(k, salt));
  writer.finish();
  DatasetDescription description;
  description.sources.emplace_back().path = "made by hand";
  description.program_version = "test";
  write_dataset_json(folder, description);
}

}  // namespace moleblend::testing
