#pragma once
// Answers for a stream of molecules, written as they come.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/property/predictor.h"
#include "io/prepare/molecule_source.h"

namespace moleblend {

struct PredictionOptions {
  std::int64_t batch_atoms = 2048;  // a forward pass
  std::filesystem::path output;     // CSV
  bool quiet = false;
  std::function<int()> stopped;  // as open_molecule_files() takes it; may be empty
};

struct PredictionSummary {
  std::uint64_t records = 0, predicted = 0, refused = 0;
  std::uint64_t without_3d = 0;                  // answered from 2D alone although 3D was to be shown too
  std::map<std::string, std::uint64_t> reasons;  // of refusal; numbers in them stand as N
  std::vector<std::string> remarks;              // of the source
  double seconds = 0;
};

/// A line for each record, in the order of the source: identifier, smiles, for each target its answer (probability, or value in its unit)
/// and with several members their standard deviation (`<column> spread`, n − 1), then `error`, empty but for refused records, which have
/// no answers. The mean over the members is the answer. The file appears at the end, or not at all. Memory does not grow with the number
/// of records. Throws Interrupted after a signal, Error if nothing could be answered, and what source and files throw.
PredictionSummary predict(const std::vector<Predictor::Member>& members, MoleculeSource& source,
                          const PredictionOptions& options);

}  // namespace moleblend
