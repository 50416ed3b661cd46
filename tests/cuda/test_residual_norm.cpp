// Residual, dropout, drop-path and LayerNorm on the GPU against the fp64 CPU version.

#include "kernels/residual_norm/residual_norm.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

using Vec = std::vector<double>;

struct Options {
  bool branch = true, keep = true, in_place = false, sum = true;
  double hidden = 0, path = 0;
};

template <class T>
struct Case {
  PackedSizes sizes;
  Packed packed = sizes.packed();
  std::int64_t width;
  Options options;
  Dropout hidden = Dropout::of(options.hidden), path = Dropout::of(options.path);
  std::vector<std::uint64_t> key;
  Vec x, branch, weight, bias, dy;

  Case(PackedSizes s, std::int64_t d, Options o) : sizes(std::move(s)), width(d), options(o) {
    const auto elements = static_cast<std::size_t>(packed.tokens() * d), columns = static_cast<std::size_t>(d);
    for (std::int64_t b = 0; b < packed.molecules; ++b) key.push_back(static_cast<std::uint64_t>(b + 1));
    x = random_values(elements, 1);
    for (double& v : x) v += 3;  // a mean that cancels badly if the variance were taken in one sweep
    x = rounded<T>(x);
    branch = rounded<T>(random_values(elements, 2));
    weight = rounded<float>(random_values(columns, 3));
    bias = rounded<float>(random_values(columns, 4));
    dy = rounded<T>(random_values(elements, 5));
  }

  struct Kept {
    Vec y, normalised, rstd;
  };
  Kept truth() const {
    Cpu cpu(1);
    Kept k{Vec(x.size()), Vec(x.size()), Vec(static_cast<std::size_t>(packed.tokens()))};
    residual_norm_forward<double>(
        cpu, {packed, width, x.data(), options.branch ? branch.data() : nullptr, weight.data(), bias.data(), hidden,
              path, 5, key.data(), k.y.data(), k.normalised.data(), k.rstd.data()});
    return k;
  }
  Kept forward(Gpu& gpu) const {
    const DevicePacked p(gpu, packed);
    const DeviceVector<T> xd(gpu, stored<T>(x)), bd(gpu, stored<T>(branch));
    const DeviceVector<float> wd(gpu, stored<float>(weight)), cd(gpu, stored<float>(bias));
    const DeviceVector<std::uint64_t> kd(gpu, key);
    const DeviceVector<T> y = unset<T>(gpu, x.size()), normalised = unset<T>(gpu, x.size());
    const DeviceVector<float> rstd = unset<float>(gpu, static_cast<std::size_t>(packed.tokens()));
    const bool draws = hidden.active() || path.active();
    residual_norm_forward<T>(gpu, {p.packed(), width, xd.data(), options.branch ? bd.data() : nullptr, wd.data(),
                                   cd.data(), hidden, path, 5, draws ? kd.data() : nullptr, y.data(),
                                   options.keep ? normalised.data() : nullptr, options.keep ? rstd.data() : nullptr});
    return {as_double(y.host()), as_double(normalised.host()), as_double(rstd.host())};
  }

