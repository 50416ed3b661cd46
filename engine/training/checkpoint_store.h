#pragma once
// The checkpoints of a run: which is the newest whole one, which is the best, and which may go.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "engine/training/checkpoint.h"

namespace moleblend {

struct Retention {
  std::int64_t keep_last = 3;   // the newest ones
  std::int64_t keep_every = 0;  // multiples of it stay for good; 0: none
};

/// The folder RUN/checkpoints. One program at a time may write to it (the run's lock).
class CheckpointStore {
 public:
  using Warn = std::function<void(const std::string&)>;

  CheckpointStore(std::filesystem::path folder, Retention retention);

  struct Found {
    std::filesystem::path path;
    CheckpointState state;
  };
  /// The checkpoint of the highest step that is whole; `warn` hears of each damaged one that was passed over.
  std::optional<Found> newest(const Warn& warn) const;
  /// The one that best.json points to, if it is whole.
  std::optional<Found> best(const Warn& warn) const;

  /// Saves under checkpoint_name(state.step), points best.json to it if it is the best, then removes those that needn't
  /// stay: never the newest ones, the best one, or multiples of keep_every.
  void save(const Model& model, const CheckpointState& state);
  /// Removes what a killed program left half-written.
  void clean() const;

 private:
  void point_to_best(const std::optional<BestValidation>& best) const;
  void prune(const std::optional<BestValidation>& best) const;

  std::filesystem::path folder_;
  Retention retention_;
};

enum class Prefer { best, newest };
/// The checkpoint that a path means: a checkpoint folder, or a run folder (then its best one, or newest if none was
/// validated). Throws Error if there is none that is whole.
CheckpointStore::Found find_checkpoint(const std::filesystem::path& path, Prefer prefer,
                                       const CheckpointStore::Warn& warn);

}  // namespace moleblend
