// Canonical orders of graphs that are hard to tell apart, or look the same from many sides.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <tuple>

#include "io/graph/canonical_order.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {

ColouredGraph graph_of(std::uint32_t n, const std::function<bool(std::uint32_t, std::uint32_t)>& joined) {
  ColouredGraph graph;
  graph.colours.assign(n, 0);
  graph.neighbours.resize(n);
  for (std::uint32_t a = 0; a < n; ++a) {
    for (std::uint32_t b = 0; b < n; ++b) {
      if (a != b && (joined(a, b) || joined(b, a))) graph.neighbours[a].push_back({b, 1});
    }
  }
  return graph;
}

ColouredGraph shuffled(const ColouredGraph& graph, std::uint64_t seed) {
  std::vector<std::uint32_t> place(graph.size());
  std::iota(place.begin(), place.end(), 0);
  std::sort(place.begin(), place.end(),
            [&](std::uint32_t a, std::uint32_t b) { return molecule_key(seed, 0, a) < molecule_key(seed, 0, b); });
  ColouredGraph out;
  out.colours.resize(graph.size());
  out.neighbours.resize(graph.size());
  for (std::uint32_t v = 0; v < graph.size(); ++v) {
    out.colours[place[v]] = graph.colours[v];
    for (auto edge : graph.neighbours[v]) out.neighbours[place[v]].push_back({place[edge.to], edge.colour});
    if (seed % 2) std::reverse(out.neighbours[place[v]].begin(), out.neighbours[place[v]].end());
  }
  return out;
}

using Written =
    std::pair<std::vector<std::uint32_t>, std::vector<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>>>;

/// The graph in its canonical order: colours, and edges as (place, place, colour).
Written written(const ColouredGraph& graph) {
  const CanonicalOrder order = canonical_order(graph);
  EXPECT_TRUE(order.exact);
  Written text;
  text.first.resize(graph.size());
  for (std::uint32_t v = 0; v < graph.size(); ++v) {
    text.first[order.place.at(v)] = graph.colours[v];
    for (const auto& edge : graph.neighbours[v])
      text.second.emplace_back(order.place[v], order.place[edge.to], edge.colour);
  }
  std::sort(text.second.begin(), text.second.end());
  return text;
}

void expect_canonical(const ColouredGraph& graph) {
  const Written plain = written(graph);
  for (std::uint64_t seed = 1; seed <= 8; ++seed) EXPECT_EQ(written(shuffled(graph, seed)), plain) << "seed " << seed;
}

/// Whether two of the icosahedron's twelve vertices are joined: poles 0 and 11, and two rings of five.
bool icosahedron(std::uint32_t a, std::uint32_t b) {
  if (a > b) std::swap(a, b);
  if (a == b) return false;
  if (a == 0) return b <= 5;
  if (b == 11) return a >= 6;
  if (b <= 5 || a >= 6) return (b - a) % 5 == 1 || (b - a) % 5 == 4;
  return (b - 6) == (a - 1) || (b - 6) == a % 5;
}

/// A corner of buckminsterfullerene is an edge of the icosahedron seen from one end.
ColouredGraph fullerene() {
  std::vector<std::array<std::uint32_t, 2>> corners;
  for (std::uint32_t a = 0; a < 12; ++a) {
    for (std::uint32_t b = 0; b < 12; ++b) {
      if (icosahedron(a, b)) corners.push_back({a, b});
    }
  }
  return graph_of(60, [corners](std::uint32_t i, std::uint32_t j) {
    const auto [a, b] = corners.at(i);
    const auto [c, d] = corners.at(j);
    return (a == d && b == c) || (a == c && icosahedron(b, d));
  });
}

// Strongly regular, both with the parameters (16, 6, 2, 2): the 4 × 4 rook's graph and Shrikhande's.
bool rook(std::uint32_t a, std::uint32_t b) {
  return a / 4 == b / 4 || a % 4 == b % 4;
}
bool shrikhande(std::uint32_t a, std::uint32_t b) {
  const std::uint32_t x = (b / 4 - a / 4) & 3u, y = (b - a) & 3u;
  return (x == 0 && y == 1) || (x == 1 && y == 0) || (x == 1 && y == 1);
}

TEST(CanonicalOrder, OfBuckminsterfullerene) {
  const ColouredGraph graph = fullerene();
  for (const auto& edges : graph.neighbours) ASSERT_EQ(edges.size(), 3u);
  expect_canonical(graph);
}

