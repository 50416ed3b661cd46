#pragma once
// Molecules as evaluation sees them: always in the same order, with the same draws, the first conformer and no
// shuffling.

#include <cstdint>
#include <vector>

#include "io/dataset/dataset.h"
#include "io/loader/batch.h"
#include "io/loader/loader.h"

namespace moleblend {

/// Packs the molecules of a subset one batch after another. `draw` numbers independent sets of draws (0 for
/// validation).
class FixedBatches {
 public:
  /// Batches of at most `atoms` atoms (a larger molecule stands alone).
  FixedBatches(const Dataset& data, const Subset& subset, std::uint64_t seed, std::uint64_t draw = 0,
               std::int64_t atoms = 1024);

  /// False when all molecules were given.
  bool next(Batch& out);

 private:
  const Dataset& data_;
  Subset subset_;
  std::uint64_t seed_, draw_;
  std::int64_t atoms_;
  std::size_t position_ = 0;
  MoleculeView molecule_;
  RelationScratch scratch_;
};

/// At most `count` molecules of a subset, chosen by `seed`, in ascending order.
Subset sample(const Subset& subset, std::uint64_t count, std::uint64_t seed);

/// Names the molecules of a part: the data set, and the rule or the list that chooses them. Printed with each result.
std::string fingerprint(const Dataset& data, const Subset& subset);

}  // namespace moleblend
