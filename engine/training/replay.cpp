#include "engine/training/replay.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/loader/loader.h"

namespace moleblend {
namespace {

/// Of a batch of one molecule.
void measure(const Batch& batch, ReplayedMolecule& m) {
  m.closest = m.farthest = std::numeric_limits<double>::quiet_NaN();
  if (!m.has_positions) return;
  double closest = std::numeric_limits<double>::infinity(), farthest = 0;
  for (std::int64_t i = 0; i < m.atoms; ++i)
    for (std::int64_t j = 0; j < i; ++j) {
      double squares = 0;
      for (std::int64_t d = 0; d < 3; ++d) {
        const double difference = static_cast<double>(batch.positions[static_cast<std::size_t>(3 * i + d)]) -
                                  static_cast<double>(batch.positions[static_cast<std::size_t>(3 * j + d)]);
        squares += difference * difference;
      }
      closest = std::min(closest, std::sqrt(squares));
      farthest = std::max(farthest, std::sqrt(squares));
    }
  if (m.atoms > 1) m.closest = closest, m.farthest = farthest;
}

}  // namespace

Replay replay(const Dataset& data, const Split& split, const PretrainSettings& settings, Model& model,
              std::int64_t step, Progress& report) {
  LoaderOptions options = settings.loader;
  options.threads = 1;
  options.micro_batches = 1;
  options.micro_batch_atoms = 1;  // each molecule stands alone
  Loader loader(data, split.train, options, step, step + 1);
  const std::unique_ptr<LoadedStep> loaded = loader.next();
  TargetCounts counts;
  for (const Batch& batch : loaded->micro_batches) counts += count_targets(batch, settings.objective);

  Replay replay;
  const PretrainStep pass{.objective = &settings.objective, .counts = counts};
  Molecule molecule;
  for (const Batch& batch : loaded->micro_batches) {
    data.read(batch.index[0], molecule);
    ReplayedMolecule m{.index = batch.index[0],
                       .key = batch.key[0],
                       .identifier = molecule.identifier,
                       .atoms = batch.atoms(),
                       .has_positions = batch.has_positions[0] != 0,
                       .result = {}};
    measure(batch, m);
    model.zero_gradients();
    m.result = model.pretrain(batch, pass);
    m.gradient_norm = model.gradient_norm();
    replay.molecules.push_back(std::move(m));
    report.update(replay.molecules.size());
  }
  // Once more, for the gradient of all: gradients of single molecules partly cancel.
  model.zero_gradients();
  for (const Batch& batch : loaded->micro_batches) replay.result += model.pretrain(batch, pass);
  replay.gradient_norm = model.gradient_norm();
  return replay;
}

}  // namespace moleblend
