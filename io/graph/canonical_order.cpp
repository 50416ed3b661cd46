#include "io/graph/canonical_order.h"

#include <algorithm>
#include <compare>
#include <numeric>

namespace moleblend {
namespace {

std::uint64_t mixed(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// An ordered partition of the vertices into cells. A cell is named by the place where it begins.
struct Partition {
  std::vector<std::uint32_t> order;  // vertices, cell after cell
  std::vector<std::uint32_t> cell;   // of each vertex
  std::vector<std::uint32_t> size;   // of the cell that begins at this place
  std::uint32_t cells = 0;

  bool discrete() const { return cells == order.size(); }
};

class Search {
 public:
  Search(const ColouredGraph& graph, std::uint64_t effort)
      : graph_(graph), effort_(effort), sum_(graph.size()), touched_mark_(graph.size()) {}

  CanonicalOrder run() {
    Partition root = coloured();
    descend(root, 0);
    return {best_place_, work_ <= effort_};
  }

 private:
  Partition coloured();
  std::uint64_t refine(Partition& partition, std::vector<std::uint32_t> changed);
  void split(Partition& partition, std::uint32_t begin, std::vector<std::uint32_t>& changed, std::uint64_t& trace);
  std::size_t descend(const Partition& partition, std::size_t depth);
  std::size_t at_leaf(const Partition& partition);
  std::strong_ordering against_best() const;
  std::vector<std::uint64_t> certificate(const std::vector<std::uint32_t>& place) const;
  void merge_orbits(std::size_t depth, std::size_t& used, std::vector<std::uint32_t>& orbit);

  const ColouredGraph& graph_;
  const std::uint64_t effort_;
  std::uint64_t work_ = 0;

  // The way from the root to where the search is, and to the best leaf: the vertices chosen, and what refinement saw after each.
  std::vector<std::uint32_t> path_, best_path_;
  std::vector<std::uint64_t> trace_, best_trace_;
  std::vector<std::uint32_t> best_place_;
  std::vector<std::uint64_t> best_certificate_;
  std::vector<std::vector<std::uint32_t>> automorphisms_;

  // Of refine().
  std::vector<std::uint64_t> sum_;
  std::vector<std::uint8_t> touched_mark_;
  std::vector<std::uint32_t> touched_, touched_cells_;
};

/// Cells by the vertices' colours, refined.
Partition Search::coloured() {
  Partition p;
  const std::size_t n = graph_.size();
  p.order.resize(n);
  p.cell.resize(n);
  p.size.resize(n);
  std::iota(p.order.begin(), p.order.end(), 0);
  std::stable_sort(p.order.begin(), p.order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return graph_.colours[a] < graph_.colours[b]; });
  for (std::uint32_t i = 0, begin = 0; i < n; ++i) {
    if (i == 0 || graph_.colours[p.order[i]] != graph_.colours[p.order[i - 1]]) {
      begin = i;
      ++p.cells;
    }
    p.cell[p.order[i]] = begin;
    ++p.size[begin];
  }
  refine(p, p.order);
  return p;
}

/// Splits cells until all vertices of a cell have the same neighbours in each cell, as far as `changed` vertices (those whose cell is
/// new) tell them apart. Returns a number that is the same for the same splits.
std::uint64_t Search::refine(Partition& partition, std::vector<std::uint32_t> changed) {
  std::uint64_t trace = 0;
  while (!changed.empty() && !partition.discrete()) {
    for (const std::uint32_t v : changed) {
      work_ += graph_.neighbours[v].size();
      for (const auto& edge : graph_.neighbours[v]) {
        const std::uint32_t cell = partition.cell[edge.to];
        if (partition.size[cell] == 1) continue;
        if (!touched_mark_[edge.to]) {
          touched_mark_[edge.to] = 1;
          touched_.push_back(edge.to);
          touched_cells_.push_back(cell);
        }
        sum_[edge.to] += mixed(std::uint64_t{edge.colour} << 32 | partition.cell[v]);
      }
    }
    changed.clear();
    std::sort(touched_cells_.begin(), touched_cells_.end());
    touched_cells_.erase(std::unique(touched_cells_.begin(), touched_cells_.end()), touched_cells_.end());
    for (const std::uint32_t begin : touched_cells_) split(partition, begin, changed, trace);
    for (const std::uint32_t v : touched_) {
      sum_[v] = 0;
      touched_mark_[v] = 0;
    }
    touched_.clear();
    touched_cells_.clear();
  }
  return trace;
}

/// Splits the cell at `begin` by sum_; the vertices of all parts but the first are `changed`.
void Search::split(Partition& partition, std::uint32_t begin, std::vector<std::uint32_t>& changed,
                   std::uint64_t& trace) {
  const std::uint32_t end = begin + partition.size[begin];
  work_ += end - begin;
  const auto first = partition.order.begin() + begin, last = partition.order.begin() + end;
  std::sort(first, last, [&](std::uint32_t a, std::uint32_t b) { return sum_[a] < sum_[b]; });
  std::uint32_t part = begin;
  partition.size[begin] = 0;
  for (std::uint32_t i = begin; i < end; ++i) {
    const std::uint32_t v = partition.order[i];
    if (i > begin && sum_[v] != sum_[partition.order[i - 1]]) {
      part = i;
      partition.size[part] = 0;
      ++partition.cells;
    }
    if (i == part) trace = mixed(trace ^ mixed(sum_[v] + i));
    partition.cell[v] = part;
    ++partition.size[part];
    if (part != begin) changed.push_back(v);
  }
}

/// The tree of choices below a partition. Returns the depth to go back to: `depth` unless an automorphism showed that the rest of this
/// branch is a copy of an earlier one.
std::size_t Search::descend(const Partition& partition, std::size_t depth) {
  if (partition.discrete()) return at_leaf(partition);
  // The first of the smallest cells with a choice.
  std::uint32_t target = 0, smallest = 0;
  for (std::uint32_t begin = 0; begin < partition.order.size(); begin += partition.size[begin]) {
    if (partition.size[begin] > 1 && (smallest == 0 || partition.size[begin] < smallest)) {
      target = begin;
      smallest = partition.size[begin];
    }
  }
  const std::vector<std::uint32_t> choices(partition.order.begin() + target,
                                           partition.order.begin() + target + smallest);
  std::vector<std::uint32_t> orbit(graph_.size());
  std::iota(orbit.begin(), orbit.end(), 0);
  std::size_t used = 0;  // automorphisms that `orbit` knows of
  for (std::size_t k = 0; k < choices.size(); ++k) {
    if (work_ > effort_ && !best_place_.empty()) return depth;
    if (k > 0) {
      merge_orbits(depth, used, orbit);
      const auto seen = [&](std::uint32_t earlier) { return orbit[earlier] == orbit[choices[k]]; };
      if (std::any_of(choices.begin(), choices.begin() + static_cast<std::ptrdiff_t>(k), seen)) continue;
    }

    Partition child = partition;
    work_ += graph_.size();
    // The chosen vertex goes to the front of its cell. What it tells apart is all that the rest, now a cell too, could tell apart.
    std::swap(child.order[target], child.order[target + k]);
    child.size[target] = 1;
    child.size[target + 1] = smallest - 1;
    ++child.cells;
    for (std::uint32_t i = target + 1; i < target + smallest; ++i) child.cell[child.order[i]] = target + 1;
    path_.push_back(choices[k]);
    trace_.push_back(mixed(refine(child, {choices[k]}) + child.cells));
    std::size_t back = depth;
    if (best_place_.empty() || against_best() <= 0) back = descend(child, depth + 1);
    path_.pop_back();
    trace_.pop_back();
    if (back < depth) return back;
  }
  return depth;
}

/// The traces so far, compared with as many of the best leaf's.
std::strong_ordering Search::against_best() const {
  const std::size_t common = std::min(trace_.size(), best_trace_.size());
  for (std::size_t k = 0; k < common; ++k) {
    if (trace_[k] != best_trace_[k]) return trace_[k] <=> best_trace_[k];
  }
  return trace_.size() > common ? std::strong_ordering::greater : std::strong_ordering::equal;
}

std::size_t Search::at_leaf(const Partition& partition) {
  const std::size_t depth = path_.size();
  std::vector<std::uint64_t> found = certificate(partition.cell);
  auto order = std::strong_ordering::less;
  if (!best_place_.empty()) {
    order = against_best();
    if (order == 0) order = trace_.size() <=> best_trace_.size();
    if (order == 0)
      order = std::lexicographical_compare_three_way(found.begin(), found.end(), best_certificate_.begin(),
                                                     best_certificate_.end());
  }
  if (order < 0) {
    best_place_ = partition.cell;
    best_path_ = path_;
    best_trace_ = trace_;
    best_certificate_ = std::move(found);
    return depth;
  }
  if (order > 0) return depth;
  // The same graph under two numberings: an automorphism. It carries the branch of the best leaf to this one.
  std::vector<std::uint32_t> automorphism(graph_.size());
  std::vector<std::uint32_t> best_order(graph_.size());
  for (std::uint32_t v = 0; v < graph_.size(); ++v) best_order[best_place_[v]] = v;
  for (std::uint32_t v = 0; v < graph_.size(); ++v) automorphism[best_order[partition.cell[v]]] = v;
  automorphisms_.push_back(std::move(automorphism));
  const auto parted = std::mismatch(path_.begin(), path_.end(), best_path_.begin(), best_path_.end()).first;
  return static_cast<std::size_t>(parted - path_.begin());
}

/// The edges of the graph as numbered by `place`.
std::vector<std::uint64_t> Search::certificate(const std::vector<std::uint32_t>& place) const {
  std::vector<std::uint64_t> edges;
  for (std::uint32_t v = 0; v < graph_.size(); ++v) {
    for (const auto& edge : graph_.neighbours[v]) {
      const std::uint64_t a = place[v], b = place[edge.to];
      if (a < b) edges.push_back(a << 40 | b << 16 | edge.colour);
    }
  }
  std::sort(edges.begin(), edges.end());
  return edges;
}

/// Merges orbits (each vertex has the name of its own) by the automorphisms from number `used` on that fix the first `depth` chosen
/// vertices.
void Search::merge_orbits(std::size_t depth, std::size_t& used, std::vector<std::uint32_t>& orbit) {
  for (; used < automorphisms_.size(); ++used) {
    const auto& image = automorphisms_[used];
    work_ += depth;
    if (!std::all_of(path_.begin(), path_.begin() + static_cast<std::ptrdiff_t>(depth),
                     [&](std::uint32_t v) { return image[v] == v; }))
      continue;
    work_ += orbit.size();
    for (std::uint32_t v = 0; v < orbit.size(); ++v) {
      const std::uint32_t from = orbit[v], to = orbit[image[v]];
      if (from == to) continue;
      std::replace(orbit.begin(), orbit.end(), std::max(from, to), std::min(from, to));
      work_ += orbit.size();
    }
  }
}

}  // namespace

CanonicalOrder canonical_order(const ColouredGraph& graph, std::uint64_t effort) {
  return Search(graph, effort).run();
}

}  // namespace moleblend
