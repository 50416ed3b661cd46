#pragma once
// Trivial baselines of recovery, as strong as they can be made without looking at more than one pair at a time.
//
//   constant  what is best without any input: the most frequent SPD class, the most frequent bond class of each hop, the median distance
//             (the best constant for a mean absolute error)
//   look-up   what a table gives that maps the pair's own visible relation to the target: a relation that is shown is copied (a distance
//             with its noise, as shown), another one is the most frequent class or the median among training pairs that show the same
//
// A model that beats the look-up uses more than the pair itself. Directions and noise have no such table: by symmetry the mean cosine of
// any constant to them is 0.

#include <array>
#include <cstdint>
#include <vector>

#include "io/loader/batch.h"
#include "kernels/pair_head/pair_head.h"

namespace moleblend {

/// Hits and errors of a baseline, over the same pairs as the model's scores.
struct BaselineSum {
  std::int64_t spd_pairs = 0, spd_correct = 0;
  std::int64_t edge_hops = 0, edge_correct = 0;
  std::int64_t distance_pairs = 0;
  double distance_error = 0;  // Σ |predicted − true|, Å
};

class LookupTables {
 public:
  LookupTables();

  /// Adds the training pairs of a batch; `noisy` [N, 3]: positions as they are shown.
  void fit(const Batch& batch, const std::vector<float>& noisy);
  /// Makes the predictions. No fit() afterwards.
  void finish();

  /// Scores both baselines on a batch that shows `pair_visible` [P] and `noisy` [N, 3].
  void score(const Batch& batch, const std::vector<std::uint8_t>& pair_visible, const std::vector<float>& noisy,
             BaselineSum& constant, BaselineSum& lookup) const;

 private:
  // A pair's visible relation as a row of the tables. Row 0 knows nothing; then SPD classes; then how many hops of a path are seen;
  // then distances in bins.
  static constexpr double kShownBin = 0.1, kTargetBin = 0.02, kFarthest = 40;  // ångström
  static constexpr int kShownBins = 400, kTargetBins = 2000;
  static constexpr int kNothing = 0, kSpdRow = 1, kHopsRow = kSpdRow + kSpdClasses + 1,
                       kDistanceRow = kHopsRow + kPathHops + 1;
  static constexpr int kRows = kDistanceRow + kShownBins;

  static int spd_row(std::uint16_t spd);
  static int hops_row(const std::uint8_t* path);
  static int distance_row(double shown);

  struct Row {
    std::array<std::int64_t, kSpdClasses> spd{};
    std::array<std::array<std::int64_t, kEdgeClasses>, kPathHops> edge{};
    std::vector<std::int32_t> distance = std::vector<std::int32_t>(kTargetBins);
    // Predictions.
    int best_spd = 0;
    std::array<int, kPathHops> best_edge{};
    double median = 0;
  };
  std::vector<Row> rows_;
};

}  // namespace moleblend
