// Linear maps on the GPU.
//
// Tolerance, a bound that holds for every order of summation: a sum of k products in float is off by at most (k + 2) · 2⁻²⁴ · Σ|terms| (the
// two are for what it starts from, a bias or the former value), and storing rounds by half a unit of the stored type. Products of bf16
// are exact in float. Operands rounded to TF32 on the way (2⁻¹¹ each) would be far outside for the short sums here.

#include "kernels/linear/linear.h"
#include "kernels/linear/products.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

class LinearCuda : public CudaTest {};

template <class T>
constexpr double kHalfUnit = 0x1p-24;
template <>
constexpr double kHalfUnit<bf16> = 0x1p-8;

std::vector<double> magnitudes(std::vector<double> v) {
  for (double& x : v) x = std::abs(x);
  return v;
}

template <class T>
void expect_sum(const std::vector<T>& ours, const std::vector<double>& truth, const std::vector<double>& magnitude,
                std::int64_t terms, const char* what) {
  ASSERT_EQ(ours.size(), truth.size());
  double largest = 0;
  for (std::size_t k = 0; k < truth.size(); ++k) {
    const double allowed =
        kHalfUnit<T> * std::abs(truth[k]) + (1 + kHalfUnit<T>)*double(terms + 2) * 0x1p-24 * magnitude[k];
    const double difference = std::abs(double{to_float(ours[k])} - truth[k]);
    ASSERT_TRUE(difference <= allowed) << what << "[" << k << "]: " << to_float(ours[k]) << " against " << truth[k]
                                       << ", allowed " << allowed;
    largest = std::max(largest, std::abs(truth[k]));
  }
  EXPECT_GT(largest, 0) << what << " is zero: nothing was compared";
}

struct Shape {
  std::int64_t rows, in, out;
};
// Single values; outputs that make no vector of 16 bytes, few (the bias comes first) and many; more rows than a chunk of the sums has.
const Shape kShapes[] = {{1, 1, 1}, {2, 24, 1}, {33, 8, 7}, {31, 48, 8}, {130, 7, 13}, {65, 40, 264}, {200, 64, 32}};

/// Operands of one map, as they are after rounding to T.
template <class T>
struct Operands {
  Shape shape;
  std::vector<double> x, weight, bias, dy;

  explicit Operands(Shape s)
      : shape(s),
        x(rounded<T>(random_values(std::size_t(s.rows * s.in), 1))),
        weight(rounded<T>(random_values(std::size_t(s.out * s.in), 2))),
        bias(rounded<T>(random_values(std::size_t(s.out), 3))),
        dy(rounded<T>(random_values(std::size_t(s.rows * s.out), 4))) {}
  /// The same with |values|: what the sums of magnitudes are made of.
  Operands magnitude() const {
    Operands o = *this;
    for (auto* v : {&o.x, &o.weight, &o.bias, &o.dy}) *v = magnitudes(*v);
    return o;
  }
  std::vector<double> y(bool with_bias) const {
    Cpu cpu(1);
    std::vector<double> result(dy.size());
    linear_forward(cpu, LinearForward<double>{shape.rows, shape.in, shape.out, x.data(), weight.data(),
                                              with_bias ? bias.data() : nullptr, result.data()});
    return result;
  }
  /// Added to what the three hold.
  void gradients(std::vector<double>& dx, std::vector<double>& dweight, std::vector<double>& dbias,
                 bool add_to_dx) const {
    Cpu cpu(1);
    linear_backward(cpu, LinearBackward<double>{shape.rows, shape.in, shape.out, x.data(), weight.data(), dy.data(),
                                                dx.data(), add_to_dx, dweight.data(), dbias.data()});
  }
};

template <class T>
void check_forward(Gpu& gpu) {
  for (const Shape s : kShapes) {
    SCOPED_TRACE(::testing::Message() << s.rows << " rows, " << s.in << " -> " << s.out);
    const Operands<T> o(s);
    const DeviceVector x(gpu, stored<T>(o.x)), weight(gpu, stored<T>(o.weight)), bias(gpu, stored<T>(o.bias));
    for (const bool with_bias : {true, false}) {
      const auto run = [&] {
        const DeviceVector<T> y(gpu, o.dy.size());
        linear_forward(gpu, LinearForward<T>{s.rows, s.in, s.out, x.data(), weight.data(),
                                             with_bias ? bias.data() : nullptr, y.data()});
        return y.host();
      };
      expect_sum(run(), o.y(with_bias), o.magnitude().y(with_bias), s.in, "y");
      expect_same_bytes_twice(run, "y");
    }
  }
}
TEST_F(LinearCuda, ForwardFloat) {
  check_forward<float>(gpu());
}
TEST_F(LinearCuda, ForwardBf16) {
  check_forward<bf16>(gpu());
}

