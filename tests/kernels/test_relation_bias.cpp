// The blended relation bias against the formulas of the method written out a pair at a time, and its gradients.

#include <set>

#include "check.h"
#include "kernels/relation_bias/relation_bias.h"

namespace moleblend::testing {
namespace {

using Vec = std::vector<double>;
using Index = std::size_t;

/// Parameters in the order of RelationTables, or their gradients.
template <class T>
struct Tables {
  std::vector<T> spd, edge, hop, graph, mul, bias, mean, std, w1, b1, w2, b2;
  bool operator==(const Tables&) const = default;
  template <class U>
  Tables<U> converted() const {
    const auto c = [](const std::vector<T>& v) { return std::vector<U>(v.begin(), v.end()); };
    return {c(spd), c(edge), c(hop), c(graph), c(mul), c(bias), c(mean), c(std), c(w1), c(b1), c(w2), c(b2)};
  }
  RelationTables<T> writable() {
    return {spd.data(),  edge.data(), hop.data(), graph.data(), mul.data(), bias.data(),
            mean.data(), std.data(),  w1.data(),  b1.data(),    w2.data(),  b2.data()};
  }
  RelationTables<const T> pointers() const {
    return {spd.data(),  edge.data(), hop.data(), graph.data(), mul.data(), bias.data(),
            mean.data(), std.data(),  w1.data(),  b1.data(),    w2.data(),  b2.data()};
  }
};

struct Case {
  PackedSizes sizes;
  Packed packed;
  Index H, K;
  Tables<double> p;
  std::vector<std::uint16_t> spd, codes;
  std::vector<std::uint8_t> path, pair_visible, atom_visible;
  Vec positions, dbias, dsum;

  Case(const Case&) = delete;  // `packed` points into `sizes`
  Case(std::initializer_list<int> atoms, Index heads, Index kernels, std::uint64_t seed = 1)
      : sizes(atoms), packed(sizes.packed()), H(heads), K(kernels) {
    std::mt19937 g(static_cast<unsigned>(seed));
    p.spd = random_values(512 * H, 1);
    p.edge = random_values((3 * 512 + 1) * H, 2);
    p.hop = random_values(128 * H * H, 3, 0.5);
    p.graph = random_values(H, 4);
    p.mul = random_values(1536, 5, 0.1);
    for (double& v : p.mul) v += 0.5;
    p.bias = random_values(1536, 6, 0.1);
    p.mean = random_values(K, 7);
    p.std = random_values(K, 8);
    for (double& v : p.std) v += v < 0 ? -0.3 : 0.3;  // both signs, none so narrow that finite differences fail
    p.w1 = random_values(K * K, 9, 0.6);
    p.b1 = random_values(K, 10, 0.3);
    p.w2 = random_values(H * K, 11, 0.5);
    p.b2 = random_values(H, 12, 0.3);
    positions = random_values(Index(3 * packed.atoms()), 13, 1.5);
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      const std::int64_t n = packed.atoms_of(b);
      for (std::int64_t i = 0; i < n; ++i) {
        for (int f = 0; f < 9; ++f) codes.push_back(std::uint16_t(g() % 7 == 0 ? 118 : g() % 9));
        atom_visible.push_back(std::uint8_t(g() % 4));
        for (std::int64_t j = 0; j < n; ++j) {
          // Far, near and unreachable pairs; the diagonal has no path.
          const int s = i == j ? 0 : g() % 6 == 0 ? kUnreachable : int(1 + g() % 8);
          spd.push_back(std::uint16_t(s));
          for (int d = 0; d < kPathHops; ++d) {
            path.push_back(d < s && s != kUnreachable ? bond_code(int(g() % 5), int(g() % 6), int(g() % 2))
                                                      : std::uint8_t(0));
          }
          pair_visible.push_back(std::uint8_t(g() % 8));  // every combination of the three bits
        }
      }
    }
    dbias = random_values(H * Index(packed.token_pairs()), 14);
    dsum = random_values(Index(packed.atoms()) * K, 15);
  }

  template <class T>
  RelationBiasInput<T> input(const Tables<T>& tables, const std::vector<T>& x) const {
    return {packed,       std::int64_t(H), std::int64_t(K),     spd.data(),          path.data(),
            codes.data(), x.data(),        pair_visible.data(), atom_visible.data(), tables.pointers()};
  }

  struct Values {
    Vec bias, sum;
  };

