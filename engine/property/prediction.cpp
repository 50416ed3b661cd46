#include "engine/property/prediction.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "io/prepare/reader_pool.h"
#include "io/prepare/reasons.h"
#include "io/support/csv.h"
#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {
namespace {

class Prediction {
 public:
  Prediction(const std::vector<Predictor::Member>& members, const PredictionOptions& options)
      : head_(members.front().head),
        spread_(members.size() > 1),
        predictor_(members, options.batch_atoms),
        file_(options.output) {
    std::vector<std::string> row = {"identifier", "smiles"};
    for (const Target& target : head_.targets) {
      row.push_back(target.column);
      if (spread_) row.push_back(target.column + " spread");
    }
    row.push_back("error");
    file_.write(csv_row(row));
  }

  void add(const SourcedMolecule& item) {
    ++summary_.records;
    Row row{item.molecule.identifier, item.molecule.smiles, item.reason, item.kept};
    if (item.kept && !predictor_.can_see(item.molecule.conformers)) {
      row.kept = false;
      row.error = "the molecule has no 3D positions, and the model sees nothing else; --conformers 1 builds some";
    }
    if (row.kept) {
      if (head_.shown.positions && item.molecule.conformers == 0) ++summary_.without_3d;
      predictor_.add(item.molecule);
    } else {
      refuse(row.error);
    }
    rows_.push_back(std::move(row));
    // Refused records wait for the answers of those before them; not for ever.
    constexpr std::size_t kMaxRows = 1 << 14;
    if (predictor_.full() || rows_.size() >= kMaxRows) flush();
  }

  StreamSummary finish() {
    flush();
    if (summary_.molecules == 0) {
      throw Error("none of {} molecules could be answered; most often: {}", count_text(summary_.records),
                  most_frequent(summary_.reasons));
    }
    file_.commit();
    return summary_;
  }

  const StreamSummary& summary() const { return summary_; }

 private:
  struct Row {
    std::string identifier, smiles, error;
    bool kept;
  };

  void refuse(const std::string& reason) {
    ++summary_.refused;
    count_reason(summary_.reasons, reason);
  }

  void flush() {
    const std::vector<std::vector<double>>& answers = predictor_.run();
    const std::size_t tasks = head_.targets.size();
    std::size_t molecule = 0;
    std::vector<std::string> fields;
    for (const Row& row : rows_) {
      fields = {row.identifier, row.smiles};
      for (std::size_t t = 0; t < tasks; ++t) {
        double mean = 0, spread = 0;
        if (row.kept) {
          for (const auto& member : answers) mean += member[molecule * tasks + t] / static_cast<double>(answers.size());
          for (const auto& member : answers) spread += std::pow(member[molecule * tasks + t] - mean, 2);
          spread = std::sqrt(spread / std::max(1.0, static_cast<double>(answers.size()) - 1));
          if (!std::isfinite(mean))
            throw Error("the model's answer for {} is not finite; check the checkpoint with `moleblend inspect`",
                        row.identifier);
        }
        fields.push_back(row.kept ? fmt::format("{:.7g}", mean) : "");
        if (spread_) fields.push_back(row.kept ? fmt::format("{:.4g}", spread) : "");
      }
      fields.push_back(row.error);
      file_.write(csv_row(fields));
      molecule += row.kept;
    }
    summary_.molecules += molecule;
    rows_.clear();
  }

  const PropertyHead head_;
  bool spread_;
  Predictor predictor_;
  AtomicFile file_;
  std::vector<Row> rows_;
  StreamSummary summary_;
};

}  // namespace

StreamSummary predict(const std::vector<Predictor::Member>& members, MoleculeSource& source,
                      const PredictionOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  Prediction prediction(members, options);
  const MoleculeSource::Progress all = source.progress();
  Progress progress("predict", all.total, all.unit, options.quiet);
  const auto text = [&] {
    const StreamSummary& s = prediction.summary();
    return fmt::format("{} molecules, {:.4g}/s, {} refused", count_text(s.records),
                       static_cast<double>(s.molecules) / std::max(seconds(), 1e-3), count_text(s.refused));
  };
  SourcedMolecule item;
  while (source.next(item)) {
    if (const int signal = options.stopped ? options.stopped() : 0; signal != 0)
      throw Interrupted("stopped by signal {} before the end; nothing was written", signal);
    prediction.add(item);
    if (item.number % 64 == 0) progress.update(source.progress().done, text());
  }
  StreamSummary summary = prediction.finish();
  progress.finish(text());
  summary.remarks = source.remarks();
  summary.seconds = seconds();
  return summary;
}

}  // namespace moleblend
