#include "engine/evaluation/embedding.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <vector>

#include "io/loader/molecule_batches.h"
#include "io/prepare/reader_pool.h"
#include "io/prepare/reasons.h"
#include "io/support/csv.h"
#include "io/support/error.h"
#include "io/support/npy.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

std::string_view shown_text(bool shows_2d, bool shows_3d) {
  return shows_2d && shows_3d ? "both" : shows_3d ? "3d" : "2d";
}

/// One run, batch by batch.
class Embedding {
 public:
  Embedding(Model& model, const EmbeddingOptions& options)
      : model_(model),
        options_(options),
        matrix_(options.output, static_cast<std::uint64_t>(model.config().width)),
        index_(options.index) {
    summary_.dimensions = static_cast<std::uint64_t>(model.config().width);
    index_.write(csv_row({"row", "atoms", "identifier", "smiles", "shown", "error"}));
  }

  void add(const MoleculeBatch& batch) {
    if (batch.batch.molecules() > 0) {
      model_.encode(batch.batch, options_.step, values_);
      check_finite(batch);
    }
    std::size_t molecule = 0;
    for (const SourcedMolecule& item : batch.items) {
      ++summary_.records;
      if (item.kept)
        add_molecule(item, batch.batch.has_positions[molecule++] != 0);
      else
        add_refused(item);
    }
    if (batch.batch.molecules() > 0) matrix_.add(values_);
  }

  /// Makes the files appear: the matrix last, so that where it is the index is too.
  EmbeddingSummary finish() {
    if (summary_.molecules == 0) {
      throw Error(
          "none of {} records could be embedded (most often: {}); mend the input, and build missing positions with "
          "--conformers",
          count_text(summary_.records), most_frequent(summary_.reasons));
    }
    summary_.rows = matrix_.rows();
    index_.commit();
    matrix_.commit();
    return summary_;
  }

  const EmbeddingSummary& summary() const { return summary_; }

 private:
  void add_molecule(const SourcedMolecule& item, bool has_positions) {
    const EncodeStep& step = options_.step;
    const bool shows_3d = step.show_3d && has_positions, shows_2d = step.show_2d || !shows_3d;
    ++summary_.molecules;
    if (step.show_3d && !has_positions) ++summary_.without_3d;
    index_.write(
        csv_row({fmt::format("{}", next_row_), fmt::format("{}", item.molecule.size()), item.molecule.identifier,
                 item.molecule.smiles, std::string(shown_text(shows_2d, shows_3d)), ""}));
    next_row_ += step.readout ? 1 : item.molecule.size();
  }
  void add_refused(const SourcedMolecule& item) {
    ++summary_.refused;
    count_reason(summary_.reasons, item.reason);
    index_.write(csv_row({"", "", item.molecule.identifier, item.molecule.smiles, "", item.reason}));
  }
  void check_finite(const MoleculeBatch& batch) const {
    // The sum of finite floats is finite in double, and no other sum is.
    double sum = 0;
    for (const float value : values_) sum += value;
    if (!(sum - sum == 0))
      throw Error(
          "the encoder gave a number that is not finite, for a molecule among records {} to {} of the input; check the "
          "checkpoint with `moleblend inspect`",
          batch.items.front().number, batch.items.back().number);
  }

  Model& model_;
  const EmbeddingOptions& options_;
  NpyWriter matrix_;
  AtomicFile index_;
  EmbeddingSummary summary_;
  std::uint64_t next_row_ = 0;
  std::vector<float> values_;
};

std::string state_text(const EmbeddingSummary& summary, double seconds) {
  const double rate = static_cast<double>(summary.molecules) / std::max(seconds, 1e-3);
  return fmt::format("{} molecules, {}/s, {} refused", count_text(summary.molecules),
                     rate < 10 ? fmt::format("{:.1f}", rate) : count_text(static_cast<std::uint64_t>(rate)),
                     count_text(summary.refused));
}

}  // namespace

EmbeddingSummary embed(Model& model, MoleculeSource& source, const EmbeddingOptions& options) {
  if (options.step.show_3d && !model.config().with_distance)
    throw UsageError("this model was trained on 2D alone and has no distance encoding; use --show 2d");
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };

  Embedding embedding(model, options);
  const MoleculeSource::Progress all = source.progress();
  Progress progress("embed", all.total, all.unit, options.quiet);
  MoleculeBatches batches(source, {.batch_atoms = options.batch_atoms,
                                   .positions = options.step.show_3d,
                                   .require_positions = options.step.show_3d && !options.step.show_2d});
  while (const MoleculeBatch* batch = batches.next()) {
    if (const int signal = options.stopped ? options.stopped() : 0; signal != 0)
      throw Interrupted("stopped by signal {} before the end; nothing was written", signal);
    embedding.add(*batch);
    progress.update(batch->progress.done, state_text(embedding.summary(), seconds()));
  }
  progress.finish(state_text(embedding.summary(), seconds()));
  EmbeddingSummary summary = embedding.finish();
  summary.remarks = source.remarks();
  summary.seconds = seconds();
  return summary;
}

}  // namespace moleblend