  struct Gradients {
    Vec dx, dbranch, dweight, dbias, dbranch_sum;
    bool operator==(const Gradients&) const = default;
  };
  /// What backward is given: kept values as they are stored.
  Kept stored_kept() const {
    const Kept k = truth();
    return {k.y, rounded<T>(k.normalised), rounded<float>(k.rstd)};
  }
  Gradients true_gradients(const Kept& kept) const {
    Cpu cpu(1);
    Gradients g{Vec(x.size()), Vec(x.size()), Vec(weight.size(), 2), Vec(weight.size(), -3), Vec(weight.size(), 1)};
    residual_norm_backward<double>(
        cpu, {packed, width, dy.data(), kept.normalised.data(), kept.rstd.data(), weight.data(), hidden, path, 5,
              key.data(), g.dx.data(), options.branch ? g.dbranch.data() : nullptr, g.dweight.data(), g.dbias.data()});
    if (options.branch && options.sum) {
      for (std::size_t k = 0; k < x.size(); ++k) g.dbranch_sum[k % weight.size()] += g.dbranch[k];
    }
    return g;
  }
  Gradients gradients(Gpu& gpu, const Kept& kept) const {
    const DevicePacked p(gpu, packed);
    const DeviceVector<T> dyd(gpu, stored<T>(dy)), nd(gpu, stored<T>(kept.normalised));
    const DeviceVector<float> rd(gpu, stored<float>(kept.rstd)), wd(gpu, stored<float>(weight));
    const DeviceVector<std::uint64_t> kd(gpu, key);
    const DeviceVector<T> dx = unset<T>(gpu, x.size()), dbranch = unset<T>(gpu, x.size());
    // Added to.
    const DeviceVector<float> dweight(gpu, std::vector<float>(weight.size(), 2)),
        dbias(gpu, std::vector<float>(weight.size(), -3)), dbranch_sum(gpu, std::vector<float>(weight.size(), 1));
    const bool draws = hidden.active() || path.active();
    residual_norm_backward<T>(gpu, {p.packed(), width, dyd.data(), nd.data(), rd.data(), wd.data(), hidden, path, 5,
                                    draws ? kd.data() : nullptr, options.in_place ? dyd.data() : dx.data(),
                                    options.branch ? dbranch.data() : nullptr, dweight.data(), dbias.data(),
                                    options.sum ? dbranch_sum.data() : nullptr});
    return {as_double((options.in_place ? dyd : dx).host()), options.branch ? as_double(dbranch.host()) : Vec(x.size()),
            as_double(dweight.host()), as_double(dbias.host()), as_double(dbranch_sum.host())};
  }

  /// Dropout of elements and of paths, both 1 where inactive.
  std::pair<Vec, Vec> factors() const {
    Vec elements, paths;
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      const std::int64_t count = (packed.atoms_of(b) + 1) * width;
      Vec f(static_cast<std::size_t>(count));
      dropout_factors(key[static_cast<std::size_t>(b)], Draw::hidden_dropout, 5, 0, count, hidden, f.data());
      elements.insert(elements.end(), f.begin(), f.end());
      double path_factor = 1;
      dropout_factors(key[static_cast<std::size_t>(b)], Draw::drop_path, 5, 0, 1, path, &path_factor);
      paths.insert(paths.end(), f.size(), path_factor);
    }
    return {elements, paths};
  }
  /// Plain bf16: dropout, drop-path, sum and LayerNorm are separate and store bf16; statistics in full precision.
  Kept plain() const {
    const auto [elements, paths] = factors();
    Kept k{Vec(x.size()), Vec(x.size()), {}};
    for (std::int64_t t = 0; t < packed.tokens(); ++t) {
      Vec v(static_cast<std::size_t>(width));
      double mean = 0, variance = 0;
      for (std::size_t d = 0; d < v.size(); ++d) {
        const std::size_t at = static_cast<std::size_t>(t * width) + d;
        const double dropped = in_bf16(elements[at] * branch[at]);
        v[d] = options.branch ? in_bf16(x[at] + in_bf16(paths[at] * dropped)) : x[at];
        mean += v[d] / static_cast<double>(width);
      }
      for (const double value : v) variance += (value - mean) * (value - mean) / static_cast<double>(width);
      for (std::size_t d = 0; d < v.size(); ++d) {
        const std::size_t at = static_cast<std::size_t>(t * width) + d;
        const double normalised = (v[d] - mean) / std::sqrt(variance + kLayerNormEpsilon);
        k.normalised[at] = in_bf16(normalised);
        k.y[at] = in_bf16(normalised * weight[d] + bias[d]);
      }
    }
    return k;
  }
  Gradients plain_gradients(const Kept& kept) const {
    const auto [elements, paths] = factors();
    Gradients g = true_gradients(kept);
    for (std::size_t k = 0; k < g.dx.size(); ++k) {
      g.dx[k] = in_bf16(g.dx[k]);
      g.dbranch[k] = in_bf16(elements[k] * in_bf16(paths[k] * g.dx[k]));
    }
    return g;
  }
};

