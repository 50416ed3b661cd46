// Linear maps and the tile product against a triple loop, and their gradients against finite differences.

#include "check.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/panels_cpu.h"

namespace moleblend::testing {
namespace {

using Vec = std::vector<double>;

/// C = op(A) · op(B) + beta · C with leading dimensions, as the formula says.
template <class T>
void naive_product(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, const std::vector<T>& a,
                   std::int64_t lda, const std::vector<T>& b, std::int64_t ldb, double beta, std::vector<double>& c,
                   std::int64_t ldc) {
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t p = 0; p < k; ++p) {
        sum += double(a[std::size_t(ta ? p * lda + i : i * lda + p)]) *
               double(b[std::size_t(tb ? j * ldb + p : p * ldb + j)]);
      }
      double& out = c[std::size_t(i * ldc + j)];
      out = sum + (beta == 0 ? 0 : beta * out);
    }
  }
}

// A sum of k products of unit normals has rounding error about ε·√k per element; 20 ε √k leaves room for unlucky ones.
template <class T>
double product_tolerance(std::int64_t k) {
  return 20 * double(std::numeric_limits<T>::epsilon()) * std::sqrt(double(k) + 1);
}

template <class T>
void check_tile_product() {
  struct Shape {
    std::int64_t m, n, k;
  };
  // Around every tile and cache-block edge, one-element cases and nothing at all.
  for (const Shape s :
       {Shape{1, 1, 1}, Shape{6, 16, 4}, Shape{12, 32, 7}, Shape{13, 33, 5}, Shape{5, 15, 300}, Shape{97, 31, 257},
        Shape{100, 1030, 9}, Shape{3, 5, 0}, Shape{0, 4, 3}, Shape{4, 0, 3}, Shape{17, 24, 17}}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        for (const double beta : {0.0, 1.0, -0.5}) {
          const std::int64_t lda = (ta ? s.m : s.k) + 3, ldb = (tb ? s.k : s.n) + 2, ldc = s.n + 5;
          const auto a = as<T>(random_values(std::size_t((ta ? s.k : s.m) * lda), 1));
          const auto b = as<T>(random_values(std::size_t((tb ? s.n : s.k) * ldb), 2));
          auto c = as<T>(random_values(std::size_t(s.m * ldc), 3));
          if (beta == 0) {
            // What is overwritten may hold anything.
            for (std::int64_t i = 0; i < s.m; ++i)
              std::fill_n(&c[std::size_t(i * ldc)], s.n, std::numeric_limits<T>::quiet_NaN());
          }
          Vec expected(c.begin(), c.end());
          naive_product(ta, tb, s.m, s.n, s.k, a, lda, b, ldb, beta, expected, ldc);
          tile_product<T>(ta, tb, s.m, s.n, s.k, a.data(), lda, b.data(), ldb, T(beta), c.data(), ldc);
          expect_close<T, double>(c, expected, product_tolerance<T>(s.k), 1, "C, gaps between its rows included");
          if (::testing::Test::HasFailure()) {
            FAIL() << s.m << " x " << s.n << " x " << s.k << " transposes " << ta << tb << " beta " << beta;
          }
        }
      }
    }
  }
}
TEST(TileProduct, EqualsTheTripleLoopFloat) {
  check_tile_product<float>();
}
TEST(TileProduct, EqualsTheTripleLoopDouble) {
  check_tile_product<double>();
}

