#pragma once
// What the encoder makes of molecules, written as they come: rows of numbers, and an index that says whose they are.

#include <cstdint>
#include <filesystem>
#include <functional>

#include "engine/evaluation/stream_summary.h"
#include "engine/model/model.h"
#include "io/prepare/molecule_source.h"

namespace moleblend {

struct EmbeddingOptions {
  EncodeStep step;
  std::int64_t batch_atoms = 1024;      // a forward pass
  std::filesystem::path output, index;  // .npy and .csv
  bool quiet = false;                   // no progress line
  std::function<int()> stopped;         // as open_molecule_files() takes it; may be empty
};

struct EmbeddingSummary : StreamSummary {
  std::uint64_t rows = 0, dimensions = 0;  // of the matrix
};

/// Writes a row of float32 for each molecule (with a read-out) or each atom, in the order of the source, and an index with a line for
/// each record: `row` (its first one, from 0), `atoms`, `identifier`, `smiles`, `shown` (2d, 3d or both) and `error`. A refused record has
/// no row, and its `row`, `atoms` and `shown` are empty. A molecule without positions is refused where only 3D is shown, and embedded from
/// 2D where both are. Both files appear at the end, or not at all.
///
/// The same model, source and options give the same bytes; how molecules fall into batches changes no more than the rounding. Throws
/// UsageError for 3D of a model that knows none, Error if not one molecule could be embedded, and what the source and the files throw.
EmbeddingSummary embed(Model& model, MoleculeSource& source, const EmbeddingOptions& options);

}  // namespace moleblend
