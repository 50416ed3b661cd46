#pragma once
// Answers for a stream of molecules, written as they come.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "engine/evaluation/stream_summary.h"
#include "engine/property/predictor.h"
#include "io/prepare/molecule_source.h"

namespace moleblend {

struct PredictionOptions {
  std::int64_t batch_atoms = kPassAtoms;  // a forward pass
  std::filesystem::path output;           // CSV
  bool quiet = false;
  std::function<int()> stopped;  // as open_molecule_files() takes it; may be empty
};

/// A line for each record, in the order of the source: identifier, smiles, for each target its answer (probability, or value in its unit)
/// and with several members their standard deviation (`<column> spread`, n − 1), then `error`, empty but for refused records, which have
/// no answers. The mean over the members is the answer. The file appears at the end, or not at all. Memory does not grow with the number
/// of records. Throws Interrupted after a signal, Error if nothing could be answered, and what source and files throw.
StreamSummary predict(const std::vector<Predictor::Member>& members, MoleculeSource& source,
                      const PredictionOptions& options);

}  // namespace moleblend
