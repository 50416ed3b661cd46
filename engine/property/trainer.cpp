#include "engine/property/trainer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/property/learning_rates.h"
#include "engine/property/predictor.h"
#include "engine/ranks/agreement.h"
#include "engine/training/checkpoint_store.h"
#include "engine/training/not_finite.h"
#include "engine/training/pace.h"
#include "engine/training/run_log.h"
#include "engine/training/stop_signal.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

/// What one update did.
struct Update {  // of all ranks together
  double loss = 0, learning_rate = 0, gradient_norm = 0;
  std::int64_t molecules = 0;
};

class Finetuner {
 public:
  explicit Finetuner(const FinetuneTask& task)
      : task_(task),
        settings_(task.settings),
        quiet_(task.quiet || !task.ranks.first()),
        store_(task.run / "checkpoints", {settings_.keep_last, 0}),
        best_(task.best),
        valid_labels_(task.labels.of(task.valid)),
        adam_(settings_.adam) {
    const std::string way = task.model.join(task.ranks);
    if (!quiet_ && !way.empty()) fmt::print(stderr, "gradients  added {}\n", way);
    if (task.ranks.first()) {
      log_.emplace(task.run / "metrics.jsonl", task.first_step);
      store_.clean();
    }
    adam_.ranges = learning_rates(task.model, settings_.layer_decay, settings_.freeze);
    for (const Target& target : settings_.head.targets) positive_weight_.push_back(target.positive_weight);
    zeros_.assign(settings_.head.targets.size(), 0);
    ones_.assign(settings_.head.targets.size(), 1);
  }

  FinetuneOutcome run() {
    const std::int64_t steps = settings_.schedule.steps, end = std::min(steps, task_.stop_at.value_or(steps));
    const StopSignal stop;
    LoaderOptions options = settings_.loader;
    options.seed = task_.seed;
    options.use_positions = settings_.head.shown.positions;
    options.rank = task_.ranks.rank(), options.ranks = task_.ranks.size();
    Loader loader(task_.data, task_.train, options, task_.first_step, end);
    Progress progress("finetune", static_cast<std::uint64_t>(steps), "steps",
                      {.quiet = quiet_, .start = static_cast<std::uint64_t>(task_.first_step)});
    std::int64_t step = task_.first_step;
    std::int64_t epoch = epochs_done(step);
    bool out_of_patience = impatient(step);
    int signal = any_signal(task_.ranks, StopSignal::received());
    while (step < end && !out_of_patience && signal == 0) {
      const Clock::time_point begin = Clock::now();
      auto batch = loader.next();
      if (!batch) break;
      const Update update = train(*batch);
      loader.recycle(std::move(batch));
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      since_log_.add(update.molecules, seconds);
      recent_.fade(0.95);
      recent_.add(update.molecules, seconds);
      ++step;
      if (log_ && (step % settings_.log_every == 0 || step == steps)) log_training(step, update);
      bool improved = false;
      if (epochs_done(step) > epoch || step == steps) {
        epoch = epochs_done(step);
        improved = validate(step, progress);
        out_of_patience = impatient(step);
      }
      signal = any_signal(task_.ranks, StopSignal::received());
      if (improved || step == end || out_of_patience || signal != 0) checkpoint(step);
      progress.update(static_cast<std::uint64_t>(step),
                      fmt::format("{:.0f} molecules/s, loss {:.4g}", recent_.rate(), update.loss));
    }
    if (out_of_patience) progress.set_total(static_cast<std::uint64_t>(step));
    progress.finish();
    const bool finished = step == steps || out_of_patience;
    return {.step = step, .signal = finished ? 0 : signal, .finished = finished, .best = best_};
  }

 private:
  Update train(const LoadedStep& step) {
    const PropertyHead& head = settings_.head;
    const bool regression = head.task == PropertyTask::regression;
    std::vector<std::vector<double>> labels;
    Update update;
    std::int64_t present = 0;
    for (const Batch& part : step.micro_batches) {
      labels.push_back(task_.labels.of(part));
      update.molecules += part.molecules();
      for (std::size_t k = 0; k < labels.back().size(); ++k) {
        double& label = labels.back()[k];
        present += !std::isnan(label);
        // Standardised, so that tasks count alike and the rate and the bound of the gradient mean the same in every unit.
        const Target& target = head.targets[k % head.targets.size()];
        if (regression) label = (label - target.mean) / target.std;
      }
    }
    std::array counts{present, update.molecules};
    task_.ranks.sum(std::span<std::int64_t>(counts));
    present = counts[0], update.molecules = counts[1];
    task_.model.zero_gradients();
    for (std::size_t p = 0; p < labels.size(); ++p)
      update.loss += task_.model.property(step.micro_batches[p],
                                          {.task = head.task,
                                           .readout = head.readout,
                                           .show_2d = head.shown.graph,
                                           .show_3d = head.shown.positions,
                                           .labels = labels[p],
                                           .mean = zeros_,
                                           .std = ones_,
                                           .positive_weight = positive_weight_,
                                           .label_count = present,
                                           .freeze_encoder = settings_.freeze,
                                           .last = p + 1 == labels.size()},
                                          nullptr);
    task_.model.sum_gradients();
    task_.ranks.sum(std::span(&update.loss, 1));
    if (!std::isfinite(update.loss)) stop_over("loss", step);
    update.learning_rate = settings_.schedule.rate(step.step);
    update.gradient_norm = task_.model.update(adam_, update.learning_rate, step.step + 1);
    if (!std::isfinite(update.gradient_norm)) stop_over("gradient", step);
    return update;
  }