template <class T>
void check_backward(Gpu& gpu) {
  for (const Shape s : kShapes) {
    SCOPED_TRACE(::testing::Message() << s.rows << " rows, " << s.in << " -> " << s.out);
    const Operands<T> o(s);
    const DeviceVector x(gpu, stored<T>(o.x)), weight(gpu, stored<T>(o.weight)), dy(gpu, stored<T>(o.dy));
    const auto dx0 = rounded<T>(random_values(o.x.size(), 5)),
               dweight0 = rounded<float>(random_values(o.weight.size(), 6)),
               dbias0 = rounded<float>(random_values(o.bias.size(), 7));
    for (const bool add_to_dx : {false, true}) {
      auto dx = dx0, dweight = dweight0, dbias = dbias0;
      o.gradients(dx, dweight, dbias, add_to_dx);
      auto dx_size = magnitudes(dx0), dweight_size = magnitudes(dweight0), dbias_size = magnitudes(dbias0);
      o.magnitude().gradients(dx_size, dweight_size, dbias_size, add_to_dx);

      // Overwritten: nothing of what was there may be read, so that it starts as NaN.
      const std::vector<T> start =
          add_to_dx ? stored<T>(dx0) : stored<T>(std::vector<double>(dx0.size(), std::nan("")));
      std::vector<T> ours_dx;
      std::vector<float> ours_dweight, ours_dbias;
      const auto run = [&] {
        const DeviceVector device_dx(gpu, start);
        const DeviceVector device_dweight(gpu, stored<float>(dweight0)), device_dbias(gpu, stored<float>(dbias0));
        linear_backward(
            gpu, LinearBackward<T>{s.rows, s.in, s.out, x.data(), weight.data(), dy.data(), device_dx.data(), add_to_dx,
                                   device_dweight.data(), device_dbias.data()});
        ours_dx = device_dx.host();
        ours_dweight = device_dweight.host();
        ours_dbias = device_dbias.host();
      };
      run();
      expect_sum(ours_dx, dx, dx_size, s.out, "dx");
      expect_sum(ours_dweight, dweight, dweight_size, s.rows, "dweight");
      expect_sum(ours_dbias, dbias, dbias_size, s.rows, "dbias");
      expect_same_bytes_twice([&] { return run(), ours_dx; }, "dx");
      expect_same_bytes_twice([&] { return run(), ours_dweight; }, "dweight");
      expect_same_bytes_twice([&] { return run(), ours_dbias; }, "dbias");
    }
  }
}
TEST_F(LinearCuda, BackwardFloat) {
  check_backward<float>(gpu());
}
TEST_F(LinearCuda, BackwardBf16) {
  check_backward<bf16>(gpu());
}

TEST_F(LinearCuda, EachGradientAloneIsThatOfAllTogether) {
  const Shape s{33, 24, 16};
  const Operands<bf16> o(s);
  const DeviceVector x(gpu(), stored<bf16>(o.x)), weight(gpu(), stored<bf16>(o.weight)), dy(gpu(), stored<bf16>(o.dy));
  struct Gradients {
    std::vector<float> dx, dweight, dbias;
  };
  const std::vector<float> ones_dx(o.x.size(), 1), ones_dweight(o.weight.size(), 1), ones_dbias(o.bias.size(), 1);
  const auto run = [&](bool want_dx, bool want_dweight, bool want_dbias) {
    const DeviceVector dx(gpu(), std::vector<bf16>(ones_dx.size(), to_bf16(1)));
    const DeviceVector dweight(gpu(), ones_dweight), dbias(gpu(), ones_dbias);
    linear_backward(gpu(), LinearBackward<bf16>{
                               s.rows, s.in, s.out, x.data(), weight.data(), dy.data(), want_dx ? dx.data() : nullptr,
                               false, want_dweight ? dweight.data() : nullptr, want_dbias ? dbias.data() : nullptr});
    return Gradients{as<float>(as_double(dx.host())), dweight.host(), dbias.host()};
  };
  const Gradients all = run(true, true, true);
  EXPECT_NE(all.dx, ones_dx);
  EXPECT_NE(all.dweight, ones_dweight);
  EXPECT_NE(all.dbias, ones_dbias);
  for (const int alone : {0, 1, 2}) {
    const Gradients one = run(alone == 0, alone == 1, alone == 2);
    EXPECT_EQ(one.dx, alone == 0 ? all.dx : ones_dx);
    EXPECT_EQ(one.dweight, alone == 1 ? all.dweight : ones_dweight);
    EXPECT_EQ(one.dbias, alone == 2 ? all.dbias : ones_dbias);
  }
}

