// Residual, dropout, drop-path and LayerNorm against the formula, and their gradients.

#include "check.h"
#include "kernels/residual_norm/residual_norm.h"

namespace moleblend::testing {
namespace {

using Vec = std::vector<double>;

struct Case {
  PackedSizes sizes{1, 7, 0, 20, 3, 4, 6, 2};
  Packed packed = sizes.packed();
  std::vector<std::uint64_t> key{1, 2, 3, 4, 5, 6, 7, 8};
  std::int64_t width;
  Vec x, branch, weight, bias, dy;
  bool with_branch = true;
  Dropout hidden, path;
  explicit Case(std::int64_t d)
      : width(d),
        x(random_values(std::size_t(packed.tokens() * d), 1)),
        branch(random_values(x.size(), 2)),
        weight(random_values(std::size_t(d), 3)),
        bias(random_values(std::size_t(d), 4)),
        dy(random_values(x.size(), 5)) {
    for (double& v : x) v += 3;  // a mean that cancels badly if the variance were taken in one sweep
  }

  /// The formula, an element at a time.
  Vec expected() const {
    Vec y;
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      const bool path_kept = path.keeps(philox(key[std::size_t(b)], 0, Draw::drop_path, 5), 0);
      const double path_factor = path.active() ? (path_kept ? path.scale : 0) : 1;
      for (std::int64_t t = 0; t <= packed.atoms_of(b); ++t) {
        Vec v;
        double mean = 0, variance = 0;
        for (std::int64_t d = 0; d < width; ++d) {
          const std::int64_t e = t * width + d;
          const PhiloxWords w = philox(key[std::size_t(b)], std::uint32_t(e / 8), Draw::hidden_dropout, 5);
          const double factor =
              path_factor * (hidden.active() ? (hidden.keeps(w, unsigned(e % 8)) ? hidden.scale : 0) : 1);
          const std::size_t k = std::size_t(packed.token_offset(b) * width + e);
          v.push_back(x[k] + (with_branch ? factor * branch[k] : 0));
          mean += v.back() / double(width);
        }
        for (const double value : v) variance += (value - mean) * (value - mean) / double(width);
        for (std::size_t d = 0; d < v.size(); ++d)
          y.push_back((v[d] - mean) / std::sqrt(variance + 1e-5) * weight[d] + bias[d]);
      }
    }
    return y;
  }

