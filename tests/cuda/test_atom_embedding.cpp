// Token embeddings, the gradients of their tables, and copies between atoms and tokens on the GPU against the fp64 CPU version.

#include "kernels/atom_embedding/atom_embedding.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

using Vec = std::vector<double>;

constexpr std::int64_t kAtomRows = kAtomFeatures * kAtomFeatureRows + 1;

template <class T>
struct Case {
  PackedSizes sizes;
  Packed packed = sizes.packed();
  std::int64_t width;
  std::vector<std::uint16_t> codes, degree;
  std::vector<std::uint8_t> visible;
  Vec atom_table, in_table, out_table, graph_token, gaussian, dx;

  Case(PackedSizes s, std::int64_t d, unsigned categories = 3) : sizes(std::move(s)), width(d) {
    const auto values = [&](std::int64_t rows, std::uint64_t seed, double scale = 1) {
      return random_values(static_cast<std::size_t>(rows * d), seed, scale);
    };
    atom_table = rounded<float>(values(kAtomRows, 1));
    in_table = rounded<float>(values(kAtomFeatureRows, 2));
    out_table = rounded<float>(values(kAtomFeatureRows, 3));
    graph_token = rounded<float>(values(1, 4));
    gaussian = rounded<T>(values(packed.atoms(), 5, 100));
    dx = rounded<T>(values(packed.tokens(), 6));
    std::mt19937 g(7);
    for (std::int64_t atom = 0; atom < packed.atoms(); ++atom) {
      // Few categories, so that rows are shared; the largest ones too.
      for (int f = 0; f < kAtomFeatures; ++f)
        codes.push_back(static_cast<std::uint16_t>(g() % 40 == 0 ? (f < 8 ? 511 : 510) : g() % categories));
      degree.push_back(static_cast<std::uint16_t>(atom == 3 ? 510 : atom == 4 ? 700 : g() % 5));
      visible.push_back(static_cast<std::uint8_t>(g() % 4));  // every combination of the two bits
    }
  }