TEST(CanonicalOrder, OfManyEqualBranches) {
  // 24 rings of six on a chain: more than 10⁷ symmetries a ring by ring search would go through.
  const auto joined = [](std::uint32_t a, std::uint32_t b) {
    if (a < 24) return b == a + 1 ? b < 24 : b == 24 + 6 * a;
    const std::uint32_t ring = (a - 24) / 6, place = (a - 24) % 6;
    return b >= 24 && (b - 24) / 6 == ring && (b - 24) % 6 == (place + 1) % 6;
  };
  expect_canonical(graph_of(24 * 7, joined));
}

TEST(CanonicalOrder, OfATorus) {
  expect_canonical(graph_of(144, [](std::uint32_t a, std::uint32_t b) {
    return (b / 12 == a / 12 && b % 12 == (a + 1) % 12) || (b % 12 == a % 12 && b / 12 == (a / 12 + 1) % 12);
  }));
}

TEST(CanonicalOrder, TellsApartWhatColourRefinementDoesNot) {
  const auto ring = [](std::uint32_t a, std::uint32_t b, std::uint32_t first, std::uint32_t n) {
    return a >= first && a < first + n && b >= first && b < first + n && (b - first) == (a - first + 1) % n;
  };
  const auto six = graph_of(6, [&](auto a, auto b) { return ring(a, b, 0, 6); });
  const auto two_threes = graph_of(6, [&](auto a, auto b) { return ring(a, b, 0, 3) || ring(a, b, 3, 3); });
  const auto prism = graph_of(6, [&](auto a, auto b) { return ring(a, b, 0, 3) || ring(a, b, 3, 3) || b == a + 3; });
  const auto bipartite = graph_of(6, [](auto a, auto b) { return a % 2 != b % 2; });
  const auto rooks = graph_of(16, rook), shrikhandes = graph_of(16, shrikhande);
  for (const auto& [one, other] :
       {std::pair(six, two_threes), std::pair(prism, bipartite), std::pair(rooks, shrikhandes)}) {
    expect_canonical(one);
    expect_canonical(other);
    EXPECT_NE(written(one), written(other));
  }
  EXPECT_EQ(rooks.neighbours[5].size(), shrikhandes.neighbours[5].size());
}

// Cells that are no orbits: which of their vertices comes first must be found by comparing what follows from each.
TEST(CanonicalOrder, ChoosesAmongVerticesThatOnlyLookEqual) {
  // Frucht's graph: each vertex has three neighbours, and there is no symmetry at all.
  const std::array<std::uint32_t, 12> jumps = {7, 10, 8, 2, 5, 10, 2, 5, 10, 7, 4, 2};
  const auto frucht = graph_of(12, [&](auto a, auto b) { return b == (a + 1) % 12 || b == (a + jumps[a]) % 12; });
  for (const auto& edges : frucht.neighbours) ASSERT_EQ(edges.size(), 3u);
  expect_canonical(frucht);
  // The rook's graph and Shrikhande's side by side.
  expect_canonical(graph_of(
      32, [](auto a, auto b) { return a / 16 == b / 16 && (a < 16 ? rook(a, b) : shrikhande(a - 16, b - 16)); }));
}

TEST(CanonicalOrder, SeesColoursOfVerticesAndEdges) {
  const auto square = graph_of(4, [](auto a, auto b) { return b == (a + 1) % 4; });
  auto next = square, across = square, edge = square;
  next.colours = {1, 1, 0, 0};
  across.colours = {1, 0, 1, 0};
  for (auto& e : edge.neighbours[0]) e.colour = e.to == 1 ? 2 : e.colour;
  for (auto& e : edge.neighbours[1]) e.colour = e.to == 0 ? 2 : e.colour;
  const std::array all = {written(square), written(next), written(across), written(edge)};
  for (std::size_t a = 0; a < all.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) EXPECT_NE(all[a], all[b]);
  }
  for (const auto& graph : {square, next, across, edge}) expect_canonical(graph);
}

TEST(CanonicalOrder, SaysThatItGaveUp) {
  const ColouredGraph graph = fullerene();
  const CanonicalOrder order = canonical_order(graph, 100);
  EXPECT_FALSE(order.exact);
  auto place = order.place;
  std::sort(place.begin(), place.end());
  for (std::uint32_t k = 0; k < 60; ++k) EXPECT_EQ(place.at(k), k);
}

TEST(CanonicalOrder, OfNothingIsNothing) {
  EXPECT_TRUE(canonical_order({}).place.empty());
}

}  // namespace
}  // namespace moleblend
