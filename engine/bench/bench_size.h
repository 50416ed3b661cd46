#pragma once
// What the measurements of a network are taken on.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/bench/ceilings.h"
#include "engine/bench/molecules.h"
#include "engine/bench/row.h"
#include "engine/model/make_model.h"
#include "io/loader/batch.h"
#include "kernels/random/philox.h"

namespace moleblend {

struct NetworkBenchOptions {
  ModelConfig config;
  DeviceChoice place;
  MadeUpSizes size = kSmallMolecules;
  std::int64_t batch_size = 128;  // molecules
  double seconds = 3;             // of a training measurement; a kernel's takes a tenth
  Ceilings ceilings = {};         // of the same device and precision
  bool with_memory = true;        // a row of the process' peak, which must not be there twice
};

/// `count` batches of molecules that are all different.
inline std::vector<Batch> made_up_batches(const MadeUpSizes& size, std::int64_t molecules, std::int64_t count,
                                          std::uint64_t seed = 1) {
  const std::vector<Molecule> made =
      random_molecules(static_cast<std::uint64_t>(molecules * count), size.mean_atoms, size.deviation, seed);
  std::vector<Batch> batches(static_cast<std::size_t>(count));
  RelationScratch scratch;
  for (std::size_t k = 0; k < made.size(); ++k)
    batches[k / static_cast<std::size_t>(molecules)].add(made[k], k, molecule_key(seed, 0, k), 0, scratch);
  return batches;
}

}  // namespace moleblend