  /// METHOD sections 4 and 5, one pair after the other, with nothing shared or tabulated.
  Values expected() const {
    Values v{Vec(dbias.size()), Vec(dsum.size())};
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      const std::int64_t n = packed.atoms_of(b), t = n + 1;
      const auto at = [&](Index h, std::int64_t i, std::int64_t j) -> double& {
        return v.bias[H * Index(packed.token_pair_offset[b]) + h * Index(t * t) + Index(i * t + j)];
      };
      for (Index h = 0; h < H; ++h) {
        for (std::int64_t k = 0; k < t; ++k) at(h, 0, k) = at(h, k, 0) = p.graph[h];
      }
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          const Index pair = Index(packed.pair_offset[b] + i * n + j);
          const Index row = Index(packed.atom_offset[b] + i), column = Index(packed.atom_offset[b] + j);
          const int s = spd[pair];
          const Vec g = gaussians(row, column);
          if (atom_visible[row] & kShowGaussians) {
            for (Index k = 0; k < K; ++k) v.sum[row * K + k] += g[k];
          }
          for (Index h = 0; h < H; ++h) {
            double value = 0;
            if (pair_visible[pair] & kShowSpd) value += p.spd[Index(s + 1) * H + h];
            if ((pair_visible[pair] & kShowEdge) && s != kUnreachable) {
              for (int d = 0; d < std::min(s, 5); ++d) {
                const std::uint8_t bond = path[pair * 5 + Index(d)];
                for (Index q = 0; q < H; ++q) {
                  const double mean =
                      (p.edge[Index(bond_type(bond) + 3) * H + q] + p.edge[Index(bond_stereo(bond) + 515) * H + q] +
                       p.edge[Index(bond_conjugated(bond) + 1027) * H + q]) /
                      3;
                  value += mean * p.hop[Index(d) * H * H + q * H + h] / std::min(s, 5);
                }
              }
            }
            if (pair_visible[pair] & kShowDistance) value += mlp(g, h);
            at(h, i + 1, j + 1) = value;
          }
        }
      }
    }
    return v;
  }
  Vec gaussians(Index row, Index column) const {
    double square = 0;
    for (Index axis = 0; axis < 3; ++axis)
      square += std::pow(positions[3 * column + axis] - positions[3 * row + axis], 2);
    const Index zi = codes[9 * row] + 3u, zj = codes[9 * column] + 515u;
    const double u = (p.mul[zi] + p.mul[zj]) * std::sqrt(square) + p.bias[zi] + p.bias[zj];
    Vec g;
    for (Index k = 0; k < K; ++k) {
      const double sigma = std::abs(p.std[k]) + 0.01;
      g.push_back(std::exp(-0.5 * std::pow((u - p.mean[k]) / sigma, 2)) / (std::sqrt(2 * 3.14159) * sigma));
    }
    return g;
  }
  double mlp(const Vec& g, Index h) const {
    double value = p.b2[h];
    for (Index k = 0; k < K; ++k) {
      double hidden = p.b1[k];
      for (Index q = 0; q < K; ++q) hidden += p.w1[k * K + q] * g[q];
      value += p.w2[h * K + k] * 0.5 * hidden * (1 + std::erf(hidden / std::sqrt(2.0)));
    }
    return value;
  }

  template <class T>
  struct Output {
    std::vector<T> bias, sum;
    bool operator==(const Output&) const = default;
  };
  template <class T>
  Output<T> forward(int threads) const {
    Cpu cpu(threads);
    const auto tables = p.converted<T>();
    const auto x = as<T>(positions);
    const T nan = std::numeric_limits<T>::quiet_NaN();
    Output<T> o{std::vector<T>(dbias.size(), nan), std::vector<T>(dsum.size(), nan)};
    relation_bias_forward<T>(cpu, {input(tables, x), o.bias.data(), o.sum.data()});
    return o;
  }
  template <class T>
  Tables<T> backward(int threads, double start = 0, bool with_sum = true) const {
    Cpu cpu(threads);
    const auto tables = p.converted<T>();
    const auto x = as<T>(positions), db = as<T>(dbias), ds = as<T>(dsum);
    const auto filled = [&](const Vec& v) { return std::vector<T>(v.size(), T(start)); };
    Tables<T> g{filled(p.spd),  filled(p.edge), filled(p.hop), filled(p.graph), filled(p.mul), filled(p.bias),
                filled(p.mean), filled(p.std),  filled(p.w1),  filled(p.b1),    filled(p.w2),  filled(p.b2)};
    relation_bias_backward<T>(cpu, {input(tables, x), db.data(), with_sum ? ds.data() : nullptr, g.writable()});
    return g;
  }
};

