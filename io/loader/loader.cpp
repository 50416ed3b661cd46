#include "io/loader/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "io/loader/step_plan.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {

void check(const Dataset& dataset, const Subset& subset, const LoaderOptions& options, std::int64_t first_step,
           std::int64_t end_step) {
  if (options.batch_size < 1 || options.micro_batches < 1 || options.threads < 1 || options.prefetch < 1 ||
      options.micro_batch_atoms < 0)
    throw UsageError("batch size, micro-batches, loader threads and prefetch are numbers from 1; correct the settings");
  if (options.ranks < 1 || options.rank < 0 || options.rank >= options.ranks)
    throw UsageError("there is no rank {} of {}", options.rank, options.ranks);
  if (options.batch_size < options.ranks)
    throw UsageError(
        "a batch of {} molecules leaves some of the {} ranks without one; raise --batch-size, or start fewer",
        options.batch_size, options.ranks);
  if (first_step < 0) throw UsageError("step {} is impossible; steps count from 0", first_step);
  if (subset.empty() && first_step < end_step)
    throw Error("there are no molecules to draw batches from; check the data set and its split");
  if (subset.bound() > dataset.size())
    throw Error("the split names molecule {} of a data set with {}; make the split for this data set",
                subset.bound() - 1, dataset.size());
}

/// Keeps the part of the memory maps small that this process holds. Steps go through the windows of each epoch's order one after the
/// other: the chunks of the window to come are asked for, those of a window that no thread reads any more are given back.
class Residence {
 public:
  Residence(const Dataset& dataset, const Subset& subset, const LoaderOptions& options)
      : dataset_(dataset), subset_(subset), options_(options) {
    if (!subset.empty()) windows_ = epoch_order(subset, options, 0).windows();
    follows_ = windows_ > 1 && options.shuffle;
  }

  ~Residence() {
    if (!window_) return;
    release(*window_);
    if (*window_ > first_) release(*window_ - 1);
  }
  Residence(const Residence&) = delete;
  Residence& operator=(const Residence&) = delete;

  /// A thread begins to read at sample p = epoch · n + position.
  void enter(std::uint64_t sample) {
    if (!follows_) return;
    const std::uint64_t epoch = sample / subset_.size();
    const std::uint64_t number =
        epoch * windows_ + epoch_order(subset_, options_, epoch).window_of(sample % subset_.size());
    const std::lock_guard lock(mutex_);
    if (!window_) window_ = first_ = number;
    // One behind is left to threads that are still at the steps before.
    for (; *window_ < number; ++*window_)
      if (*window_ > first_) release(*window_ - 1);
    if (number + 1 > expected_) expect(number + 1);
  }

 private:
  template <class F>
  void for_each_stretch(std::uint64_t number, F&& f) const {
    epoch_order(subset_, options_, number / windows_)
        .for_each_chunk(number % windows_, [&](std::uint64_t first, std::uint64_t end) {
          const auto [from, to] = subset_.stretch(first, end);
          f(from, to, end - first);
        });
  }
  void expect(std::uint64_t number) {
    expected_ = number;
    constexpr std::uint64_t kSparse = 4;  // of a part that is so thinly spread, single records are read, not stretches
    for_each_stretch(number, [&](std::uint64_t from, std::uint64_t to, std::uint64_t members) {
      if (to - from <= kSparse * members) dataset_.expect(from, to);
    });
  }
  void release(std::uint64_t number) const {
    for_each_stretch(number, [&](std::uint64_t from, std::uint64_t to, std::uint64_t) { dataset_.release(from, to); });
  }

  const Dataset& dataset_;
  const Subset& subset_;
  const LoaderOptions& options_;
  std::uint64_t windows_ = 1;  // of an epoch
  bool follows_ = false;
  std::mutex mutex_;
  std::optional<std::uint64_t> window_;  // the newest that was entered, counted through all epochs
  std::uint64_t first_ = 0, expected_ = 0;
};

}  // namespace

// Each thread claims the next step that nobody builds yet, at most `window` steps ahead of the consumer, and builds the
// whole of it; finished steps wait in `ready` until the consumer reaches them. So the order in which threads run is
// never seen outside.
struct Loader::State {
  State(const Dataset& dataset_, Subset subset_, LoaderOptions options_, std::int64_t first_step, std::int64_t end_step)
      : dataset(dataset_),
        subset(std::move(subset_)),
        options(options_),
        window(std::max(options_.prefetch, options_.threads)),
        residence(dataset, subset, options),
        to_deliver(first_step),
        to_build(first_step),
        end(end_step),
        ready(static_cast<std::size_t>(window)) {}

  struct Finished {
    std::unique_ptr<LoadedStep> step;
    std::exception_ptr error;
    bool empty() const { return !step && !error; }
  };
  Finished& place_of(std::int64_t step) { return ready[static_cast<std::size_t>(step % window)]; }
  /// What a thread reuses from molecule to molecule and from step to step.
  struct Workspace {
    MoleculeView molecule;
    RelationScratch scratch;
    StepPlan plan;
  };