  Vec true_forward() const {
    Cpu cpu(1);
    Vec x(dx.size());
    atom_embedding_forward<double>(
        cpu, {packed, width, codes.data(), degree.data(), visible.data(), atom_table.data(), in_table.data(),
              out_table.data(), graph_token.data(), gaussian.data(), x.data()});
    return x;
  }
  Vec forward(Gpu& gpu) const {
    const DevicePacked p(gpu, packed);
    const DeviceVector<std::uint16_t> cd(gpu, codes), dd(gpu, degree);
    const DeviceVector<std::uint8_t> vd(gpu, visible);
    const DeviceVector<float> at(gpu, stored<float>(atom_table)), it(gpu, stored<float>(in_table)),
        ot(gpu, stored<float>(out_table)), gt(gpu, stored<float>(graph_token));
    const DeviceVector<T> gd(gpu, stored<T>(gaussian)), x = unset<T>(gpu, dx.size());
    const bool shown = std::any_of(visible.begin(), visible.end(), [](std::uint8_t v) { return v & kShowGaussians; });
    atom_embedding_forward<T>(gpu, {p.packed(), width, cd.data(), dd.data(), vd.data(), at.data(), it.data(), ot.data(),
                                    gt.data(), shown ? gd.data() : nullptr, x.data()});
    return as_double(x.host());
  }
  /// Plain bf16: every look-up and every sum of two is an array of its own.
  Vec plain_forward() const {
    Vec x;
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      for (const double v : graph_token) x.push_back(in_bf16(v));
      for (auto atom = static_cast<std::size_t>(packed.atom_offset[b]);
           atom < static_cast<std::size_t>(packed.atom_offset[b + 1]); ++atom) {
        for (std::size_t d = 0; d < static_cast<std::size_t>(width); ++d) {
          double sum = 0;
          const auto add = [&](double v) { sum = in_bf16(sum + in_bf16(v)); };
          for (std::size_t f = 0; f < kAtomFeatures; ++f)
            add(atom_table[(codes[kAtomFeatures * atom + f] + kAtomFeatureRows * f + 2) *
                               static_cast<std::size_t>(width) +
                           d]);
          const std::size_t row =
              static_cast<std::size_t>(std::min<int>(degree[atom] + 1, 511)) * static_cast<std::size_t>(width) + d;
          if (visible[atom] & kShowDegree) {
            add(in_table[row]);
            add(out_table[row]);
          }
          if (visible[atom] & kShowGaussians) add(0.01 * gaussian[atom * static_cast<std::size_t>(width) + d]);
          x.push_back(sum);
        }
      }
    }
    return x;
  }

  struct Gradients {
    Vec atom, in, out, graph, gaussian;
    bool operator==(const Gradients&) const = default;
  };
  /// Gradients are added to those that are there.
  Vec initial(std::int64_t rows) const { return Vec(static_cast<std::size_t>(rows * width), 0.25); }
  Gradients true_backward() const {
    Cpu cpu(1);
    Gradients g{initial(kAtomRows), initial(kAtomFeatureRows), initial(kAtomFeatureRows), initial(1),
                Vec(gaussian.size())};
    atom_embedding_backward<double>(cpu, {packed, width, codes.data(), degree.data(), visible.data(), dx.data(),
                                          g.atom.data(), g.in.data(), g.out.data(), g.graph.data(), g.gaussian.data()});
    return g;
  }
  Gradients backward(Gpu& gpu, bool with_gaussian = true) const {
    const DevicePacked p(gpu, packed);
    const DeviceVector<std::uint16_t> cd(gpu, codes), dd(gpu, degree);
    const DeviceVector<std::uint8_t> vd(gpu, visible);
    const DeviceVector<T> dxd(gpu, stored<T>(dx)), term = unset<T>(gpu, gaussian.size());
    const DeviceVector<float> at(gpu, stored<float>(initial(kAtomRows))),
        it(gpu, stored<float>(initial(kAtomFeatureRows))), ot(gpu, stored<float>(initial(kAtomFeatureRows))),
        gt(gpu, stored<float>(initial(1)));
    atom_embedding_backward<T>(gpu, {p.packed(), width, cd.data(), dd.data(), vd.data(), dxd.data(), at.data(),
                                     it.data(), ot.data(), gt.data(), with_gaussian ? term.data() : nullptr});
    return {as_double(at.host()), as_double(it.host()), as_double(ot.host()), as_double(gt.host()),
            with_gaussian ? as_double(term.host()) : Vec()};
  }
};

template <class T>
void check_forward(Gpu& gpu) {
  for (const std::int64_t width : {8, 50, 264}) {
    const Case<T> c(PackedSizes{1, 5, 0, 12, 2, 70}, width);
    const Vec truth = c.true_forward(), ours = c.forward(gpu);
    if constexpr (std::is_same_v<T, float>) {
      // Twelve additions of numbers near one: 12 ε.
      expect_close<double, double>(ours, truth, 12 * 1.2e-7, 1, "x");
    } else {
      expect_within_plain_bf16(ours, c.plain_forward(), truth, 2, "x");
    }
    expect_same_bytes_twice([&] { return c.forward(gpu); }, "x");
  }
}

template <class T>
void check_backward(Gpu& gpu, const Case<T>& c, bool again = not kThreadSanitized) {
  const auto truth = c.true_backward(), ours = c.backward(gpu);
  // Tables are float for both types, and dx is given exactly: what is left is the rounding of sums, 3e-8 of a running sum a term. 1,200 terms
  // of order one, added in parts with running sums of some 10, are off by √1,200 · 3e-7 = 1e-5 at most; short lists by far less.
  const double tolerance = c.packed.tokens() > 1000 ? 1e-5 : 3e-6;
  expect_close<double, double>(ours.atom, truth.atom, tolerance, 1, "atom_table");
  expect_close<double, double>(ours.in, truth.in, tolerance, 1, "in_degree_table");
  expect_close<double, double>(ours.out, truth.out, tolerance, 1, "out_degree_table");
  expect_close<double, double>(ours.graph, truth.graph, tolerance, 1, "graph_token");
  // One rounding of each product, to T.
  expect_close<double, double>(ours.gaussian, truth.gaussian, sizeof(T) == 4 ? 2e-7 : 0x1p-8, 0.01, "gaussian_term");
  if (again) {
    EXPECT_TRUE(c.backward(gpu) == ours) << "two runs differ";
  }
}

