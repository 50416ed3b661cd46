#pragma once
// One training step over again, molecule by molecule, to see which of them does what.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/training/settings.h"
#include "io/dataset/dataset.h"
#include "io/loader/subset.h"
#include "io/support/progress.h"

namespace moleblend {

/// What one molecule of the step adds.
struct ReplayedMolecule {
  std::uint64_t index = 0, key = 0;  // in the data set; of its random draws
  std::string identifier;
  std::int64_t atoms = 0;
  bool has_positions = false;
  double closest = 0,
         farthest = 0;  // distances between atoms in ångström, of the conformer that was drawn; NaN without positions
  PretrainResult result;     // divided by the counts of the whole step: the sum over molecules is the step's
  double gradient_norm = 0;  // of its part of the gradient
};

struct Replay {
  std::vector<ReplayedMolecule> molecules;  // in the order of the step
  PretrainResult result;                    // of the whole step
  double gradient_norm = 0;
};

/// Step number `step`, counted from 0, with the model as it was before: the same molecules, conformers, blends, noise and dropout as in
/// training, of all ranks together. `report` hears of each molecule done. Throws Error.
Replay replay(const Dataset& data, const Split& split, const PretrainSettings& settings, Model& model,
              std::int64_t step, Progress& report);

}  // namespace moleblend