  void work(std::stop_token stop);
  void build(LoadedStep& step, Workspace& workspace);
  void fit(std::vector<Batch>& batches, std::size_t count);

  const Dataset& dataset;
  const Subset subset;
  const LoaderOptions options;
  const std::int64_t window;

  Residence residence;
  std::mutex mutex;
  std::condition_variable_any changed;
  std::int64_t to_deliver, to_build;
  const std::int64_t end;
  std::vector<Finished> ready;  // of step s at s mod window: free again before step s + window may be built
  std::vector<std::unique_ptr<LoadedStep>> free_steps;
  std::vector<Batch> free_batches;  // of steps that needed fewer than the one before in the same memory

  std::vector<std::jthread> threads;  // last: they end before what they use
};

/// Gives a step `count` batches, from memory used before where there is some.
void Loader::State::fit(std::vector<Batch>& batches, std::size_t count) {
  const std::lock_guard lock(mutex);
  for (; batches.size() > count; batches.pop_back()) free_batches.push_back(std::move(batches.back()));
  while (batches.size() < count) {
    if (free_batches.empty()) {
      batches.emplace_back();
    } else {
      batches.push_back(std::move(free_batches.back()));
      free_batches.pop_back();
    }
  }
}

void Loader::State::build(LoadedStep& step, Workspace& workspace) {
  StepPlan& plan = workspace.plan;
  residence.enter(static_cast<std::uint64_t>(step.step) * static_cast<std::uint64_t>(options.batch_size));
  plan_samples(dataset, subset, options, step.step, plan);
  plan_rank(options, plan);
  plan_cuts(options, plan);
  fit(step.micro_batches, plan.cuts.size() - 1);
  const std::size_t labels = dataset.info().labels.size();
  for (std::size_t m = 0; m < step.micro_batches.size(); ++m) {
    const std::size_t first = plan.cuts[m];
    plan.atoms.resize(plan.cuts[m + 1] - first);
    for (std::size_t b = 0; b < plan.atoms.size(); ++b) plan.atoms[b] = plan.samples[first + b].atoms;
    step.micro_batches[m].lay_out(plan.atoms, labels);
    for (std::size_t b = 0; b < plan.atoms.size(); ++b) {
      const Sample& sample = plan.samples[first + b];
      dataset.view(sample.index, workspace.molecule);
      std::int64_t conformer = options.use_positions ? 0 : -1;
      if (options.use_positions && options.random_conformer && workspace.molecule.conformers > 1)
        conformer = philox(sample.key, 0, Draw::conformer, 0).word[0];
      step.micro_batches[m].put(b, workspace.molecule, sample.index, sample.key, conformer, workspace.scratch);
    }
  }
}

void Loader::State::work(std::stop_token stop) {
  Workspace workspace;
  for (;;) {
    std::unique_ptr<LoadedStep> step;
    std::int64_t number = 0;
    {
      std::unique_lock lock(mutex);
      if (!changed.wait(lock, stop, [&] { return to_build >= end || to_build < to_deliver + window; }) ||
          to_build >= end)
        return;
      number = to_build++;
      if (!free_steps.empty()) {
        step = std::move(free_steps.back());
        free_steps.pop_back();
      }
    }
    Finished finished;
    try {
      if (!step) step = std::make_unique<LoadedStep>();
      step->step = number;
      build(*step, workspace);
      finished.step = std::move(step);
    } catch (...) {
      finished.error = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    place_of(number) = std::move(finished);
    changed.notify_all();
  }
}

Loader::Loader(const Dataset& dataset, Subset subset, LoaderOptions options, std::int64_t first_step,
               std::int64_t end_step) {
  check(dataset, subset, options, first_step, end_step);
  state_ = std::make_unique<State>(dataset, std::move(subset), options, first_step, end_step);
  for (int t = 0; t < options.threads; ++t)
    state_->threads.emplace_back([state = state_.get()](std::stop_token stop) { state->work(std::move(stop)); });
}

Loader::~Loader() = default;

std::unique_ptr<LoadedStep> Loader::next() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  if (s.to_deliver >= s.end) return nullptr;
  State::Finished& place = s.place_of(s.to_deliver);
  s.changed.wait(lock, [&] { return !place.empty(); });
  // A step that failed stays: asked again, it fails again.
  if (place.error) std::rethrow_exception(place.error);
  std::unique_ptr<LoadedStep> step = std::move(place.step);
  ++s.to_deliver;
  s.changed.notify_all();
  return step;
}

void Loader::recycle(std::unique_ptr<LoadedStep> step) {
  if (!step) return;
  const std::lock_guard lock(state_->mutex);
  state_->free_steps.push_back(std::move(step));
}

}  // namespace moleblend