class AtomEmbedding : public CudaTest {};

TEST_F(AtomEmbedding, ForwardFloat) {
  check_forward<float>(gpu());
}
TEST_F(AtomEmbedding, ForwardBf16) {
  check_forward<bf16>(gpu());
}

TEST_F(AtomEmbedding, GaussianTermMayBeAbsent) {
  Case<float> c(PackedSizes{1, 5}, 8);
  for (auto& v : c.visible) v &= kShowDegree;
  expect_close<double, double>(c.forward(gpu()), c.true_forward(), 12 * 1.2e-7, 1, "x");
}

template <class T>
void check_widths(Gpu& gpu) {
  for (const std::int64_t width : {50, 264, 8}) {
    if (kThreadSanitized && width == 8) break;  // the kernels of 264
    check_backward<T>(gpu, Case<T>(PackedSizes{1, 5, 0, 12, 2, 33}, width));
  }
}
TEST_F(AtomEmbedding, BackwardFloat) {
  check_widths<float>(gpu());
}
TEST_F(AtomEmbedding, BackwardBf16) {
  check_widths<bf16>(gpu());
}

/// Lists of several segments that end anywhere, and tokens in several chunks.
TEST_F(AtomEmbedding, LongLists) {
  check_backward<float>(gpu(), Case<float>(PackedSizes{700, 1, 510, 3}, 8, 2));
  check_backward<bf16>(gpu(), Case<bf16>(PackedSizes{257, 254}, 3, 1));
}
/// More molecules than a segment has tokens: the graph token's list is long too.
TEST_F(AtomEmbedding, ManyMolecules) {
  PackedSizes sizes{};
  for (std::int64_t b = 0; b < 600; ++b) {
    const std::int64_t n = b % 3;
    sizes.add(n);
  }
  check_backward<float>(gpu(), Case<float>(sizes, 16, 100));
}

/// More tokens than the least share of every chunk.
TEST_F(AtomEmbedding, LargeChunks) {
  if (kThreadSanitized) GTEST_SKIP() << "the same kernels on more tokens";
  check_backward<float>(gpu(), Case<float>(PackedSizes{16000, 900}, 1, 50), false);
}

TEST_F(AtomEmbedding, GaussianGradientIsOptional) {
  const Case<float> c(PackedSizes{3, 9}, 24);
  auto with = c.backward(gpu());
  with.gaussian.clear();
  EXPECT_TRUE(c.backward(gpu(), false) == with);
}

template <class T>
void check_copies(Gpu& gpu) {
  for (const std::int64_t width : {6, 64, 264}) {
    const Case<T> c(PackedSizes{1, 5, 0, 12, 2, 33}, width);
    const DevicePacked p(gpu, c.packed);
    const DeviceVector<T> x(gpu, stored<T>(c.dx)), atoms = unset<T>(gpu, c.gaussian.size()),
                                                   back = unset<T>(gpu, c.dx.size());
    gather_atoms<T>(gpu, p.packed(), width, x.data(), atoms.data());
    scatter_atoms<T>(gpu, p.packed(), width, atoms.data(), back.data());
    Cpu cpu(1);
    Vec true_atoms(c.gaussian.size()), true_back(c.dx.size());
    gather_atoms<double>(cpu, c.packed, width, c.dx.data(), true_atoms.data());
    scatter_atoms<double>(cpu, c.packed, width, true_atoms.data(), true_back.data());
    EXPECT_EQ(as_double(atoms.host()), true_atoms);
    EXPECT_EQ(as_double(back.host()), true_back);
  }
}

TEST_F(AtomEmbedding, GatherAndScatterFloat) {
  check_copies<float>(gpu());
}
TEST_F(AtomEmbedding, GatherAndScatterBf16) {
  check_copies<bf16>(gpu());
}

TEST_F(AtomEmbedding, AnEmptyBatchIsNothingToDo) {
  const Case<float> c(PackedSizes{}, 8);
  EXPECT_TRUE(c.forward(gpu()).empty());
  EXPECT_EQ(c.backward(gpu()).graph, c.initial(1));
}

}  // namespace
}  // namespace moleblend::testing
