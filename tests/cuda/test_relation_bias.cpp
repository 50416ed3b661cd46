// The relation bias on the GPU against the fp64 CPU version, which tests/kernels/test_relation_bias.cpp holds against the formulas.

#include <set>

#include "kernels/relation_bias/relation_bias.h"
#include "kernels/relation_bias/rows.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

using namespace relation;
using Vec = std::vector<double>;
using Index = std::size_t;

enum Table { kSpd, kEdge, kHop, kGraph, kMul, kBias, kMean, kStd, kW1, kB1, kW2, kB2, kTables };
constexpr const char* kNames[] = {"spd_table",    "edge_table",    "edge_hop",      "graph_token",
                                  "gaussian_mul", "gaussian_bias", "gaussian_mean", "gaussian_std",
                                  "distance_w1",  "distance_b1",   "distance_w2",   "distance_b2"};

/// Parameters or their gradients, in the order of RelationTables.
using Tables = std::vector<Vec>;
template <class T, class A>
RelationTables<T> pointers(A& tables) {
  const auto p = [&](Table t) { return tables[t].size() ? tables[t].data() : nullptr; };
  return {p(kSpd), p(kEdge), p(kHop), p(kGraph), p(kMul), p(kBias), p(kMean), p(kStd), p(kW1), p(kB1), p(kW2), p(kB2)};
}

struct Case {
  PackedSizes sizes;
  Packed packed;
  Index H, K;
  Tables tables{kTables};
  std::vector<std::uint16_t> spd, codes;
  std::vector<std::uint8_t> path, pair_visible, atom_visible;
  Vec positions, dbias, dsum;
  bool has_positions = true, has_sum = true;

