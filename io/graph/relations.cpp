#include "io/graph/relations.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "io/support/error.h"

// Floyd–Warshall's choice among shortest paths, without its pivot table
//
// In the specified rule, pair (i, j) ends with the pivot k at which its distance was last improved. Since pivots
// ascend, k is the smallest possible highest-numbered inner atom over all shortest paths from i to j, and path(i, j) =
// path(i, k) + path(k, j).
//
// (a) When (i, j) gets its final pivot k, the distances of (i, k) and (k, j) are final, because a prefix of a shortest
// path is one.
//     So the first atom after i, next(i, j) = next(i, k), can be kept instead of the pivot, updated at each
//     improvement.
// (b) path(i, j) = i, then path(v, j) with v = next(i, j). For v ≠ k: v < k, and were there a shortest path from v to j
// whose
//     highest inner atom is below k, then i + that path would beat k for (i, j); so the pivot of (v, j) is k as well,
//     and the claim follows by induction on path(i, k). So a path is walked with `next` alone, and stopping after five
//     hops is free.
// (c) An atom with one neighbour is inner to no shortest path and need not be a pivot.

namespace moleblend {
namespace {

constexpr std::uint8_t kFar = 127;   // unreached; sums of two stay below 256
constexpr std::size_t kSmall = 127;  // the longest distance among so many atoms is 126 < kFar
constexpr std::size_t kMostAtoms = 65535;

/// The bond codes of adjacent atoms as a matrix with rows of `stride`, and the degrees.
void read_bonds(std::size_t n, std::size_t stride, std::span<const Bond> bonds, std::vector<std::uint8_t>& code,
                std::uint16_t* degree) {
  code.assign(n * stride, 0);
  std::fill_n(degree, n, std::uint16_t{0});
  for (const Bond& bond : bonds) {
    if (bond.begin >= n || bond.end >= n)
      throw Error("a bond joins atoms {} and {} of a molecule with {} atoms; prepare the data set again", bond.begin,
                  bond.end, n);
    if (bond.begin == bond.end) continue;
    std::uint8_t& forth = code[bond.begin * stride + bond.end];
    if (forth == 0) {
      ++degree[bond.begin];
      ++degree[bond.end];
    }
    forth = code[bond.end * stride + bond.begin] = bond_code(bond.type, bond.stereo, bond.conjugated);
  }
}

/// Writes spd and path by walking `next`. hops(i, j) is the distance, kUnreachable or more for none.
template <class Index, class Hops>
void walk(std::size_t n, std::size_t stride, const std::uint8_t* code, const Index* next, const Hops& hops,
          std::uint16_t* spd, std::uint8_t* path) {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      const unsigned distance = hops(i, j);
      std::uint64_t codes = 0;
      if (distance < kUnreachable) {
        std::size_t at = i;
        const unsigned steps = std::min<unsigned>(distance, kPathHops);
        for (unsigned hop = 0; hop < steps; ++hop) {
          const std::size_t after = next[at * stride + j];
          codes |= std::uint64_t{code[at * stride + after]} << (8 * hop);
          at = after;
        }
      }
      *spd++ = static_cast<std::uint16_t>(std::min<unsigned>(distance, kUnreachable));
      std::memcpy(path, &codes, kPathHops);
      path += kPathHops;
    }
  }
}