/// Molecules of one atom, an empty one, and more rows than a block takes; every kind of branch.
template <class T, class F>
void for_each_case(F&& f) {
  const Options kinds[] = {{.branch = false, .keep = false},
                           {.in_place = true},
                           {.keep = false, .hidden = 0.2},
                           {.sum = false, .path = 0.5},
                           {.in_place = true, .hidden = 0.2, .path = 0.5}};
  const auto run = [&](const PackedSizes& sizes, std::int64_t width, const Options& options) {
    SCOPED_TRACE(::testing::Message() << "width " << width << ", branch " << options.branch << ", hidden "
                                      << options.hidden << ", path " << options.path);
    f(Case<T>(sizes, width, options));
  };
  // Widths: a few lanes; one piece; two; sweeps an element at a time.
  for (const std::int64_t width : {8, 64, 264, 75}) {
    for (const Options& options : kinds) run(PackedSizes{1, 7, 0, 20, 3, 4, 1, 31}, width, options);
  }
  // One to four pieces, whole and not, sweeps of eight.
  for (const std::int64_t width : {256, 512, 520, 768, 1000, 1024, 1032}) run(PackedSizes{3, 0, 5}, width, kinds[4]);
  run(PackedSizes{2, 9, 4, 6, 1}, 5, kinds[3]);
}

template <class T>
void check_forward(Gpu& gpu) {
  for_each_case<T>([&](const Case<T>& c) {
    const auto truth = c.truth(), ours = c.forward(gpu);
    if constexpr (std::is_same_v<T, float>) {
      // Sums near 3 with deviation 1: each rounding is 2e-7 of a result of order one; ten of them.
      expect_close<double, double>(ours.y, truth.y, 2e-6, 1, "y");
      if (c.options.keep) expect_close<double, double>(ours.normalised, truth.normalised, 2e-6, 1, "normalised");
    } else {
      const auto plain = c.plain();
      expect_within_plain_bf16(ours.y, plain.y, truth.y, 2, "y");
      if (c.options.keep)
        expect_within_plain_bf16(ours.normalised, plain.normalised, truth.normalised, 2, "normalised");
    }
    // A float whatever T is: the variance's relative error, halved, from sums of squares of values off by 2e-7.
    if (c.options.keep) expect_close<double, double>(ours.rstd, truth.rstd, 1e-6, 0, "rstd");
  });
}

template <class T>
void check_backward(Gpu& gpu) {
  for_each_case<T>([&](const Case<T>& c) {
    const auto kept = c.stored_kept();
    const auto truth = c.true_gradients(kept), ours = c.gradients(gpu, kept);
    if constexpr (std::is_same_v<T, float>) {
      // Sums of a row in float, times rstd and factors up to 2.5.
      expect_close<double, double>(ours.dx, truth.dx, 2e-6, 1, "dx");
      if (c.options.branch) expect_close<double, double>(ours.dbranch, truth.dbranch, 4e-6, 1, "dbranch");
    } else {
      const auto plain = c.plain_gradients(kept);
      expect_within_plain_bf16(ours.dx, plain.dx, truth.dx, 3, "dx");
      if (c.options.branch) expect_within_plain_bf16(ours.dbranch, plain.dbranch, truth.dbranch, 3, "dbranch");
    }
    // Float for both types, from products of values that are given exactly: rounding of sums of 75 terms of order one.
    expect_close<double, double>(ours.dweight, truth.dweight, 1e-5, 1, "dweight");
    expect_close<double, double>(ours.dbias, truth.dbias, 1e-5, 1, "dbias");
    // So is this, of values up to 2.5 times as large, but in rows that don't fit registers, where what is stored is summed: 75 roundings of values of order two to bf16, rms
    // 0.003 each, and the largest of a thousand such sums.
    const bool of_stored = std::is_same_v<T, bf16> && (c.width % 8 != 0 || c.width > 1024);
    expect_close<double, double>(ours.dbranch_sum, truth.dbranch_sum, of_stored ? 1e-1 : 2e-5, 1, "dbranch_sum");
  });
}

