#include "engine/evaluation/lookup.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moleblend {
namespace {

double distance(const float* a, const float* b) {
  const double x = double(b[0]) - a[0], y = double(b[1]) - a[1], z = double(b[2]) - a[2];
  return std::sqrt(x * x + y * y + z * z);
}

/// Calls f(i, j, pair, true distance or −1 where the 3D heads have no target, shown distance or −1) for each ordered pair i ≠ j.
template <class F>
void for_each_pair(const Batch& batch, const std::vector<float>& noisy, F&& f) {
  for (std::int64_t b = 0; b < batch.molecules(); ++b) {
    const std::int64_t first = batch.atom_offset[b], n = batch.atom_offset[b + 1] - first;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        if (i == j) continue;
        const std::int64_t a = first + i, c = first + j;
        const bool known = batch.has_positions[b] && batch.position_known[a] && batch.position_known[c];
        const double truth = known ? distance(&batch.positions[3 * a], &batch.positions[3 * c]) : -1;
        f(batch.pair_offset[b] + i * n + j, truth > 0 ? truth : -1,
          known ? distance(&noisy[3 * a], &noisy[3 * c]) : -1);
      }
  }
}

template <std::size_t N>
int most_frequent(const std::array<std::int64_t, N>& counts) {
  return static_cast<int>(std::max_element(counts.begin(), counts.end()) - counts.begin());
}

}  // namespace

LookupTables::LookupTables() : rows_(kRows) {}

int LookupTables::spd_row(std::uint16_t spd) {
  const int c = spd_class(spd);
  return kSpdRow + (c < 0 ? kSpdClasses : c);
}

int LookupTables::hops_row(const std::uint8_t* path) {
  return kHopsRow +
         static_cast<int>(std::count_if(path, path + kPathHops, [](std::uint8_t code) { return code != 0; }));
}

int LookupTables::distance_row(double shown) {
  return kDistanceRow + std::min(static_cast<int>(shown / kShownBin), kShownBins - 1);
}

void LookupTables::fit(const Batch& batch, const std::vector<float>& noisy) {
  for_each_pair(batch, noisy, [&](std::int64_t pair, double truth, double shown) {
    const std::uint8_t* path = &batch.path[static_cast<std::size_t>(pair * kPathHops)];
    const std::uint16_t spd = batch.spd[static_cast<std::size_t>(pair)];
    const int c = spd_class(spd);
    for (const int row : {kNothing, spd_row(spd), hops_row(path), shown >= 0 ? distance_row(shown) : -1}) {
      if (row < 0) continue;
      Row& r = rows_[static_cast<std::size_t>(row)];
      if (c >= 0) ++r.spd[static_cast<std::size_t>(c)];
      for (int hop = 0; hop < kPathHops; ++hop)
        if (const int e = edge_class(path[hop]); e >= 0)
          ++r.edge[static_cast<std::size_t>(hop)][static_cast<std::size_t>(e)];
      if (truth >= 0) ++r.distance[static_cast<std::size_t>(std::min(truth, kFarthest - kTargetBin) / kTargetBin)];
    }
  });
}

void LookupTables::finish() {
  const Row& all = rows_[kNothing];
  for (Row& r : rows_) {
    // What training never showed is predicted as if nothing were shown.
    const auto seen = [](const auto& counts) {
      return std::any_of(counts.begin(), counts.end(), [](auto n) { return n > 0; });
    };
    r.best_spd = most_frequent(seen(r.spd) ? r.spd : all.spd);
    for (std::size_t hop = 0; hop < kPathHops; ++hop)
      r.best_edge[hop] = most_frequent(seen(r.edge[hop]) ? r.edge[hop] : all.edge[hop]);
    const auto& counts = seen(r.distance) ? r.distance : all.distance;
    const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    std::int64_t below = 0;
    std::size_t bin = 0;
    while (bin + 1 < counts.size() && 2 * (below + counts[bin]) < total) below += counts[bin++];
    r.median = (static_cast<double>(bin) + 0.5) * kTargetBin;
  }
}

void LookupTables::score(const Batch& batch, const std::vector<std::uint8_t>& pair_visible,
                         const std::vector<float>& noisy, BaselineSum& constant, BaselineSum& lookup) const {
  for_each_pair(batch, noisy, [&](std::int64_t pair, double truth, double shown) {
    const std::uint8_t* path = &batch.path[static_cast<std::size_t>(pair * kPathHops)];
    const std::uint16_t spd = batch.spd[static_cast<std::size_t>(pair)];
    const std::uint8_t visible = pair_visible[static_cast<std::size_t>(pair)];
    const bool sees_distance = (visible & kShowDistance) && shown >= 0;
    const int row = visible & kShowSpd    ? spd_row(spd)
                    : visible & kShowEdge ? hops_row(path)
                    : sees_distance       ? distance_row(shown)
                                          : kNothing;
    const Row &known = rows_[static_cast<std::size_t>(row)], &nothing = rows_[kNothing];
    if (const int c = spd_class(spd); c >= 0) {
      // A table row of SPD class c predicts c by itself, unless training had none such.
      ++constant.spd_pairs, ++lookup.spd_pairs;
      constant.spd_correct += c == nothing.best_spd;
      lookup.spd_correct += (visible & kShowSpd) || c == known.best_spd;
    }
    for (std::size_t hop = 0; hop < kPathHops; ++hop) {
      const int e = edge_class(path[hop]);
      if (e < 0) continue;
      ++constant.edge_hops, ++lookup.edge_hops;
      constant.edge_correct += e == nothing.best_edge[hop];
      lookup.edge_correct += (visible & kShowEdge) || e == known.best_edge[hop];
    }
    if (truth >= 0) {
      ++constant.distance_pairs, ++lookup.distance_pairs;
      constant.distance_error += std::abs(truth - nothing.median);
      lookup.distance_error += std::abs(truth - (sees_distance ? shown : known.median));
    }
  });
}

}  // namespace moleblend