  [[noreturn]] void stop_over(std::string_view what, const LoadedStep& step) const {
    const CheckpointState state = state_at(step.step);
    throw_not_finite({what, task_.data, task_.run, step, task_.model, state}, task_.ranks);
  }

  void log_training(std::int64_t step, const Update& u) {
    log_->write({{"step", step},
                 {"loss", u.loss},
                 {"lr", u.learning_rate},
                 {"grad_norm", u.gradient_norm},
                 {"molecules", u.molecules},
                 {"seconds", since_log_.seconds},
                 {"molecules_per_s", since_log_.rate()}});
    since_log_ = {};
  }

  /// Scores the validation part; true if it is the best so far.
  bool validate(std::int64_t step, Progress& progress) {
    const std::vector<double> answers =
        predict_together(task_.ranks, task_.model, settings_.head, task_.data, task_.valid);
    const TaskScores scores =
        score_tasks(settings_.metric, static_cast<std::int64_t>(settings_.head.targets.size()), valid_labels_, answers);
    if (std::isnan(scores.mean)) {
      first_tells(task_.ranks);
      throw Error(
          "{} is not defined on the validation part ({} molecules): no task has what it needs there, such as labels of "
          "both classes or answers that differ; choose another --metric or --split",
          name_of(settings_.metric), task_.valid.size());
    }
    if (log_)
      log_->write({{"step", step},
                   {"epoch", epochs_done(step)},
                   {"valid", {{std::string(name_of(settings_.metric)), scores.mean}}}});
    // What is kept is to be small.
    const double criterion = higher_is_better(settings_.metric) ? -scores.mean : scores.mean;
    const bool improved = !best_ || criterion < best_->loss;
    if (improved) best_ = BestValidation{step, criterion};
    if (!quiet_) {
      progress.interrupt();
      fmt::print(stderr, "epoch {}: validation {} {:.4f}{}\n", epochs_done(step), name_of(settings_.metric),
                 scores.mean, improved ? ", the best so far" : "");
    }
    return improved;
  }

  void checkpoint(std::int64_t step) {
    check_same_values(task_.ranks, task_.model, step);
    if (!task_.ranks.first()) return;
    log_->sync();
    store_.save(task_.model, state_at(step));
  }

  CheckpointState state_at(std::int64_t step) const {
    return {.kind = "finetune",
            .step = step,
            .model = task_.model.config(),
            .settings = to_json(settings_, task_.seed),
            .dataset_fingerprint = task_.data.info().fingerprint,
            .program_version = task_.program_version,
            .precision = settings_.place.precision,
            .best = best_};
  }

  /// Whole epochs within so many steps.
  std::int64_t epochs_done(std::int64_t step) const {
    return step * settings_.loader.batch_size / static_cast<std::int64_t>(task_.train.size());
  }
  bool impatient(std::int64_t step) const {
    return settings_.patience > 0 && best_ && epochs_done(step) - epochs_done(best_->step) >= settings_.patience;
  }

  const FinetuneTask& task_;
  const FinetuneSettings& settings_;
  const bool quiet_;
  std::optional<RunLog> log_;  // of the first rank
  CheckpointStore store_;
  std::optional<BestValidation> best_;
  std::vector<double> valid_labels_, positive_weight_, zeros_, ones_;
  AdamSettings adam_;
  Pace since_log_, recent_;
};

}  // namespace

FinetuneOutcome finetune(const FinetuneTask& task) {
  return Finetuner(task).run();
}

std::int64_t steps_of(double epochs, std::uint64_t molecules, std::int64_t batch_size) {
  return static_cast<std::int64_t>(
      std::ceil(epochs * static_cast<double>(molecules) / static_cast<double>(batch_size)));
}

}  // namespace moleblend