class ResidualNorm : public CudaTest {};

TEST_F(ResidualNorm, ForwardFloat) {
  check_forward<float>(gpu());
}
TEST_F(ResidualNorm, ForwardBf16) {
  check_forward<bf16>(gpu());
}
TEST_F(ResidualNorm, BackwardFloat) {
  check_backward<float>(gpu());
}
TEST_F(ResidualNorm, BackwardBf16) {
  check_backward<bf16>(gpu());
}

TEST_F(ResidualNorm, WhatIsKeptDoesNotChangeY) {
  for (const std::int64_t width : {24, 13}) {
    const Options with{.hidden = 0.2}, without{.keep = false, .hidden = 0.2};
    EXPECT_EQ(Case<bf16>(PackedSizes{4, 9}, width, with).forward(gpu()).y,
              Case<bf16>(PackedSizes{4, 9}, width, without).forward(gpu()).y);
  }
}

TEST_F(ResidualNorm, DropPathDropsWholeMolecules) {
  const Case<float> c(PackedSizes{1, 7, 0, 20, 3, 4, 6, 2}, 16, {.path = 0.5});
  const Vec dbranch = c.gradients(gpu(), c.stored_kept()).dbranch;
  int dropped = 0;
  for (std::int64_t b = 0; b < c.packed.molecules; ++b) {
    const auto begin = dbranch.begin() + c.packed.token_offset(b) * 16;
    const auto end = begin + (c.packed.atoms_of(b) + 1) * 16;
    const auto zeros = std::count(begin, end, 0.0);
    EXPECT_TRUE(zeros == 0 || zeros == end - begin);
    dropped += zeros == end - begin;
  }
  EXPECT_GT(dropped, 0);
  EXPECT_LT(dropped, c.packed.molecules);
}

/// More rows than backward has warps, so that each takes several; and the same bytes twice.
TEST_F(ResidualNorm, ManyRows) {
  for (const std::int64_t width : {8, 3}) {
    const Case<float> c(PackedSizes{900, 1, 800, 150, 6}, width, {.hidden = 0.1, .path = 0.2});
    const auto kept = c.stored_kept();
    const auto truth = c.true_gradients(kept), ours = c.gradients(gpu(), kept);
    expect_close<double, double>(ours.dx, truth.dx, 1e-5, 1, "dx");  // narrow rows: rstd up to 5
    // 1,862 terms of order one in at most 15 + 132 steps, each rounded at a sum of some 50.
    expect_close<double, double>(ours.dweight, truth.dweight, 5e-5, 1, "dweight");
    expect_close<double, double>(ours.dbias, truth.dbias, 5e-5, 1, "dbias");
    EXPECT_TRUE(c.gradients(gpu(), kept) == ours) << "two runs differ";
  }
}

TEST_F(ResidualNorm, SameBytesTwice) {
  for (const std::int64_t width : {768, 75}) {
    const Case<bf16> c(PackedSizes{40, 2, 30}, width, {.hidden = 0.1, .path = 0.2});
    expect_same_bytes_twice([&] { return c.forward(gpu()).y; }, "y");
    const auto kept = c.stored_kept();
    EXPECT_TRUE(c.gradients(gpu(), kept) == c.gradients(gpu(), kept));
  }
}

TEST_F(ResidualNorm, AnEmptyBatchIsNothingToDo) {
  const Case<float> c(PackedSizes{}, 8, {});
  EXPECT_TRUE(c.forward(gpu()).y.empty());
  const auto g = c.gradients(gpu(), {});
  EXPECT_EQ(g.dweight, Vec(8, 2));
  EXPECT_EQ(g.dbias, Vec(8, -3));
}

}  // namespace
}  // namespace moleblend::testing