/// Panels of the widths of all kernels, also of those that this machine can't run.
template <class T>
void check_pack() {
  for (const std::int64_t width : {6, 8, 12, 16, 32}) {
    for (const std::int64_t count : {std::int64_t{1}, width, 2 * width + 3, 11 * width - 1}) {
      for (const std::int64_t depth : {1, 7, 8, 21, 130}) {
        for (const bool along : {true, false}) {
          // The matrix ends where its memory does, so that the address sanitizer sees what reads past it.
          const std::int64_t gap = 2, stride = (along ? depth : count) + gap;
          const auto x = as<T>(random_values(std::size_t((along ? count : depth) * stride - gap), 1));
          const panels::View<T> view{x.data(), along ? stride : 1, along ? 1 : stride};
          std::vector<T> packed(std::size_t(panels::packed_size(count, depth, width)), T(7));
          std::vector<T> sums(std::size_t(count), T(3));
          panels::pack<T>(view, count, depth, width, packed.data(), along ? nullptr : sums.data());
          for (std::int64_t i = 0; i < count && !along; ++i) {
            double expected = 3;
            for (std::int64_t p = 0; p < depth; ++p) expected += double(x[std::size_t(i + p * stride)]);
            // Rounding of a hundred numbers near 1; one of them missing or twice would be seen.
            ASSERT_NEAR(double(sums[std::size_t(i)]), expected, 1e-4)
                << "sum of row " << i << " of " << count << " x " << depth;
          }
          for (std::int64_t i = 0; i < panels::round_up(count, width); ++i) {
            for (std::int64_t p = 0; p < depth; ++p) {
              const T expected = i < count ? x[std::size_t(i * view.row + p * view.column)] : T(0);
              ASSERT_EQ(packed[std::size_t((i / width * depth + p) * width + i % width)], expected)
                  << count << " x " << depth << " in panels of " << width << ", row " << i << ", column " << p;
            }
          }
        }
      }
    }
  }
}
TEST(Panels, HoldTheMatrixFloat) {
  check_pack<float>();
}
TEST(Panels, HoldTheMatrixDouble) {
  check_pack<double>();
}

/// Panels of bf16 hold what rounding gives, to the bit.
TEST(Panels, HoldTheMatrixInBf16) {
  if (!has_bf16_products()) GTEST_SKIP() << "this processor has no AVX512-BF16";
  for (const std::int64_t width : {12, 32}) {
    for (const std::int64_t count : {std::int64_t{1}, width, 2 * width + 3, 11 * width - 1}) {
      for (const std::int64_t depth : {1, 2, 7, 32, 33, 77, 130}) {
        for (const bool along : {true, false}) {
          const std::int64_t gap = 2, stride = (along ? depth : count) + gap, deep = panels::panel_depth<bf16>(depth);
          const auto x = as<float>(random_values(std::size_t((along ? count : depth) * stride - gap), 1));
          const panels::View<float> view{x.data(), along ? stride : 1, along ? 1 : stride};
          const auto expected = [&](std::int64_t i, std::int64_t p) {
            return i < count && p < depth ? to_bf16(x[std::size_t(i * view.row + p * view.column)]).bits : 0;
          };
          std::vector<bf16> packed(std::size_t(panels::packed_size(count, depth, width)), bf16{7});
          std::vector<float> sums(std::size_t(count), 3.0f);
          panels::pack(view, count, depth, width, packed.data(), along ? nullptr : sums.data());
          for (std::int64_t i = 0; i < count && !along; ++i) {
            double sum = 3;
            for (std::int64_t p = 0; p < depth; ++p) sum += double(x[std::size_t(i + p * stride)]);
            ASSERT_NEAR(sums[std::size_t(i)], sum, 1e-4) << "sum of row " << i << " of " << count << " x " << depth;
          }
          for (std::int64_t i = 0; i < panels::round_up(count, width); ++i) {
            for (std::int64_t p = 0; p < deep; ++p) {
              ASSERT_EQ(packed[std::size_t(i / width * width * deep + (p / 2 * width + i % width) * 2 + p % 2)].bits,
                        expected(i, p))
                  << count << " x " << depth << " in panels of " << width << ", row " << i << ", column " << p;
            }
          }
          if (!along) continue;
          const std::int64_t rows = panels::round_up(count, width);
          std::vector<bf16> rounded(std::size_t(rows * deep), bf16{7});
          panels::round_rows(view, count, depth, rows, rounded.data());
          for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t p = 0; p < deep; ++p)
              ASSERT_EQ(rounded[std::size_t(i * deep + p)].bits, expected(i, p)) << "row " << i << ", column " << p;
        }
      }
    }
  }
}

template <class T>
struct Map {
  std::int64_t rows, in, out;
  std::vector<T> x, weight, bias, dy;
  Map(std::int64_t r, std::int64_t i, std::int64_t o)
      : rows(r),
        in(i),
        out(o),
        x(as<T>(random_values(std::size_t(r * i), 4))),
        weight(as<T>(random_values(std::size_t(o * i), 5))),
        bias(as<T>(random_values(std::size_t(o), 6))),
        dy(as<T>(random_values(std::size_t(r * o), 7))) {}
  LinearForward<T> forward(T* y, bool with_bias = true) const {
    return {rows, in, out, x.data(), weight.data(), with_bias ? bias.data() : nullptr, y};
  }
  LinearBackward<T> backward(T* dx, bool add, T* dweight, T* dbias) const {
    return {rows, in, out, x.data(), weight.data(), dy.data(), dx, add, dweight, dbias};
  }
};

