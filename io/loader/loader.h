#pragma once
// From a data set to packed batches: order, conformer choice, relations, packing; several threads ahead of the device.

#include <cstdint>
#include <memory>
#include <vector>

#include "io/dataset/dataset.h"
#include "io/loader/batch.h"
#include "io/loader/permutation.h"
#include "io/loader/subset.h"

namespace moleblend {

struct LoaderOptions {
  std::uint64_t seed = 1;
  std::int64_t batch_size = 32;  // molecules a step (the global batch)
  std::int64_t micro_batch_atoms =
      0;  // cut a step into micro-batches of at most so many atoms (a larger molecule stands alone); 0: one
  std::int64_t micro_batches = 1;  // at least so many micro-batches (gradient accumulation)
  int threads = 1;                 // >= 1 loader threads
  int prefetch = 4;                // steps kept ready
  bool shuffle = true;             // each epoch in an order of its own; else in order of the subset
  bool use_positions = true;
  bool random_conformer = true;  // draw one of the k conformers each epoch; else always the first
  int rank = 0, ranks = 1;       // gives the part of this one of so many ranks, which together have the whole step
};

/// The micro-batches of one step.
struct LoadedStep {
  std::int64_t step = 0;
  std::vector<Batch> micro_batches;
};

/// Delivers steps in order, from `first_step` on. Which molecules are in a step, their keys and conformers are
/// functions of (options, subset, step) alone: any step is reached in O(1), whatever the number of threads. Sample p =
/// step · batch_size + k is molecule subset[order(p mod n)] of epoch p / n, with that epoch's EpochOrder; an unfinished batch is never
/// dropped. A step is cut over the ranks in its order, by cost; only sizes are read of what other ranks have. Neither the order nor the split takes memory, and of a large data set only what is read around one time stays mapped.
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

}  // namespace moleblend