TEST(RelationBias, EqualsTheFormulas) {
  const Case c({1, 2, 7, 0, 20, 1, 3}, 3, 6);
  const auto expected = c.expected();
  for (const int threads : {1, 2, 3, 7}) {
    const auto d = c.forward<double>(threads);
    expect_close<double, double>(d.bias, expected.bias, 1e-12, 1, "bias");
    expect_close<double, double>(d.sum, expected.sum, 1e-12, 1, "gaussian_sum");
    // Float: u near 5 with ε 3e-7 over widths from 0.3, g up to 1.3, then two layers; sums over 20 atoms. Measured 2e-6.
    const auto f = c.forward<float>(threads);
    expect_close<float, double>(f.bias, expected.bias, 2e-5, 1, "bias in float");
    expect_close<float, double>(f.sum, expected.sum, 2e-5, 1, "gaussian_sum in float");
    EXPECT_TRUE(f == c.forward<float>(1)) << "other bits on " << threads << " threads";
  }
}

TEST(RelationBias, EqualsTheFormulasAtTheSizesOfTheBaseModel) {
  const Case c({18, 1, 9, 15}, 32, 128);
  const auto expected = c.expected();
  const auto d = c.forward<double>(2);
  expect_close<double, double>(d.bias, expected.bias, 1e-11, 1, "bias");
  expect_close<double, double>(d.sum, expected.sum, 1e-12, 1, "gaussian_sum");
  // Sums of 128 products in two layers, values up to 30: √128 ε and the error of u through the narrowest Gaussian.
  expect_close<float, double>(c.forward<float>(2).bias, expected.bias, 1e-4, 1, "bias in float");
}

/// Entries of a table whose rows (of `width`) are in `rows`.
std::vector<Index> entries(const std::set<Index>& rows, Index width) {
  std::vector<Index> e;
  for (const Index row : rows) {
    for (Index k = 0; k < width; ++k) e.push_back(row * width + k);
  }
  return e;
}
std::vector<Index> all(Index count) {
  std::set<Index> rows;
  for (Index k = 0; k < count; ++k) rows.insert(k);
  return entries(rows, 1);
}

TEST(RelationBias, GradientsAgainstFiniteDifferences) {
  Case c({1, 2, 7, 0, 18, 3}, 3, 6, 2);
  const auto g = c.backward<double>(2);
  const auto objective = [&] {
    const auto v = c.expected();
    double sum = 0;
    for (Index k = 0; k < v.bias.size(); ++k) sum += v.bias[k] * c.dbias[k];
    for (Index k = 0; k < v.sum.size(); ++k) sum += v.sum[k] * c.dsum[k];
    return sum;
  };
  // Which rows the inputs reach, from the formulas.
  std::set<Index> spd, edge, element;
  for (Index pair = 0; pair < c.spd.size(); ++pair) {
    if (c.pair_visible[pair] & kShowSpd) spd.insert(c.spd[pair] + 1u);
    if (!(c.pair_visible[pair] & kShowEdge)) continue;
    for (Index d = 0; d < 5; ++d) {
      if (const std::uint8_t bond = c.path[5 * pair + d]) {
        edge.insert({Index(bond_type(bond) + 3), Index(bond_stereo(bond) + 515), Index(bond_conjugated(bond) + 1027)});
      }
    }
  }
  for (Index atom = 0; atom < Index(c.packed.atoms()); ++atom)
    element.insert({c.codes[9 * atom] + 3u, c.codes[9 * atom] + 515u});
  // Checks the gradient on `used` entries, and that all others are exactly zero.
  const auto check = [&](Vec& table, const Vec& gradient, const std::vector<Index>& used, const char* what) {
    Vec values, derivative, rest = gradient;
    for (const Index k : used) {
      values.push_back(table[k]);
      derivative.push_back(gradient[k]);
      rest[k] = 0;
    }
    const Vec kept = values;
    expect_gradient(
        values, derivative,
        [&] {
          for (Index k = 0; k < used.size(); ++k) table[used[k]] = values[k];
          return objective();
        },
        what);
    for (Index k = 0; k < used.size(); ++k) table[used[k]] = kept[k];
    for (const double x : rest) ASSERT_EQ(x, 0) << what << ": a row that no input reaches has a gradient";
  };
  check(c.p.spd, g.spd, entries(spd, 3), "spd_table");
  check(c.p.edge, g.edge, entries(edge, 3), "edge_table");
  check(c.p.hop, g.hop, all(5 * 3 * 3), "edge_hop");
  check(c.p.graph, g.graph, all(3), "graph_token");
  check(c.p.mul, g.mul, entries(element, 1), "gaussian_mul");
  check(c.p.bias, g.bias, entries(element, 1), "gaussian_bias");
  check(c.p.mean, g.mean, all(6), "gaussian_mean");
  check(c.p.std, g.std, all(6), "gaussian_std");
  check(c.p.w1, g.w1, all(36), "distance_w1");
  check(c.p.b1, g.b1, all(6), "distance_b1");
  check(c.p.w2, g.w2, all(18), "distance_w2");
  check(c.p.b2, g.b2, all(3), "distance_b2");
}