/// In bf16 the numbers are such as it can hold: rounding them changes nothing, and sums are as exact as float's.
template <class T>
void check_linear(bool in_bf16 = false) {
  for (const int threads : {1, 2, 3}) {
    Cpu cpu({threads, in_bf16});
    // Two are deeper than a cache block, and wider than what is packed at a time; the last is odd throughout.
    for (const auto& [rows, in, out] : {std::tuple{1, 1, 1},
                                        {37, 20, 3},
                                        {200, 64, 1},
                                        {7, 130, 260},
                                        {150, 96, 192},
                                        {530, 40, 70},
                                        {9, 2100, 600},
                                        {13, 37, 45}}) {
      Map<T> map(rows, in, out);
      if constexpr (std::is_same_v<T, float>) {
        for (std::vector<float>* operand : {&map.x, &map.weight, &map.dy})
          for (float& value : *operand)
            if (in_bf16) value = to_float(to_bf16(value));
      }
      for (const bool with_bias : {true, false}) {
        std::vector<T> y(map.dy.size(), std::numeric_limits<T>::quiet_NaN());
        linear_forward(cpu, map.forward(y.data(), with_bias));
        Vec expected(y.size());
        for (std::size_t k = 0; k < y.size(); ++k) expected[k] = with_bias ? double(map.bias[k % std::size_t(out)]) : 0;
        naive_product(false, true, rows, out, in, map.x, in, map.weight, in, 1, expected, out);
        expect_close<T, double>(y, expected, product_tolerance<T>(in), 1, "y");
      }
      for (const bool add : {true, false}) {
        auto dx = as<T>(random_values(map.x.size(), 8));
        auto dweight = as<T>(random_values(map.weight.size(), 9));
        auto dbias = as<T>(random_values(map.bias.size(), 10));
        Vec dx_expected(dx.begin(), dx.end()), dweight_expected(dweight.begin(), dweight.end()),
            dbias_expected(dbias.begin(), dbias.end());
        if (!add) std::fill(dx.begin(), dx.end(), std::numeric_limits<T>::quiet_NaN());
        naive_product(false, false, rows, in, out, map.dy, out, map.weight, in, add, dx_expected, in);
        naive_product(true, false, out, in, rows, map.dy, out, map.x, in, 1, dweight_expected, in);
        for (std::size_t k = 0; k < map.dy.size(); ++k) dbias_expected[k % std::size_t(out)] += double(map.dy[k]);
        linear_backward(cpu, map.backward(dx.data(), add, dweight.data(), dbias.data()));
        expect_close<T, double>(dx, dx_expected, product_tolerance<T>(out), 1, "dx");
        expect_close<T, double>(dweight, dweight_expected, product_tolerance<T>(rows), 1, "dweight");
        expect_close<T, double>(dbias, dbias_expected, product_tolerance<T>(rows), 1, "dbias");
      }
      linear_backward(cpu, map.backward(nullptr, false, nullptr, nullptr));
      // The bias' gradient by itself.
      auto dbias = as<T>(random_values(map.bias.size(), 10));
      Vec expected(dbias.begin(), dbias.end());
      for (std::size_t k = 0; k < map.dy.size(); ++k) expected[k % std::size_t(out)] += double(map.dy[k]);
      linear_backward(cpu, map.backward(nullptr, false, nullptr, dbias.data()));
      expect_close<T, double>(dbias, expected, product_tolerance<T>(rows), 1, "dbias");
    }
  }
}
TEST(Linear, EqualsTheTripleLoopFloat) {
  check_linear<float>();
}
TEST(Linear, EqualsTheTripleLoopBf16) {
  if (!has_bf16_products()) GTEST_SKIP() << "this processor has no AVX512-BF16";
  check_linear<float>(true);
}
TEST(Linear, EqualsTheTripleLoopDouble) {
  check_linear<double>();
}