  Case(const Case&) = delete;  // `packed` points into `sizes`
  /// `shown`: bits that a pair may show; each pair shows some of them, every combination.
  Case(std::initializer_list<int> atoms, Index heads, Index kernels, unsigned shown = 7)
      : sizes(atoms), packed(sizes.packed()), H(heads), K(kernels) {
    std::mt19937 g(7);
    const auto values = [](Index count, std::uint64_t seed, double scale) {
      return rounded<float>(random_values(count, seed, scale));
    };
    tables[kSpd] = values(kSpdRows * H, 1, 1);
    tables[kEdge] = values((3 * 512 + 1) * H, 2, 1);
    tables[kHop] = values(128 * H * H, 3, 1 / std::sqrt(double(H)));
    tables[kGraph] = values(H, 4, 1);
    if (K > 0) {
      tables[kMul] = values(kElementRows, 5, 0.1);
      for (double& v : tables[kMul]) v = double(float(v + 0.5));
      tables[kBias] = values(kElementRows, 6, 0.1);
      tables[kMean] = values(K, 7, 1);
      tables[kStd] = values(K, 8, 1);
      for (double& v : tables[kStd]) v = double(float(v + (v < 0 ? -0.3 : 0.3)));
      tables[kStd][K / 2] = 0;  // σ = 0.01: its |std| has no gradient
      tables[kW1] = values(K * K, 9, 1 / std::sqrt(double(K)));
      tables[kB1] = values(K, 10, 0.3);
      tables[kW2] = values(H * K, 11, 1 / std::sqrt(double(K)));
      tables[kB2] = values(H, 12, 0.3);
    }
    positions = values(Index(3 * packed.atoms()), 13, 1.5);
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      const std::int64_t n = packed.atoms_of(b);
      for (std::int64_t i = 0; i < n; ++i) {
        for (int f = 0; f < 9; ++f) codes.push_back(std::uint16_t(g() % 7 == 0 ? 118 : g() % 9));
        atom_visible.push_back(std::uint8_t(g() % 4));
        for (std::int64_t j = 0; j < n; ++j) {
          // Near, unreachable and, now and then, far pairs up to the longest; the diagonal has no path.
          const auto r = g() % 40;
          const int s = i == j ? 0 : r < 6 ? kUnreachable : r < 8 ? int(30 + g() % 480) : int(1 + g() % 8);
          spd.push_back(std::uint16_t(s));
          for (int d = 0; d < kPathHops; ++d) {
            path.push_back(d < hops_of(s) ? bond_code(int(g() % 5), int(g() % 6), int(g() % 2)) : std::uint8_t(0));
          }
          pair_visible.push_back(std::uint8_t(g() & shown));
        }
      }
    }
    dbias = values(H * Index(packed.token_pairs()), 14, 1);
    dsum = rounded<bf16>(random_values(Index(packed.atoms()) * K, 15));
  }

  struct Forward {
    Vec bias, sum;
  };
  Forward expected() const {
    Cpu cpu(1);
    Forward v{Vec(dbias.size()), Vec(dsum.size())};
    relation_bias_forward<double>(cpu, {cpu_input(), v.bias.data(), has_sum ? v.sum.data() : nullptr});
    return v;
  }
  Tables expected_gradients() const {
    Cpu cpu(1);
    Tables g(kTables);
    for (int t = 0; t < kTables; ++t) g[Index(t)].resize(tables[Index(t)].size());
    relation_bias_backward<double>(cpu,
                                   {cpu_input(), dbias.data(), has_sum ? dsum.data() : nullptr, pointers<double>(g)});
    return g;
  }

  /// As a straightforward bf16 program computes it: every array between the steps of the distance encoder is stored in bf16, and so
  /// are the sum over the modalities and the weights.
  struct Plain {
    Forward out;
    Tables gradients;
  };
  Plain plain() const {
    const auto r = in_bf16;
    Plain v{{Vec(dbias.size()), Vec(dsum.size())}, Tables(kTables)};
    for (int t = 0; t < kTables; ++t) v.gradients[Index(t)].resize(tables[Index(t)].size());
    Tables& d = v.gradients;
    Vec g(K), h(K), active(K), dg(K), dh(K);
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      const std::int64_t n = packed.atoms_of(b), t = n + 1;
      const auto at = [&](Index head, std::int64_t i, std::int64_t j) {
        return H * Index(packed.token_pair_offset[b]) + head * Index(t * t) + Index(i * t + j);
      };
      for (Index head = 0; head < H; ++head) {
        for (std::int64_t k = 0; k < t; ++k)
          v.out.bias[at(head, 0, k)] = v.out.bias[at(head, k, 0)] = r(tables[kGraph][head]);
      }
      for (std::int64_t i = 0; i < n; ++i) {
        Vec sum(K);
        for (std::int64_t j = 0; j < n; ++j) {
          const Index pair = Index(packed.pair_offset[b] + i * n + j), row = Index(packed.atom_offset[b] + i),
                      column = Index(packed.atom_offset[b] + j);
          const bool shows_sum = has_sum && (atom_visible[row] & kShowGaussians);
          const bool shows_distance = pair_visible[pair] & kShowDistance;
          double distance = 0;
          for (Index axis = 0; axis < 3; ++axis)
            distance += std::pow(positions[3 * column + axis] - positions[3 * row + axis], 2);
          distance = std::sqrt(distance);
          const auto zi = Index(row_element(codes[9 * row])), zj = Index(column_element(codes[9 * column]));
          const double u = (tables[kMul][zi] + tables[kMul][zj]) * distance + tables[kBias][zi] + tables[kBias][zj];
          const auto z = [&](Index k) { return (u - tables[kMean][k]) / (std::abs(tables[kStd][k]) + 0.01); };
          for (Index k = 0; k < K; ++k) {
            const double sigma = std::abs(tables[kStd][k]) + 0.01;
            g[k] = r(std::exp(-0.5 * z(k) * z(k)) / (std::sqrt(2 * 3.14159) * sigma));
            if (shows_sum) sum[k] += g[k];
            dg[k] = shows_sum ? dsum[row * K + k] : 0;
          }
          Vec value(H);
          for (Index head = 0; head < H; ++head) {
            if (pair_visible[pair] & kShowSpd) value[head] += r(tables[kSpd][Index(spd[pair] + 1) * H + head]);
          }
          if (pair_visible[pair] & kShowEdge) {
            const int hops = hops_of(spd[pair]);
            for (Index head = 0; head < H; ++head) {
              double edge = 0;
              for (int hop = 0; hop < hops; ++hop) {
                for (Index q = 0; q < H; ++q) {
                  double mean = 0;
                  for (int f = 0; f < 3; ++f)
                    mean += tables[kEdge][Index(edge_row(path[pair * 5 + Index(hop)], f)) * H + q] / 3;
                  edge += mean * tables[kHop][Index(hop) * H * H + q * H + head] / hops;
                }
              }
              value[head] = r(value[head] + r(edge));
            }
          }
          if (shows_distance) {
            for (Index k = 0; k < K; ++k) {
              h[k] = tables[kB1][k];
              for (Index q = 0; q < K; ++q) h[k] += r(tables[kW1][k * K + q]) * g[q];
              h[k] = r(h[k]);
              active[k] = r(0.5 * h[k] * (1 + std::erf(h[k] / std::sqrt(2.0))));
              dh[k] = 0;
            }
            for (Index head = 0; head < H; ++head) {
              double out = tables[kB2][head];
              const double dout = r(dbias[at(head, i + 1, j + 1)]);
              for (Index k = 0; k < K; ++k) {
                out += r(tables[kW2][head * K + k]) * active[k];
                d[kW2][head * K + k] += dout * active[k];
                dh[k] += dout * r(tables[kW2][head * K + k]);
              }
              d[kB2][head] += dout;
              value[head] = r(value[head] + r(out));
            }
            for (Index k = 0; k < K; ++k) {
              const double cdf = 0.5 * (1 + std::erf(h[k] / std::sqrt(2.0)));
              dh[k] = r(r(dh[k]) * (cdf + h[k] * std::exp(-0.5 * h[k] * h[k]) / std::sqrt(2 * 3.14159265358979)));
              d[kB1][k] += dh[k];
            }
            Vec dgaussian(K);
            for (Index k = 0; k < K; ++k) {
              for (Index q = 0; q < K; ++q) {
                d[kW1][k * K + q] += dh[k] * g[q];
                dgaussian[q] += dh[k] * r(tables[kW1][k * K + q]);
              }
            }
            for (Index k = 0; k < K; ++k) dg[k] = r(dg[k] + r(dgaussian[k]));
          }
          for (Index head = 0; head < H; ++head) v.out.bias[at(head, i + 1, j + 1)] = r(value[head]);
          if (!shows_distance && !shows_sum) continue;
          double du = 0;
          for (Index k = 0; k < K; ++k) {
            const double std = tables[kStd][k], sigma = std::abs(std) + 0.01, w = dg[k] * g[k] / sigma;
            du -= w * z(k);
            d[kMean][k] += w * z(k);
            d[kStd][k] += (std > 0 ? 1 : std < 0 ? -1 : 0) * w * (z(k) * z(k) - 1);
          }
          for (const Index element : {zi, zj}) {
            d[kMul][element] += du * distance;
            d[kBias][element] += du;
          }
        }
        for (Index k = 0; k < K; ++k) v.out.sum[Index(packed.atom_offset[b] + i) * K + k] = r(sum[k]);
      }
    }
    return v;
  }

 private:
  RelationBiasInput<double> cpu_input() const {
    return {packed,
            std::int64_t(H),
            std::int64_t(K),
            spd.data(),
            path.data(),
            codes.data(),
            has_positions ? positions.data() : nullptr,
            pair_visible.data(),
            atom_visible.data(),
            pointers<const double>(tables)};
  }
};

