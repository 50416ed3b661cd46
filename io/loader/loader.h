#pragma once
// From a data set to packed batches: order, conformer choice, relations, packing; several threads ahead of the device.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "io/dataset/dataset.h"
#include "io/loader/batch.h"

namespace moleblend {

/// The molecules that a loader draws from: positions in the data set.
using Subset = std::vector<std::uint64_t>;

struct LoaderOptions {
  std::uint64_t seed = 1;
  std::int64_t batch_size = 32;  // molecules a step (the global batch)
  std::int64_t micro_batch_atoms =
      0;  // cut a step into micro-batches of at most so many atoms (a larger molecule stands alone); 0: one
  std::int64_t micro_batches = 1;  // at least so many micro-batches (gradient accumulation)
  int threads = 1;                 // >= 1 loader threads
  int prefetch = 4;                // steps kept ready
  bool shuffle = true;             // by a keyed permutation of each epoch; else in order
  bool use_positions = true;
  bool random_conformer = true;  // draw one of the k conformers each epoch; else always the first
};

/// The micro-batches of one step.
struct LoadedStep {
  std::int64_t step = 0;
  std::vector<Batch> micro_batches;
};

/// Delivers steps in order, from `first_step` on. Which molecules are in a step, their keys and conformers are
/// functions of (options, subset, step) alone: any step is reached in O(1), whatever the number of threads. Sample p =
/// step · batch_size + k is molecule permute(p mod n) of epoch p / n; an unfinished batch is never dropped.
class Loader {
 public:
  Loader(const Dataset& dataset, Subset subset, LoaderOptions options, std::int64_t first_step, std::int64_t end_step);
  ~Loader();
  /// The next step; its memory goes back with recycle(). Blocks until ready; throws what a loader thread met. Null
  /// after the last.
  std::unique_ptr<LoadedStep> next();
  void recycle(std::unique_ptr<LoadedStep> step);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A bijection of [0, size) drawn by `key`: a Feistel network on the next power of four, walked until it lands inside.
class Permutation {
 public:
  Permutation(std::uint64_t size, std::uint64_t key);
  std::uint64_t operator()(std::uint64_t position) const;

 private:
  std::uint64_t size_, key_;
  int half_bits_;
};

/// Molecules of the validation part: those whose hash of (seed, index) falls into the fraction; the rest train.
/// Independent of order.
struct Split {
  Subset train, valid;
};
Split random_split(std::uint64_t size, double valid_fraction, std::uint64_t seed);

}  // namespace moleblend