  template <class T>
  struct Kept {
    std::vector<T> y, normalised, rstd;
  };
  template <class T>
  Kept<T> forward(Cpu& cpu, bool keep = true) const {
    const auto xt = as<T>(x), bt = as<T>(branch), wt = as<T>(weight), ct = as<T>(bias);
    Kept<T> k{std::vector<T>(x.size()), std::vector<T>(x.size()), std::vector<T>(std::size_t(packed.tokens()))};
    residual_norm_forward<T>(
        cpu, {packed, width, xt.data(), with_branch ? bt.data() : nullptr, wt.data(), ct.data(), hidden, path, 5,
              key.data(), k.y.data(), keep ? k.normalised.data() : nullptr, keep ? k.rstd.data() : nullptr});
    return k;
  }
  template <class T>
  struct Gradients {
    std::vector<T> dx, dbranch, dweight, dbias;
    bool operator==(const Gradients&) const = default;
  };
  template <class T>
  Gradients<T> backward(Cpu& cpu, bool in_place = false) const {
    const Kept<T> kept = forward<T>(cpu);
    const auto wt = as<T>(weight), dyt = as<T>(dy);
    Gradients<T> g{in_place ? dyt : std::vector<T>(x.size(), T(9)), std::vector<T>(x.size(), T(9)),
                   std::vector<T>(weight.size()), std::vector<T>(weight.size())};
    residual_norm_backward<T>(cpu, {packed, width, in_place ? g.dx.data() : dyt.data(), kept.normalised.data(),
                                    kept.rstd.data(), wt.data(), hidden, path, 5, key.data(), g.dx.data(),
                                    with_branch ? g.dbranch.data() : nullptr, g.dweight.data(), g.dbias.data()});
    return g;
  }
};

/// Every combination of branch, hidden dropout and drop-path; widths that fill vectors and that don't.
template <class F>
void for_each_case(F&& f) {
  for (const std::int64_t width : {5, 64, 75}) {
    for (int kind = 0; kind < 5; ++kind) {
      Case c(width);
      c.with_branch = kind != 0;
      if (kind & 2) c.hidden = Dropout::of(0.2);
      if (kind > 2) c.path = Dropout::of(0.5);
      SCOPED_TRACE(::testing::Message() << "width " << width << ", kind " << kind);
      f(c);
    }
  }
}

TEST(ResidualNorm, EqualsTheFormula) {
  for_each_case([](const Case& c) {
    const Vec expected = c.expected();
    for (const int threads : {1, 2, 3}) {
      Cpu cpu(threads);
      expect_close<double, double>(c.forward<double>(cpu).y, expected, 1e-12, 1, "double");
      // Inputs near 3 with deviation 1: their rounding alone is 3 ε; a dozen ε for the sums and the rest.
      expect_close<float, double>(c.forward<float>(cpu).y, expected, 2e-6, 1, "float");
      EXPECT_TRUE(c.forward<float>(cpu, false).y == c.forward<float>(cpu, true).y) << "what is kept must not change y";
    }
  });
}

TEST(ResidualNorm, GradientsAgainstFiniteDifferences) {
  for_each_case([](Case& c) {
    Cpu cpu(2);
    const auto g = c.backward<double>(cpu);
    const auto objective = [&] {
      const Vec y = c.expected();
      double sum = 0;
      for (std::size_t k = 0; k < y.size(); ++k) sum += y[k] * c.dy[k];
      return sum;
    };
    expect_gradient(c.x, g.dx, objective, "x");
    expect_gradient(c.weight, g.dweight, objective, "weight");
    expect_gradient(c.bias, g.dbias, objective, "bias");
    if (c.with_branch) expect_gradient(c.branch, g.dbranch, objective, "branch");
  });
}

TEST(ResidualNorm, FloatGradientsFollowDouble) {
  for_each_case([](const Case& c) {
    Cpu cpu(2);
    const auto f = c.backward<float>(cpu);
    const auto d = c.backward<double>(cpu);
    // The inputs' rounding (3 ε) times a sensitivity of a few; sums over 51 tokens for weight and bias.
    expect_close<float, double>(f.dx, d.dx, 1e-5, 1, "dx");
    expect_close<float, double>(f.dweight, d.dweight, 2e-5, 1, "dweight");
    expect_close<float, double>(f.dbias, d.dbias, 1e-5, 1, "dbias");
    if (c.with_branch) expect_close<float, double>(f.dbranch, d.dbranch, 1e-5, 1, "dbranch");
  });
}

TEST(ResidualNorm, RerunsAreBitIdenticalAndInPlaceIsTheSame) {
  for_each_case([](const Case& c) {
    for (const int threads : {1, 2, 3}) {
      Cpu cpu(threads);
      const auto g = c.backward<float>(cpu);
      EXPECT_TRUE(g == c.backward<float>(cpu));
      EXPECT_TRUE(g == c.backward<float>(cpu, true)) << "dx written over dy";
    }
  });
}

TEST(ResidualNorm, GradientsAreAddedToThoseOfParameters) {
  const Case c(8);
  Cpu cpu(2);
  const auto kept = c.forward<double>(cpu);
  const auto once = c.backward<double>(cpu);
  Vec dx(c.x.size()), dweight(8, 100), dbias(8, -100);
  residual_norm_backward<double>(cpu, {c.packed,
                                       8,
                                       c.dy.data(),
                                       kept.normalised.data(),
                                       kept.rstd.data(),
                                       c.weight.data(),
                                       {},
                                       {},
                                       5,
                                       nullptr,
                                       dx.data(),
                                       nullptr,
                                       dweight.data(),
                                       dbias.data()});
  for (std::size_t d = 0; d < 8; ++d) {
    EXPECT_NEAR(dweight[d], 100 + once.dweight[d], 1e-12);
    EXPECT_NEAR(dbias[d], -100 + once.dbias[d], 1e-12);
  }
}

TEST(ResidualNorm, SumsOfBranchGradientsAreForGpus) {
  Cpu cpu(1);
  double sum = 0;
  ResidualNormBackward<double> a{};
  a.dbranch_sum = &sum;
  EXPECT_THROW(residual_norm_backward<double>(cpu, a), std::invalid_argument);
}

TEST(ResidualNorm, DropPathDropsWholeMolecules) {
  Case c(16);
  c.path = Dropout::of(0.5);
  Cpu cpu(2);
  const auto g = c.backward<double>(cpu);
  int dropped = 0;
  for (std::int64_t b = 0; b < c.packed.molecules; ++b) {
    int zeros = 0;
    const std::int64_t size = (c.packed.atoms_of(b) + 1) * 16;
    for (std::int64_t k = 0; k < size; ++k) zeros += g.dbranch[std::size_t(c.packed.token_offset(b) * 16 + k)] == 0;
    EXPECT_TRUE(zeros == 0 || zeros == size);
    dropped += zeros == size;
  }
  EXPECT_GT(dropped, 0);
  EXPECT_LT(dropped, c.packed.molecules);
}

}  // namespace
}  // namespace moleblend::testing