/// The case in device memory.
template <class T>
class OnDevice {
 public:
  OnDevice(Gpu& gpu, const Case& c)
      : gpu_(gpu),
        case_(c),
        packed_(gpu, c.packed),
        spd_(gpu, c.spd),
        codes_(gpu, c.codes),
        path_(gpu, c.path),
        pair_visible_(gpu, c.pair_visible),
        atom_visible_(gpu, c.atom_visible),
        positions_(gpu, stored<float>(c.positions)) {
    for (const Vec& table : c.tables) tables_.emplace_back(gpu, stored<float>(table));
  }

  struct Forward {
    Vec bias, sum;
  };
  Forward forward() {
    DeviceVector<T> bias(gpu_, std::vector<T>(case_.dbias.size(), narrow<T>(NAN)));
    DeviceVector<T> sum(gpu_, std::vector<T>(case_.dsum.size(), narrow<T>(NAN)));
    relation_bias_forward<T>(gpu_, {input(), bias.data(), case_.has_sum ? sum.data() : nullptr});
    return {as_double(bias.host()), case_.has_sum ? as_double(sum.host()) : Vec(sum.size())};
  }
  /// Added to `start`.
  Tables backward(float start = 0) {
    std::vector<DeviceVector<float>> g;
    for (const Vec& table : case_.tables) g.emplace_back(gpu_, std::vector<float>(table.size(), start));
    DeviceVector<float> dbias(gpu_, stored<float>(case_.dbias));
    DeviceVector<T> dsum(gpu_, stored<T>(case_.dsum));
    relation_bias_backward<T>(gpu_, {input(), dbias.data(), case_.has_sum ? dsum.data() : nullptr, pointers<float>(g)});
    Tables host;
    for (const auto& table : g) host.push_back(as_double(table.host()));
    return host;
  }