/// Floyd–Warshall over bytes; a row of 16 to 128 of them is one to four vector registers, so this beats any search.
template <std::size_t stride>
void small_relations(std::size_t n, std::span<const Bond> bonds, std::uint16_t* spd, std::uint8_t* path,
                     std::uint16_t* degree, RelationScratch& scratch) {
  read_bonds(n, stride, bonds, scratch.code, degree);
  scratch.distance.resize(n * stride);
  scratch.small_next.resize(n * stride);
  std::uint8_t* distance = scratch.distance.data();
  std::uint8_t* next = scratch.small_next.data();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < stride; ++j) {
      distance[i * stride + j] = scratch.code[i * stride + j] != 0 ? 1 : kFar;
      next[i * stride + j] = static_cast<std::uint8_t>(j);
    }
    distance[i * stride + i] = 0;
  }
  for (std::size_t k = 0; k < n; ++k) {
    if (degree[k] < 2) continue;
    const std::uint8_t* from_k = distance + k * stride;
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint8_t to_k = distance[i * stride + k], first = next[i * stride + k];
      if (to_k == kFar || i == k) continue;
      std::uint8_t* __restrict row = distance + i * stride;
      std::uint8_t* __restrict next_row = next + i * stride;
      for (std::size_t j = 0; j < stride; ++j) {
        const auto through_k = static_cast<std::uint8_t>(to_k + from_k[j]);
        const std::uint8_t best = std::min(row[j], through_k);
        next_row[j] = best == row[j] ? next_row[j] : first;
        row[j] = best;
      }
    }
  }
  const auto hops = [distance](std::size_t i, std::size_t j) -> unsigned {
    const std::uint8_t d = distance[i * stride + j];
    return d == kFar ? static_cast<unsigned>(kUnreachable) : d;
  };
  walk(n, stride, scratch.code.data(), next, hops, spd, path);
}

/// A breadth-first search from each atom, O(n · bonds): the pivot of (i, j) is the smallest over the atoms u before j
/// on a shortest path of the larger of u and the pivot of (i, u).
void large_relations(std::size_t n, std::span<const Bond> bonds, std::uint16_t* spd, std::uint8_t* path,
                     std::uint16_t* degree, RelationScratch& scratch) {
  read_bonds(n, n, bonds, scratch.code, degree);
  scratch.first_neighbour.assign(1, 0);
  scratch.neighbour.clear();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      if (scratch.code[i * n + j] != 0) scratch.neighbour.push_back(static_cast<std::uint16_t>(j));
    }
    scratch.first_neighbour.push_back(static_cast<std::uint32_t>(scratch.neighbour.size()));
  }
  scratch.next.resize(n * n);
  std::vector<std::uint16_t>& queue = scratch.queue;
  std::vector<std::int32_t>& pivot = scratch.pivot;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint16_t* distance = spd + i * n;
    std::uint16_t* next = scratch.next.data() + i * n;
    std::fill_n(distance, n, static_cast<std::uint16_t>(kUnreachable));
    pivot.assign(n, std::numeric_limits<std::int32_t>::max());
    distance[i] = 0;
    queue.assign(1, static_cast<std::uint16_t>(i));
    for (std::size_t head = 0; head < queue.size(); ++head) {
      const std::uint16_t u = queue[head];
      const auto hops = static_cast<std::uint16_t>(distance[u] + 1);
      // All atoms before u have left the queue: its pivot is final, and its pivot's `next` is known.
      if (hops == 2) next[u] = u;
      if (hops > 2) next[u] = next[pivot[u]];
      if (hops >= kUnreachable) continue;
      const std::int32_t through_u = u == i ? -1 : std::max<std::int32_t>(hops == 2 ? -1 : pivot[u], u);
      for (std::uint32_t e = scratch.first_neighbour[u]; e < scratch.first_neighbour[u + 1u]; ++e) {
        const std::uint16_t w = scratch.neighbour[e];
        if (distance[w] == kUnreachable) {
          distance[w] = hops;
          queue.push_back(w);
        }
        if (distance[w] == hops) pivot[w] = std::min(pivot[w], through_u);
      }
    }
  }
  const auto hops = [spd, n](std::size_t i, std::size_t j) -> unsigned { return spd[i * n + j]; };
  walk(n, n, scratch.code.data(), scratch.next.data(), hops, spd, path);
}

}  // namespace

void relations(std::size_t n, std::span<const Bond> bonds, std::uint16_t* spd, std::uint8_t* path,
               std::uint16_t* degree, RelationScratch& scratch) {
  if (n > kMostAtoms)
    throw Error("a molecule has {} atoms, and relations are computed for up to {}; leave it out", n, kMostAtoms);
  const auto compute = n <= 16       ? small_relations<16>
                       : n <= 32     ? small_relations<32>
                       : n <= 64     ? small_relations<64>
                       : n <= kSmall ? small_relations<128>
                                     : large_relations;
  compute(n, bonds, spd, path, degree, scratch);
}

}  // namespace moleblend
