#pragma once
// From a stream of molecules to packed batches, one ahead of the device.

#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <vector>

#include "io/loader/batch.h"
#include "io/prepare/molecule_source.h"

namespace moleblend {

struct PackOptions {
  std::int64_t batch_atoms = 1024;  // a batch, at most; a larger molecule stands alone
  bool positions = false;           // the first conformer's go into the batch
  bool require_positions = false;   // refuse a molecule that has none
};

/// A stretch of the source: its records, and the molecules among them that are kept, packed in the same order.
struct MoleculeBatch {
  std::vector<SourcedMolecule> items;
  Batch batch;                        // batch.index: SourcedMolecule::number; may be empty
  MoleculeSource::Progress progress;  // of the source at its end
};

/// Cuts a source into batches. Which molecules are in one depends on the source and the options alone. Another thread makes the next
/// batch while the caller works on one.
class MoleculeBatches {
 public:
  /// The source must outlive it.
  MoleculeBatches(MoleculeSource& source, PackOptions options);

  /// The next batch, valid until the next call; null at the end. Throws what the source does.
  const MoleculeBatch* next();

 private:
  bool fill(MoleculeBatch& out);
  bool pull();
  void start();

  MoleculeSource& source_;
  PackOptions options_;
  RelationScratch scratch_;
  std::optional<SourcedMolecule> waiting_;  // taken from the source, and not yet in a batch
  MoleculeBatch given_, made_;
  std::future<bool> work_;  // on made_; last, so that its end is waited for while the others are there
};

}  // namespace moleblend