TEST_F(LinearCuda, NoRowsChangeNothing) {
  const DeviceVector weight(gpu(), std::vector<float>(12, 1));
  const DeviceVector bias(gpu(), std::vector<float>(3, 1)), dweight(gpu(), std::vector<float>(12, 5)),
      dbias(gpu(), std::vector<float>(3, 5));
  linear_forward(gpu(), LinearForward<float>{0, 4, 3, nullptr, weight.data(), bias.data(), nullptr});
  linear_backward(gpu(), LinearBackward<float>{0, 4, 3, nullptr, weight.data(), nullptr, nullptr, false, dweight.data(),
                                               dbias.data()});
  EXPECT_EQ(dweight.host(), std::vector<float>(12, 5));
  EXPECT_EQ(dbias.host(), std::vector<float>(3, 5));
}

/// dbias alone, of dy that begins `shift` values into an aligned block.
template <class T>
void check_column_sums(Gpu& gpu, std::int64_t rows, std::int64_t out, std::size_t shift) {
  SCOPED_TRACE(::testing::Message() << rows << " x " << out << " from " << shift);
  const auto values = rounded<T>(random_values(std::size_t(rows * out) + shift, 8));
  const auto start = rounded<float>(random_values(std::size_t(out), 9));
  auto expected = start, size = magnitudes(start);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < out; ++j) {
      const double value = values[shift + std::size_t(r * out + j)];
      expected[std::size_t(j)] += value;
      size[std::size_t(j)] += std::abs(value);
    }
  }
  const DeviceVector dy(gpu, stored<T>(values));
  const auto run = [&] {
    const DeviceVector dbias(gpu, stored<float>(start));
    linear_backward(gpu, LinearBackward<T>{rows, 4, out, nullptr, nullptr, dy.data() + shift, nullptr, false, nullptr,
                                           dbias.data()});
    return dbias.host();
  };
  expect_sum(run(), expected, size, rows, "dbias");
  if (rows < 1000) expect_same_bytes_twice(run, "dbias");  // the executor takes its time over many blocks
}
TEST_F(LinearCuda, ColumnSumsOfEveryShape) {
  for (const std::size_t shift : {0u, 1u}) {
    check_column_sums<float>(gpu(), 70, 12, shift);
    check_column_sums<bf16>(gpu(), 70, 24, shift);
  }
  check_column_sums<bf16>(gpu(), 63, 520, 0);    // more columns than a block takes
  check_column_sums<bf16>(gpu(), 16500, 8, 0);   // more rows than 256 chunks of 64
  check_column_sums<float>(gpu(), 16500, 3, 0);  // without vectors
}

TEST_F(LinearCuda, SumsOverManyRowsLoseLittle) {
  // Equal values add up without cancelling, where a single running sum in float would be off by thousands of roundings. Here no value
  // passes through more than 64 + 8 + 16 + 16 additions.
  const std::int64_t rows = 16384;
  const DeviceVector dy(gpu(), std::vector<float>(std::size_t(rows * 4), 0.1f));
  const DeviceVector dbias(gpu(), std::vector<float>(4, 0.0f));
  linear_backward(
      gpu(), LinearBackward<float>{rows, 4, 4, nullptr, nullptr, dy.data(), nullptr, false, nullptr, dbias.data()});
  for (const float sum : dbias.host()) EXPECT_NEAR(sum, rows * double{0.1f}, 104 * 0x1p-24 * rows * 0.1);
}

