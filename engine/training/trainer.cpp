#include "engine/training/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <vector>

#include "engine/evaluation/fixed_batches.h"
#include "engine/evaluation/scores.h"
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

/// What one update did, on all ranks together.
struct Update {
  PretrainResult result;
  double learning_rate = 0, gradient_norm = 0;
  std::int64_t molecules = 0, tokens = 0;
  int signal = 0;                 // that one of them has had
  double loss_z = 0, norm_z = 0;  // standard deviations above the updates before
  bool spike = false, skipped = false;
};

class Trainer {
 public:
  explicit Trainer(const PretrainTask& task)
      : task_(task),
        settings_(task.settings),
        quiet_(task.quiet || !task.ranks.first()),
        store_(task.run / "checkpoints", {settings_.keep_last, settings_.keep_every}),
        best_(task.best),
        spikes_(task.spikes) {
    const std::string way = task_.model.join(task_.ranks);
    if (!quiet_ && !way.empty()) fmt::print(stderr, "gradients  added {}\n", way);
    if (task_.ranks.first()) {
      log_.emplace(task.run / "metrics.jsonl", task.first_step);
      store_.clean();
    }
    if (settings_.valid_every > 0) pack_validation();
  }

  PretrainOutcome run() {
    const std::int64_t steps = settings_.schedule.steps;
    const std::int64_t end = std::min(steps, task_.stop_at.value_or(steps));
    const StopSignal stop;
    LoaderOptions options = settings_.loader;
    options.rank = task_.ranks.rank(), options.ranks = task_.ranks.size();
    Loader loader(task_.data, task_.split.train, options, task_.first_step, end);
    Progress progress("pretrain", static_cast<std::uint64_t>(steps), "steps",
                      {.quiet = quiet_, .start = static_cast<std::uint64_t>(task_.first_step)});
    std::int64_t step = task_.first_step;
    double loss = 0;
    int signal = 0;
    for (;;) {
      const Clock::time_point begin = Clock::now();
      if (!ahead_) ahead_ = loader.next();
      if (!ahead_) break;
      auto batch = std::move(ahead_);
      if (step == task_.first_step && !quiet_) describe_memory(*batch);
      const Update update = train(*batch, [&]() -> const Batch* {
        if (!ahead_) ahead_ = loader.next();
        return ahead_ ? &ahead_->micro_batches.front() : nullptr;
      });
      loader.recycle(std::move(batch));
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      since_log_.add(update.molecules, seconds);
      recent_.fade(0.95);
      recent_.add(update.molecules, seconds);
      ++step;
      loss = update.result.total;
      const bool ends = step == end || update.signal != 0;
      signal = update.signal;
      if (log_ && (step % settings_.log_every == 0 || step == steps || update.spike)) log_training(step, update);
      if (update.spike && !quiet_) tell_spike(step, update, progress);
      const bool improved =
          settings_.valid_every > 0 && (step % settings_.valid_every == 0 || step == steps) && validate(step, progress);
      if (ends || improved || step % settings_.checkpoint_every == 0) checkpoint(step);
      progress.update(static_cast<std::uint64_t>(step), describe(update));
      if (ends) break;
    }
    progress.finish(fmt::format("loss {:.4g}", loss));
    return {.step = step, .signal = step < end ? signal : 0, .best = best_, .last_loss = loss};
  }

 private:
  /// `next_step`: the first batch of the step after this one, or null; called while the device works, if at all.
  Update train(const LoadedStep& batch, const std::function<const Batch*()>& next_step) {
    Update update;
    TargetCounts counts;
    for (const Batch& part : batch.micro_batches) {
      counts += count_targets(part, settings_.objective);
      update.molecules += part.molecules();
      update.tokens += part.atoms() + part.molecules();
    }
    counts = sum_over(task_.ranks, counts, update.molecules, update.tokens);
    task_.model.zero_gradients();
    for (const Batch& part : batch.micro_batches) {
      const bool last = &part == &batch.micro_batches.back();
      update.result += task_.model.pretrain(part, {.objective = &settings_.objective,
                                                   .counts = counts,
                                                   .last = last,
                                                   .upcoming = last ? next_step : [&part] { return &part + 1; }});
    }
    task_.model.sum_gradients();
    update.result = sum_over(task_.ranks, update.result);
    // Before the update, which leaves the model as it is where the norm is not finite.
    if (!std::isfinite(update.result.total)) stop_over("loss", batch);
    update.learning_rate = settings_.schedule.rate(batch.step);
    update.loss_z = spikes_.loss.z(update.result.total);
    if (settings_.skip_spikes) {
      update.gradient_norm = of_first(task_.ranks, task_.model.gradient_norm());
      update.norm_z = spikes_.gradient_norm.z(update.gradient_norm);
      update.skipped = is_spike(update);
    }
    if (!update.skipped)
      update.gradient_norm = task_.model.update(settings_.adam, update.learning_rate, batch.step + 1);
    if (!std::isfinite(update.gradient_norm)) stop_over("gradient", batch);
    update.norm_z = spikes_.gradient_norm.z(update.gradient_norm);
    update.spike = is_spike(update);
    spikes_.loss.add(update.result.total, settings_.spike_z);
    spikes_.gradient_norm.add(update.gradient_norm, settings_.spike_z);
    update.signal = any_signal(task_.ranks, StopSignal::received());
    return update;
  }

  bool is_spike(const Update& u) const {
    return settings_.spike_z > 0 && (u.loss_z > settings_.spike_z || u.norm_z > settings_.spike_z);
  }

