#pragma once
// Batches of made-up molecules for checks of the whole network: connected graphs with rings, real-looking categories,
// positions.

#include <algorithm>
#include <random>

#include "io/loader/batch.h"
#include "kernels/random/philox.h"

namespace moleblend::testing {

/// A random molecule of n atoms: a tree with a few extra bonds; every fifth one in two fragments.
inline Molecule random_molecule(std::size_t n, std::uint64_t seed, bool positions = true) {
  std::mt19937_64 g(seed);
  const auto below = [&](std::uint64_t m) { return static_cast<std::uint32_t>(g() % m); };
  Molecule m;
  for (std::size_t i = 0; i < n; ++i)
    m.atoms.push_back({static_cast<std::uint8_t>(5 + below(4)), static_cast<std::uint8_t>(below(3)),
                       static_cast<std::uint8_t>(below(5)), 5, static_cast<std::uint8_t>(below(4)), 0,
                       static_cast<std::uint8_t>(below(3)), static_cast<std::uint8_t>(below(2)),
                       static_cast<std::uint8_t>(below(2))});
  const auto bond = [&](std::uint32_t i, std::uint32_t j) {
    m.bonds.push_back({i, j, static_cast<std::uint8_t>(below(4)), static_cast<std::uint8_t>(below(3)),
                       static_cast<std::uint8_t>(below(2))});
  };
  for (std::uint32_t i = 1; i < n; ++i)
    if (!(seed % 5 == 0 && i == n / 2)) bond(i, below(i));
  for (std::size_t k = 0; k < n / 5; ++k) {
    const std::uint32_t i = below(n), j = below(n);
    const auto joins = [&](const Bond& b) { return (b.begin == i && b.end == j) || (b.begin == j && b.end == i); };
    if (i != j && std::none_of(m.bonds.begin(), m.bonds.end(), joins)) bond(i, j);
  }
  if (!positions) return m;
  std::normal_distribution<float> x(0, 2);
  for (std::size_t k = 0; k < 3 * n; ++k) m.positions.push_back(x(g));
  m.conformers = 1;
  m.conformer_source = ConformerSource::file;
  return m;
}

inline Batch batch_of(const std::vector<Molecule>& molecules, const std::vector<std::uint64_t>& index,
                      std::uint64_t seed = 1) {
  Batch batch;
  RelationScratch scratch;
  for (const std::uint64_t i : index) batch.add(molecules[i], i, molecule_key(seed, 0, i), 0, scratch);
  return batch;
}

}  // namespace moleblend::testing
