// Token embeddings against a table look-up written out, and their gradients.

#include "check.h"
#include "kernels/atom_embedding/atom_embedding.h"

namespace moleblend::testing {
namespace {

using Vec = std::vector<double>;

struct Case {
  PackedSizes sizes{1, 5, 0, 12, 2};
  Packed packed = sizes.packed();
  std::int64_t width;
  std::vector<std::uint16_t> codes, degree;
  std::vector<std::uint8_t> visible;
  Vec atom_table, in_table, out_table, graph_token, gaussian, dx;
  explicit Case(std::int64_t d)
      : width(d),
        atom_table(random_values(std::size_t((9 * 512 + 1) * d), 1)),
        in_table(random_values(std::size_t(512 * d), 2)),
        out_table(random_values(std::size_t(512 * d), 3)),
        graph_token(random_values(std::size_t(d), 4)),
        gaussian(random_values(std::size_t(packed.atoms() * d), 5, 100)),
        dx(random_values(std::size_t(packed.tokens() * d), 6)) {
    std::mt19937 g(7);
    for (std::int64_t atom = 0; atom < packed.atoms(); ++atom) {
      // Few categories, so that rows are shared; the largest ones too.
      for (int f = 0; f < kAtomFeatures; ++f) codes.push_back(std::uint16_t(g() % 4 == 0 ? 118 : g() % 3));
      degree.push_back(std::uint16_t(atom == 3 ? 510 : atom == 4 ? 700 : g() % 5));
      visible.push_back(std::uint8_t(atom % 4));  // every combination of the two bits
    }
  }
  template <class T>
  std::vector<T> forward(Cpu& cpu) const {
    const auto a = as<T>(atom_table), i = as<T>(in_table), o = as<T>(out_table), g = as<T>(graph_token),
               s = as<T>(gaussian);
    std::vector<T> x(dx.size());
    atom_embedding_forward<T>(cpu, {packed, width, codes.data(), degree.data(), visible.data(), a.data(), i.data(),
                                    o.data(), g.data(), s.data(), x.data()});
    return x;
  }
  Vec expected() const {
    Vec x;
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      x.insert(x.end(), graph_token.begin(), graph_token.end());
      for (auto atom = std::size_t(packed.atom_offset[b]); atom < std::size_t(packed.atom_offset[b + 1]); ++atom) {
        for (std::size_t d = 0; d < std::size_t(width); ++d) {
          double sum = 0;
          for (std::size_t f = 0; f < 9; ++f)
            sum += atom_table[(codes[9 * atom + f] + 512 * f + 2) * std::size_t(width) + d];
          const std::size_t row = std::size_t(std::min<int>(degree[atom] + 1, 511)) * std::size_t(width) + d;
          if (visible[atom] & kShowDegree) sum += in_table[row] + out_table[row];
          if (visible[atom] & kShowGaussians) sum += 0.01 * gaussian[atom * std::size_t(width) + d];
          x.push_back(sum);
        }
      }
    }
    return x;
  }
};

struct Gradients {
  Vec atom, in, out, graph, gaussian;
};
Gradients backward(Cpu& cpu, const Case& c) {
  Gradients g{Vec(c.atom_table.size()), Vec(c.in_table.size()), Vec(c.out_table.size()), Vec(c.graph_token.size()),
              Vec(c.gaussian.size(), 77)};
  atom_embedding_backward<double>(
      cpu, {c.packed, c.width, c.codes.data(), c.degree.data(), c.visible.data(), c.dx.data(), g.atom.data(),
            g.in.data(), g.out.data(), g.graph.data(), g.gaussian.data()});
  return g;
}

TEST(AtomEmbedding, EqualsTheDefinition) {
  for (const std::int64_t width : {8, 50}) {
    const Case c(width);
    const Vec expected = c.expected();
    for (const int threads : {1, 2, 3}) {
      Cpu cpu(threads);
      expect_close<double, double>(c.forward<double>(cpu), expected, 1e-14, 1, "double");
      // Twelve additions of numbers near one: 12 ε.
      expect_close<float, double>(c.forward<float>(cpu), expected, 12 * 1.2e-7, 1, "float");
    }
  }
}

TEST(AtomEmbedding, GradientsAgainstFiniteDifferences) {
  Case c(20);
  Cpu cpu(2);
  const Gradients g = backward(cpu, c);
  const auto objective = [&] {
    const Vec x = c.expected();
    double sum = 0;
    for (std::size_t k = 0; k < x.size(); ++k) sum += x[k] * c.dx[k];
    return sum;
  };
  // The tables are large and few rows are used, so every used row is checked against the derivative of the definition, which is
  // linear: a gradient is the objective's change for a unit step.
  const auto check = [&](Vec& table, const Vec& gradient, const char* what) {
    double used = 0;
    const double base = objective();
    for (std::size_t row = 0; row < table.size(); row += 20) {
      const std::size_t k = row + row / 20 % 20;  // one column of each row, all columns in turn
      if (table.size() > 20000 && gradient[k] == 0 && row % 1000 != 0) continue;  // unused rows: a sample
      table[k] += 1;
      EXPECT_NEAR(objective() - base, gradient[k], 1e-9) << what << " " << row / 20;
      table[k] -= 1;
      used += std::abs(gradient[k]);
    }
    EXPECT_GT(used, 0.01) << what;
  };
  check(c.atom_table, g.atom, "atom_table");
  check(c.in_table, g.in, "in_degree_table");
  check(c.out_table, g.out, "out_degree_table");
  check(c.graph_token, g.graph, "graph_token");
  check(c.gaussian, g.gaussian, "gaussian_term");
  for (std::size_t d = 0; d < 20; ++d) EXPECT_TRUE(g.atom[d] == 0 && g.in[d] == 0 && g.out[d] == 0) << "padding row";
}

TEST(AtomEmbedding, SameBitsForEveryNumberOfThreads) {
  const Case c(72);
  Cpu one(1);
  const Gradients expected = backward(one, c);
  const auto x = c.forward<float>(one);
  for (const int threads : {2, 3, 5}) {
    Cpu cpu(threads);
    const Gradients g = backward(cpu, c);
    EXPECT_TRUE(g.atom == expected.atom && g.in == expected.in && g.out == expected.out && g.graph == expected.graph &&
                g.gaussian == expected.gaussian);
    EXPECT_TRUE(c.forward<float>(cpu) == x);
  }
}

TEST(AtomEmbedding, GaussianTermMayBeAbsent) {
  Case c(8);
  for (auto& v : c.visible) v &= kShowDegree;
  Cpu cpu(2);
  Vec x(c.dx.size());
  atom_embedding_forward<double>(
      cpu, {c.packed, 8, c.codes.data(), c.degree.data(), c.visible.data(), c.atom_table.data(), c.in_table.data(),
            c.out_table.data(), c.graph_token.data(), nullptr, x.data()});
  expect_close<double, double>(x, c.expected(), 1e-14);
}

TEST(GatherAtoms, TakesAtomsAndScatterPutsThemBack) {
  const Case c(6);
  for (const int threads : {1, 3}) {
    Cpu cpu(threads);
    Vec atoms(c.gaussian.size(), -1), back(c.dx.size(), -1);
    gather_atoms<double>(cpu, c.packed, 6, c.dx.data(), atoms.data());
    scatter_atoms<double>(cpu, c.packed, 6, atoms.data(), back.data());
    for (std::int64_t b = 0; b < c.packed.molecules; ++b) {
      for (std::int64_t k = 0; k < (c.packed.atoms_of(b) + 1) * 6; ++k) {
        const std::size_t at = std::size_t(c.packed.token_offset(b) * 6 + k);
        EXPECT_EQ(back[at], k < 6 ? 0 : c.dx[at]);
        if (k >= 6) {
          EXPECT_EQ(atoms[std::size_t(c.packed.atom_offset[b] * 6 + k - 6)], c.dx[at]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace moleblend::testing