  [[noreturn]] void stop_over(std::string_view what, const LoadedStep& batch) const {
    const CheckpointState state = state_at(batch.step);
    throw_not_finite({what, task_.data, task_.run, batch, task_.model, state}, task_.ranks);
  }

  void tell_spike(std::int64_t step, const Update& u, Progress& progress) const {
    const auto above = [&](std::string_view name, double value, double z) {
      return z > settings_.spike_z
                 ? fmt::format(" {} {:.4g}, {:.1f} standard deviations above the last hundred;", name, value, z)
                 : std::string();
    };
    progress.interrupt();
    fmt::print(
        stderr, "step {}: a spike:{}{} {}\n", step, above("loss", u.result.total, u.loss_z),
        above("gradient norm", u.gradient_norm, u.norm_z),
        u.skipped ? "the update is left out" : "the update is done all the same (--skip-spikes would leave it out)");
  }

  void describe_memory(const LoadedStep& batch) const {
    std::size_t bytes = 0;
    std::int64_t atoms = 0;
    for (const Batch& part : batch.micro_batches) {
      bytes = std::max(bytes, task_.model.batch_bytes(part.packed(), true));
      atoms += part.atoms();
    }
    fmt::print(stderr, "memory     {:.2f} GB for the activations of a batch like the first ({} atoms)\n",
               1e-9 * static_cast<double>(bytes), atoms);
  }

  void log_training(std::int64_t step, const Update& u) {
    const Scores s = scores(u.result, settings_.objective);
    Json line = {{"step", step}, {"loss", u.result.total}};
    put_if_known(line, "loss_spd", s.spd_loss);
    put_if_known(line, "loss_edge", s.edge_loss);
    put_if_known(line, "loss_3d", s.distance_loss);
    put_if_known(line, "loss_denoise", s.denoise_loss);
    line["lr"] = u.learning_rate;
    line["grad_norm"] = u.gradient_norm;
    if (u.spike) line["spike"] = {{"loss_z", u.loss_z}, {"grad_norm_z", u.norm_z}, {"skipped", u.skipped}};
    line["molecules"] = u.molecules;
    line["tokens"] = u.tokens;
    // The only fields that differ from run to run: training alone (data, forward, backward, update) since the line
    // before.
    line["seconds"] = since_log_.seconds;
    line["molecules_per_s"] = since_log_.rate();
    log_->write(line);
    since_log_ = {};
  }

  void pack_validation() {
    const Subset part =
        sample(task_.split.valid, static_cast<std::uint64_t>(settings_.valid_molecules), settings_.loader.seed);
    FixedBatches batches(task_.data, part, settings_.loader.seed);
    std::int64_t molecules = 0, tokens = 0, number = 0;
    for (Batch batch; batches.next(batch); batch = {}, ++number) {
      molecules += batch.molecules();
      if (number % task_.ranks.size() != task_.ranks.rank()) continue;
      validation_counts_ += count_targets(batch, settings_.objective);
      validation_.push_back(std::move(batch));
    }
    validates_ = molecules > 0;
    validation_counts_ = sum_over(task_.ranks, validation_counts_, molecules, tokens);
  }

  /// Scores the fixed validation molecules; true if the loss is the lowest so far.
  bool validate(std::int64_t step, Progress& progress) {
    if (!validates_) return false;
    PretrainResult sum;
    for (const Batch& batch : validation_)
      sum += task_.model.pretrain(
          batch,
          {.objective = &settings_.objective, .counts = validation_counts_, .dropout = false, .gradients = false});
    sum = sum_over(task_.ranks, sum);
    const Scores s = scores(sum, settings_.objective);
    if (log_) log_->write({{"step", step}, {"valid", to_json(s, settings_.model.target)}});
    const bool improved = !best_ || s.total < best_->loss;
    if (improved) best_ = BestValidation{step, s.total};
    if (!quiet_) {
      progress.interrupt();
      fmt::print(stderr, "step {}: validation loss {:.4f}{}\n", step, s.total, improved ? ", the best so far" : "");
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
    return {.step = step,
            .model = task_.model.config(),
            .settings = to_json(settings_),
            .dataset_fingerprint = task_.data.info().fingerprint,
            .program_version = task_.program_version,
            .precision = settings_.place.precision,
            .best = best_,
            .spikes = spikes_};
  }

  std::string describe(const Update& u) const {
    const Scores s = scores(u.result, settings_.objective);
    std::string text = fmt::format("{:.0f} molecules/s, loss {:.4f}", recent_.rate(), u.result.total);
    const auto add = [&](const char* name, double value) {
      if (!std::isnan(value)) text += fmt::format(" {} {:.3f}", name, value);
    };
    add("spd", s.spd_loss);
    add("edge", s.edge_loss);
    add("3d", s.distance_loss);
    add("denoise", s.denoise_loss);
    return text;
  }

  std::unique_ptr<LoadedStep> ahead_;  // the step after the one at work, where it was asked for early
  const PretrainTask& task_;
  const PretrainSettings& settings_;
  const bool quiet_;
  std::optional<RunLog> log_;  // of the first rank
  CheckpointStore store_;
  std::optional<BestValidation> best_;
  SpikeWatch spikes_;
  Pace since_log_;                  // the steps since the last line of the log
  Pace recent_;                     // the last twenty steps or so, for the progress line
  std::vector<Batch> validation_;   // this rank's
  TargetCounts validation_counts_;  // of all ranks
  bool validates_ = false;          // whether any has a batch
};

}  // namespace

PretrainOutcome pretrain(const PretrainTask& task) {
  return Trainer(task).run();
}

}  // namespace moleblend
