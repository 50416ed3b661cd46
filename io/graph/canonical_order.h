#pragma once
// Canonical numbering of a coloured graph: the same for the same graph, whatever the order its vertices come in.
//
// Colour refinement, individualisation where it leaves a choice, and automorphisms found on the way to prune the choices: B. D. McKay,
// A. Piperno, "Practical graph isomorphism, II", J. Symb. Comput. 60 (2014).

#include <cstdint>
#include <span>
#include <vector>

namespace moleblend {

/// An undirected graph with coloured vertices and edges, without loops and double edges.
struct ColouredGraph {
  struct Edge {
    std::uint32_t to;
    std::uint32_t colour;
  };
  std::vector<std::uint32_t> colours;         // of the n vertices
  std::vector<std::vector<Edge>> neighbours;  // of the n vertices; each edge stands at both ends

  std::size_t size() const { return colours.size(); }
};

struct CanonicalOrder {
  std::vector<std::uint32_t> place;  // [n] of each vertex, a permutation
  bool exact = true;  // false: the search ended at its bound, and another order of the same graph may get other places
};

/// Steps that the search may take: a second at most. Fullerenes and cages take some ten thousands; what needs more (incidence graphs
/// of projective planes, say) is no molecule.
inline constexpr std::uint64_t kCanonicalEffort = 200'000'000;

/// Two graphs written down in their canonical order are equal exactly if they are isomorphic (colours included) and both orders are
/// exact. An order that is not exact is still a permutation: what is written down in it still describes the graph. Deterministic.
CanonicalOrder canonical_order(const ColouredGraph& graph, std::uint64_t effort = kCanonicalEffort);

}  // namespace moleblend