TEST(Linear, GradientsAgainstFiniteDifferences) {
  Cpu cpu(2);
  Map<double> map(9, 14, 5);
  Vec y(map.dy.size()), dx(map.x.size()), dweight(map.weight.size()), dbias(map.bias.size());
  linear_backward(cpu, map.backward(dx.data(), false, dweight.data(), dbias.data()));
  const auto objective = [&] {
    linear_forward(cpu, map.forward(y.data()));
    double sum = 0;
    for (std::size_t k = 0; k < y.size(); ++k) sum += y[k] * map.dy[k];
    return sum;
  };
  expect_gradient(map.x, dx, objective, "x");
  expect_gradient(map.weight, dweight, objective, "weight");
  expect_gradient(map.bias, dbias, objective, "bias");
}

TEST(Linear, NoRowsChangeNothing) {
  Cpu cpu(2);
  const Map<float> map(0, 8, 4);
  std::vector<float> dweight(32, 5), dbias(4, 6);
  linear_forward(cpu, map.forward(nullptr));
  linear_backward(cpu, map.backward(nullptr, false, dweight.data(), dbias.data()));
  EXPECT_EQ(dweight, std::vector<float>(32, 5));
  EXPECT_EQ(dbias, std::vector<float>(4, 6));
}

template <class T>
void check_reruns(bool in_bf16 = false) {
  // Same inputs elsewhere in memory, at another alignment, shared out to more threads: still the same bits.
  const Map<T> map(301, 192, 160);
  std::vector<T> first;
  for (const int threads : {1, 2, 3, 7}) {
    Cpu cpu({threads, in_bf16});
    for (const std::size_t shift : {0, 1, 5}) {
      std::vector<T> x(shift, 0), dy(shift, 0), y(map.dy.size() + shift), dx(map.x.size() + shift),
          dweight(map.weight.size() + shift), dbias(map.bias.size());
      x.insert(x.end(), map.x.begin(), map.x.end());
      dy.insert(dy.end(), map.dy.begin(), map.dy.end());
      linear_forward<T>(
          cpu, {map.rows, map.in, map.out, x.data() + shift, map.weight.data(), map.bias.data(), y.data() + shift});
      linear_backward<T>(cpu, {map.rows, map.in, map.out, x.data() + shift, map.weight.data(), dy.data() + shift,
                               dx.data() + shift, false, dweight.data() + shift, dbias.data()});
      std::vector<T> all(y.begin() + std::ptrdiff_t(shift), y.end());
      all.insert(all.end(), dx.begin() + std::ptrdiff_t(shift), dx.end());
      all.insert(all.end(), dweight.begin() + std::ptrdiff_t(shift), dweight.end());
      all.insert(all.end(), dbias.begin(), dbias.end());
      if (first.empty()) first = all;
      EXPECT_TRUE(all == first) << threads << " threads, shift " << shift;
    }
  }
}
/// Fewer blocks of rows than threads, and several depths: some threads have nothing of their own and take panels of the others, again and
/// again, in an order that differs from run to run.
template <class T>
void check_help(bool in_bf16 = false) {
  const Map<T> map(60, 2000, 160);
  std::vector<T> alone(map.dy.size()), together(map.dy.size());
  Cpu one({1, in_bf16}), many({7, in_bf16});
  linear_forward(one, map.forward(alone.data()));
  for (int run = 0; run < 60; ++run) {
    std::fill(together.begin(), together.end(), std::numeric_limits<T>::quiet_NaN());
    linear_forward(many, map.forward(together.data()));
    ASSERT_TRUE(together == alone) << "run " << run;
  }
}
TEST(Linear, ThreadsThatHelpChangeNoBitFloat) {
  check_help<float>();
}
TEST(Linear, ThreadsThatHelpChangeNoBitBf16) {
  if (!has_bf16_products()) GTEST_SKIP() << "this processor has no AVX512-BF16";
  check_help<float>(true);
}
TEST(Linear, ThreadsThatHelpChangeNoBitDouble) {
  check_help<double>();
}

TEST(Linear, RerunsAreBitIdenticalFloat) {
  check_reruns<float>();
}
TEST(Linear, RerunsAreBitIdenticalBf16) {
  if (!has_bf16_products()) GTEST_SKIP() << "this processor has no AVX512-BF16";
  check_reruns<float>(true);
}
TEST(Linear, RerunsAreBitIdenticalDouble) {
  check_reruns<double>();
}

}  // namespace
}  // namespace moleblend::testing
