#pragma once
// `moleblend evaluate` of a fine-tuned model: its task's metrics on a labelled data set.

#include <cstdint>
#include <optional>
#include <string>

#include "engine/evaluation/trained_model.h"

namespace moleblend {

struct PropertyEvaluation {
  std::string checkpoint, data,
      part;                // part: train, valid, test or all; empty: test of the data set of the run, else all
  std::uint64_t seed = 1;  // of the intervals
  std::optional<std::int64_t> batch_atoms;  // of a forward pass
  DeviceChoice place;
  bool json = false, quiet = false;
};

/// Whether the path names a fine-tuned model (or a run with some). Throws what find_trained_model does.
bool names_property_model(const std::string& checkpoint);

/// Prints the table or the JSON. Throws UsageError and Error.
void evaluate_property(const PropertyEvaluation& evaluation);

}  // namespace moleblend