TEST_F(LinearCuda, ProductsWithLeadingDimensions) {
  // Parts of larger matrices, as heads take them, each way of transposing; what lies between the rows of C stays.
  const std::int64_t m = 19, n = 24, k = 40;
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      const std::int64_t lda = (transpose_a ? m : k) + 8, ldb = (transpose_b ? k : n) + 16, ldc = n + 8;
      const auto a = rounded<bf16>(random_values(std::size_t((transpose_a ? k : m) * lda), 1)),
                 b = rounded<bf16>(random_values(std::size_t((transpose_b ? n : k) * ldb), 2)),
                 c = rounded<bf16>(random_values(std::size_t(m * ldc), 3)),
                 bias = rounded<bf16>(random_values(std::size_t(n), 4));
      const DeviceVector device_a(gpu(), stored<bf16>(a)), device_b(gpu(), stored<bf16>(b)),
          device_bias(gpu(), stored<bf16>(bias));
      const DeviceVector device_c(gpu(), stored<bf16>(c));
      product(gpu(), Product<bf16, bf16>{transpose_a, transpose_b, m, n, k, device_a.data(), lda, device_b.data(), ldb,
                                         0.5f, device_c.data(), ldc, device_bias.data()});
      auto expected = c, size = magnitudes(c);
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          const auto at = std::size_t(i * ldc + j);
          expected[at] = 0.5 * expected[at] + bias[std::size_t(j)];
          size[at] += std::abs(bias[std::size_t(j)]);
          for (std::int64_t l = 0; l < k; ++l) {
            const double term = a[std::size_t(transpose_a ? l * lda + i : i * lda + l)] *
                                b[std::size_t(transpose_b ? j * ldb + l : l * ldb + j)];
            expected[at] += term;
            size[at] += std::abs(term);
          }
        }
      }
      const auto ours = device_c.host();
      expect_sum(ours, expected, size, k, "c");
      for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = n; j < ldc; ++j)
          EXPECT_EQ(to_float(ours[std::size_t(i * ldc + j)]), c[std::size_t(i * ldc + j)]) << "outside";
    }
  }
}

TEST_F(LinearCuda, RowsOfNearlyTheSameNumber) {
  // Neighbouring sizes share a choice of algorithm: each must still have all of its own rows.
  for (const std::int64_t rows : {129, 134, 135, 136, 140, 1001, 1020, 1024}) {
    const Shape s{rows, 16, 24};
    SCOPED_TRACE(rows);
    const Operands<bf16> o(s);
    const DeviceVector x(gpu(), stored<bf16>(o.x)), weight(gpu(), stored<bf16>(o.weight)),
        bias(gpu(), stored<bf16>(o.bias)), dy(gpu(), stored<bf16>(o.dy));
    const DeviceVector<bf16> y(gpu(), o.dy.size());
    linear_forward(gpu(), LinearForward<bf16>{s.rows, s.in, s.out, x.data(), weight.data(), bias.data(), y.data()});
    expect_sum(y.host(), o.y(true), o.magnitude().y(true), s.in, "y");

    std::vector<double> dx(o.x.size()), dweight(o.weight.size()), dbias(o.bias.size()), dweight_size = dweight;
    o.gradients(dx, dweight, dbias, false);
    o.magnitude().gradients(dx, dweight_size, dbias, false);
    const DeviceVector ours(gpu(), std::vector<float>(o.weight.size()));
    linear_backward(gpu(), LinearBackward<bf16>{s.rows, s.in, s.out, x.data(), weight.data(), dy.data(), nullptr, false,
                                                ours.data(), nullptr});
    expect_sum(ours.host(), dweight, dweight_size, s.rows, "dweight");
  }
}

TEST_F(LinearCuda, RefusesWhatTheContractExcludes) {
  const DeviceVector a(gpu(), std::vector<float>(16, 1));
  const DeviceVector<float> c(gpu(), 4);
  const Product<float, float> good{false, false, 2, 2, 2, a.data(), 2, a.data(), 2, 0, c.data(), 2, nullptr};
  EXPECT_NO_THROW(product(gpu(), good));
  auto misplaced = good, empty = good, narrow_rows = good;
  misplaced.bias = a.data() + 1;
  EXPECT_THROW(product(gpu(), misplaced), std::logic_error);
  empty.k = 0;
  EXPECT_THROW(product(gpu(), empty), std::logic_error);
  narrow_rows.ldc = 1;
  EXPECT_THROW(product(gpu(), narrow_rows), std::logic_error);
}

}  // namespace
}  // namespace moleblend::testing