 private:
  RelationBiasInput<T> input() {
    return {packed_.packed(),
            std::int64_t(case_.H),
            std::int64_t(case_.K),
            spd_.data(),
            path_.data(),
            codes_.data(),
            case_.has_positions ? positions_.data() : nullptr,
            pair_visible_.data(),
            atom_visible_.data(),
            pointers<const float>(tables_)};
  }
  Gpu& gpu_;
  const Case& case_;
  DevicePacked packed_;
  DeviceVector<std::uint16_t> spd_, codes_;
  DeviceVector<std::uint8_t> path_, pair_visible_, atom_visible_;
  DeviceVector<float> positions_;
  std::vector<DeviceVector<float>> tables_;
};

double largest(const Vec& v) {
  double most = 0;
  for (const double x : v) most = std::max(most, std::abs(x));
  return most;
}

class RelationBias : public CudaTest {
 protected:
  // Float: rounding of u (near 5, ε 6e-8) counts 1/σ times in z, which is 100 at the narrowest Gaussian and 3 at the others, and a Gaussian
  // is up to 40 high; the CPU's float version has the same. Gradients sum thousands of pairs; relative to a table's largest entry.
  static constexpr double kFloat = 2e-4, kFloatGradient = 1e-3;
  // Sums of dbias alone, float over float: √pairs · ε.
  static constexpr double kLookUpGradient = 1e-5;

  void check_float(const Case& c) {
    OnDevice<float> device(gpu(), c);
    const auto truth = c.expected();
    const auto ours = device.forward();
    expect_close<double, double>(ours.bias, truth.bias, kFloat, 1, "bias");
    expect_close<double, double>(ours.sum, truth.sum, kFloat, 1, "gaussian_sum");
    const Tables dtruth = c.expected_gradients(), gradients = device.backward();
    for (Index t = 0; t < kTables; ++t) {
      expect_close<double, double>(gradients[t], dtruth[t], t <= kGraph ? kLookUpGradient : kFloatGradient,
                                   std::max(largest(dtruth[t]), 1e-30), kNames[t]);
    }
  }
  void check_bf16(const Case& c) {
    OnDevice<bf16> device(gpu(), c);
    const auto truth = c.expected();
    const auto ours = device.forward();
    const auto plain = c.plain();
    expect_within_plain_bf16(ours.bias, plain.out.bias, truth.bias, 2, "bias");
    if (c.has_sum) expect_within_plain_bf16(ours.sum, plain.out.sum, truth.sum, 2, "gaussian_sum");
    const Tables dtruth = c.expected_gradients(), gradients = device.backward();
    for (Index t = 0; t < kTables; ++t) {
      if (t <= kGraph) {
        expect_close<double, double>(gradients[t], dtruth[t], kLookUpGradient, largest(dtruth[t]), kNames[t]);
      } else {
        expect_within_plain_bf16(gradients[t], plain.gradients[t], dtruth[t], 3, kNames[t]);
      }
    }
  }
};

// Sizes of the models: base, small and tiny; then sizes that no piece of a kernel divides.
TEST_F(RelationBias, Float) {
  check_float(Case(sized({18, 1, 9, 2, 20}, {9, 1, 4}), 32, 128));
  check_float(Case(sized({18, 1, 9, 0, 33}, {18, 0, 5}), 8, 64));
  check_float(Case({1, 2, 31, 32, 33}, 4, 16));
  check_float(Case({1, 2, 7, 0, 20, 1, 3}, 3, 6));
}

TEST_F(RelationBias, Bf16) {
  check_bf16(Case(sized({18, 1, 9, 2, 20}, {12, 1, 5}), 32, 128));
  check_bf16(Case(sized({18, 1, 9, 0, 33}, {14, 0, 5}), 8, 64));
  check_bf16(Case({1, 2, 31, 32, 33}, 4, 16));
  check_bf16(Case({12, 2, 7, 0, 13, 1, 3}, 3, 6));
  check_bf16(Case({12, 5, 9}, 40, 70));
}

/// The other sizes that tensor cores have kernels for: heads up to 16, 32 and 64, Gaussians up to 16, 64 and 128. In batches this small one
/// pair at the edge of a sharp Gaussian can be most of an rms error, of ours or of plain's; here none is.
TEST_F(RelationBias, Bf16OfEverySize) {
  const std::pair<int, int> sizes[] = {{8, 128}, {20, 10}, {40, 12}, {24, 50}, {40, 50}};
  for (const auto& [heads, kernels] : sizes) check_bf16(Case({14, 9, 11}, heads, kernels));
}

