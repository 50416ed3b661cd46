#pragma once
// 2D relations of a molecule: shortest path distances and the bonds along one shortest path (METHOD section 2).

#include <cstdint>
#include <span>
#include <vector>

#include "io/dataset/molecule.h"
#include "io/dataset/molecule_view.h"
#include "kernels/common/packed.h"

namespace moleblend {

/// Memory that relations() reuses from molecule to molecule.
struct RelationScratch;

/// Shortest path distances and path codes of a graph of n atoms.
///
/// Ties between shortest paths are broken as Floyd–Warshall does when the pivot k ascends and a path is replaced only
/// on strict improvement, the path then being expanded recursively through the stored pivot; results are bit-equal to
/// that for every graph.
///   spd    [n, n]    hops, 0 on the diagonal, 510 for unreachable pairs (and capped there)
///   path   [n, n, 5] bond codes (bond_code) of the first five hops from i to j; 0 = no such hop
///   degree [n]       number of distinct neighbours
/// Of several bonds between two atoms the last one given counts; a bond from an atom to itself is none. Throws Error
/// for a bond to an atom that does not exist, and for n > 65,535 (a molecule would take 30 GB).
void relations(std::size_t n, std::span<const CodedBond> bonds, std::uint16_t* spd, std::uint8_t* path,
               std::uint16_t* degree, RelationScratch& scratch);
void relations(std::size_t n, std::span<const Bond> bonds, std::uint16_t* spd, std::uint8_t* path,
               std::uint16_t* degree, RelationScratch& scratch);

struct RelationScratch {
  MoleculeView view;  // of a molecule that lies elsewhere: its bonds as codes
  // Of large molecules; small ones are done in registers and on the stack.
  std::vector<std::uint8_t> code;   // [n, n] bond code of adjacent atoms, 0 for others
  std::vector<std::uint16_t> next;  // [n, n] first atom after i on the path from i to j
  std::vector<std::uint16_t> neighbour, queue;
  std::vector<std::uint32_t> first_neighbour;
  std::vector<std::int32_t> pivot;
};

}  // namespace moleblend
