#pragma once
// 2D relations of a molecule: shortest path distances and the bonds along one shortest path (METHOD section 2).

#include <cstdint>
#include <span>

#include "io/dataset/molecule.h"
#include "kernels/common/packed.h"

namespace moleblend {

/// Memory that relations() reuses from molecule to molecule.
struct RelationScratch;

/// Shortest path distances and path codes of a graph of n atoms.
///
/// Ties between shortest paths are broken as Floyd–Warshall does when the pivot k ascends and a path is replaced only on strict
/// improvement, the path then being expanded recursively through the stored pivot; results are bit-equal to that for every graph.
///   spd    [n, n]    hops, 0 on the diagonal, 510 for unreachable pairs (and capped there)
///   path   [n, n, 5] bond codes (bond_code) of the first five hops from i to j; 0 = no such hop
///   degree [n]       number of distinct neighbours
void relations(std::size_t n, std::span<const Bond> bonds, std::uint16_t* spd, std::uint8_t* path, std::uint16_t* degree,
               RelationScratch& scratch);

struct RelationScratch {
  std::vector<std::uint16_t> pivot, distance;
  std::vector<std::uint8_t> adjacent;
  std::vector<std::uint32_t> stack;
};

}  // namespace moleblend