/// More than tensor cores have kernels for, and more than shared memory has room for.
TEST_F(RelationBias, LargeEncoders) {
  check_float(Case(sized({5, 1, 7}, {4}), 70, 140));
  check_bf16(Case(sized({5, 1, 7}, {4}), 3, 140));
  check_bf16(Case({6, 4}, 70, 16));
  check_float(Case(sized({4, 3}, {3}), 2, 390));
}

/// Several tiles of a block, and molecules of more than a tile.
TEST_F(RelationBias, LargeMolecules) {
  check_bf16(Case({40, 3, 66}, 4, 16));
  check_float(Case({40, 3, 66}, 2, 4));
}

TEST_F(RelationBias, OneModalityOnly) {
  for (const unsigned shown : {1u, 2u, 4u}) {
    check_float(Case({9, 1, 14}, 4, 16, shown));
    Case c({9, 1, 14}, 4, 16, shown);
    OnDevice<bf16> device(gpu(), c);
    const auto truth = c.expected();
    // No encoder without its modality: look-ups are float sums, rounded once (2⁻⁹).
    if (shown != 4) expect_close<double, double>(device.forward().bias, truth.bias, 1.0 / 256, 1e-2, "bias");
  }
}

TEST_F(RelationBias, WithoutDistanceEncoder) {
  const Case c({5, 3, 20}, 4, 0, kShowSpd | kShowEdge);
  check_float(c);
  const Case d({5, 3}, 33, 0, kShowSpd | kShowEdge);
  check_float(d);
}

TEST_F(RelationBias, WithoutPositions) {
  Case c({5, 3, 12}, 4, 16, kShowSpd | kShowEdge);
  for (auto& v : c.atom_visible) v &= kShowDegree;
  c.has_positions = false;
  check_float(c);
  OnDevice<bf16> device(gpu(), c);
  const Vec sum = device.forward().sum, dw1 = device.backward()[kW1];
  for (const double x : sum) EXPECT_EQ(x, 0);
  for (const double x : dw1) EXPECT_EQ(x, 0);
}

TEST_F(RelationBias, WithoutGaussianSum) {
  Case c({5, 3, 12}, 4, 16);
  c.has_sum = false;
  check_float(c);
  check_bf16(c);
}

TEST_F(RelationBias, GradientsAreAdded) {
  const Case c({4, 6, 9}, 4, 16);
  OnDevice<bf16> device(gpu(), c);
  Tables plain = device.backward(), shifted = device.backward(64);
  for (Index t = 0; t < kTables; ++t) {
    for (double& v : shifted[t]) v -= 64;
    // ε of a sum with 64.
    expect_close<double, double>(shifted[t], plain[t], 1e-5, 1, kNames[t]);
    EXPECT_GT(largest(plain[t]), 0) << kNames[t];
  }
}

TEST_F(RelationBias, SameBytesTwice) {
  const Case c({18, 1, 9, 33}, 8, 20);
  OnDevice<bf16> narrow(gpu(), c);
  OnDevice<float> wide(gpu(), c);
  const auto all = [](auto& device) {
    const auto forward = device.forward();
    Vec v = forward.bias;
    v.insert(v.end(), forward.sum.begin(), forward.sum.end());
    for (const Vec& table : device.backward()) v.insert(v.end(), table.begin(), table.end());
    return v;
  };
  expect_same_bytes_twice([&] { return all(narrow); }, "bf16");
  expect_same_bytes_twice([&] { return all(wide); }, "float");
}

TEST_F(RelationBias, EmptyBatchIsNoWork) {
  const Case none({}, 3, 6), lone({0, 0}, 3, 6);  // lone: graph tokens alone
  for (const Case* c : {&none, &lone}) {
    check_float(*c);
    OnDevice<bf16> device(gpu(), *c);
    EXPECT_EQ(device.forward().bias, rounded<bf16>(c->expected().bias));
    const Tables truth = c->expected_gradients(), gradients = device.backward();
    for (Index t = 0; t < kTables; ++t)
      expect_close<double, double>(gradients[t], truth[t], kLookUpGradient, 1, kNames[t]);
  }
}

}  // namespace
}  // namespace moleblend::testing