/// Every table of `a` within `tolerance` of `b`, relative to the table's largest entry.
template <class A>
void expect_tables_close(const Tables<A>& a, const Tables<double>& b, double tolerance) {
  const auto close = [&](const std::vector<A>& x, const Vec& y, const char* what) {
    double largest = 0;
    for (const double v : y) largest = std::max(largest, std::abs(v));
    expect_close<A, double>(x, y, tolerance, largest, what);
  };
  close(a.spd, b.spd, "spd_table");
  close(a.edge, b.edge, "edge_table");
  close(a.hop, b.hop, "edge_hop");
  close(a.graph, b.graph, "graph_token");
  close(a.mul, b.mul, "gaussian_mul");
  close(a.bias, b.bias, "gaussian_bias");
  close(a.mean, b.mean, "gaussian_mean");
  close(a.std, b.std, "gaussian_std");
  close(a.w1, b.w1, "distance_w1");
  close(a.b1, b.b1, "distance_b1");
  close(a.w2, b.w2, "distance_w2");
  close(a.b2, b.b2, "distance_b2");
}

TEST(RelationBias, GradientsAgreeOverThreadsAndPrecisions) {
  for (const Index kernels : {6, 128}) {
    const Case c({18, 1, 9, 15, 40}, kernels == 6 ? 3 : 32, kernels);
    const auto expected = c.backward<double>(1);
    for (const int threads : {1, 2, 3}) {
      expect_tables_close(c.backward<double>(threads), expected, 1e-12);
      // Float: sums over 2000 pairs, each with the error of the forward values (1e-5).
      expect_tables_close(c.backward<float>(threads), expected, 1e-4);
      EXPECT_TRUE(c.backward<float>(threads) == c.backward<float>(threads))
          << "reruns differ on " << threads << " threads";
    }
  }
}

TEST(RelationBias, GradientsAreAdded) {
  const Case c({4, 6}, 3, 6);
  auto shifted = c.backward<double>(2, 1000);
  for (auto* table : {&shifted.spd, &shifted.edge, &shifted.hop, &shifted.graph, &shifted.mul, &shifted.bias,
                      &shifted.mean, &shifted.std, &shifted.w1, &shifted.b1, &shifted.w2, &shifted.b2}) {
    for (double& v : *table) v -= 1000;
  }
  expect_tables_close(shifted, c.backward<double>(2), 1e-9);
}

TEST(RelationBias, WithoutPositionsOrSumOnlyGraphRelationsCount) {
  Case c({5, 3}, 3, 6);
  for (auto& v : c.pair_visible) v &= kShowSpd | kShowEdge;
  for (auto& v : c.atom_visible) v &= kShowDegree;
  const auto expected = c.expected();
  Cpu cpu(2);
  auto in = c.input(c.p, c.positions);
  in.positions = nullptr;
  Vec bias(c.dbias.size());
  relation_bias_forward<double>(cpu, {in, bias.data(), nullptr});
  expect_close<double, double>(bias, expected.bias, 1e-12);
  const auto g = c.backward<double>(2, 0, false);
  EXPECT_TRUE(g == c.backward<double>(2, 0, true));
  for (const double x : g.w1) EXPECT_EQ(x, 0);
  for (const double x : g.mean) EXPECT_EQ(x, 0);
}

TEST(RelationBias, WidthOfTheGaussiansHasNoGradientAtZero) {
  Case c({6}, 3, 6);
  c.p.std[2] = 0;  // σ = 0.01: the derivative of |std| is taken as zero there
  EXPECT_EQ(c.backward<double>(1).std[2], 0);
}

TEST(RelationBias, EmptyBatchIsNoWork) {
  const Case c({}, 3, 6);
  EXPECT_TRUE(c.forward<double>(3).bias.empty());
  for (const double x : c.backward<double>(3).spd) EXPECT_EQ(x, 0);
  const Case lone({0, 0}, 3, 6);  // graph tokens alone
  EXPECT_EQ(lone.forward<double>(2).bias, lone.expected().bias);
}

}  // namespace
}  // namespace moleblend::testing
