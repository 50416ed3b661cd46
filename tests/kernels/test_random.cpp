// Counter-based random numbers: known answers, the definition of every draw, and statistics that a broken one would
// fail.

#include <array>
#include <cmath>
#include <set>

#include "check.h"
#include "kernels/random/draws.h"
#include "kernels/random/modality.h"
#include "kernels/random/normal.h"
#include "kernels/random/philox.h"
#include "kernels/random/philox_blocks.h"

namespace moleblend::testing {
namespace {

using Words = std::array<std::uint32_t, 4>;

/// Philox-4x32-10 as the paper writes it, with all four counter words free.
Words philox_4x32_10(Words c, std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
    c = {std::uint32_t(p1 >> 32) ^ c[1] ^ k[0], std::uint32_t(p1), std::uint32_t(p0 >> 32) ^ c[3] ^ k[1],
         std::uint32_t(p0)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}

TEST(Philox, KnownAnswers) {
  // Random123's kat_vectors, philox4x32 10.
  EXPECT_EQ(philox_4x32_10({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox_4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox_4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  const PhiloxWords zero = philox(0, 0, Draw{0}, 0);
  EXPECT_EQ(zero.word[0], 0x6627e8d5u);
  EXPECT_EQ(zero.word[3], 0x9b00dbd8u);
  for (const std::uint64_t key : {0x0123456789abcdefull, 0xfedcba9876543210ull}) {
    for (const std::uint32_t block : {0u, 7u, 0xffffffffu}) {
      const PhiloxWords w = philox(key, block, Draw::noise, 11);
      const Words expected = philox_4x32_10({block, 3, 11, 0}, {std::uint32_t(key), std::uint32_t(key >> 32)});
      for (int k = 0; k < 4; ++k) EXPECT_EQ(w.word[k], expected[std::size_t(k)]);
    }
  }
}

TEST(Philox, RunsEqualSingleBlocks) {
  std::uint32_t words[4 * kPhiloxRun];
  for (const std::uint32_t first : {0u, 12345u, 0xfffffff0u}) {  // the last wraps
    philox_run(0x9988776655443322u, first, Draw::attention_dropout, 5, words);
    for (std::uint32_t b = 0; b < kPhiloxRun; ++b) {
      const PhiloxWords w = philox(0x9988776655443322u, first + b, Draw::attention_dropout, 5);
      for (std::uint32_t k = 0; k < 4; ++k) ASSERT_EQ(words[4 * b + k], w.word[k]) << first << " + " << b;
    }
  }
}

TEST(Philox, BytesAreUniform) {
  // 2¹⁸ bytes over 256 values, chi-square with 255 degrees of freedom: mean 255, deviation 22.6. Bounds at 6
  // deviations.
  for (const Draw purpose : {Draw::pair_modality, Draw::activation_dropout}) {
    std::array<int, 256> count{};
    for (std::uint32_t block = 0; block < (1u << 14); ++block) {
      const PhiloxWords w = philox(molecule_key(1, 2, 3), block, purpose, 0);
      for (const std::uint32_t word : w.word) {
        for (int byte = 0; byte < 4; ++byte) ++count[(word >> (8 * byte)) & 0xFF];
      }
    }
    double chi = 0;
    for (const int c : count) chi += (c - 1024.0) * (c - 1024.0) / 1024;
    EXPECT_GT(chi, 255 - 6 * 22.6);
    EXPECT_LT(chi, 255 + 6 * 22.6);
  }
}

TEST(Philox, NeighbouringKeysPurposesLayersAndBlocksAreIndependent) {
  // Correlation of n = 65536 unit numbers with those of a neighbour: deviation 1/√n = 0.0039; bound at 5.
  constexpr int n = 65536;
  const auto unit = [](std::uint64_t molecule, std::uint32_t block, Draw purpose, std::uint32_t layer) {
    return unit_float(philox(molecule_key(0, 0, molecule), block, purpose, layer).word[0]) - 0.5;
  };
  double key = 0, purpose = 0, layer = 0, block = 0;
  for (int k = 0; k < n; ++k) {
    const auto b = static_cast<std::uint32_t>(k);
    const double x = unit(4, b, Draw::noise, 0);
    key += x * unit(5, b, Draw::noise, 0);
    purpose += x * unit(4, b, Draw::drop_path, 0);
    layer += x * unit(4, b, Draw::noise, 1);
    block += x * unit(4, b + 1, Draw::noise, 0);
  }
  for (const double sum : {key, purpose, layer, block}) EXPECT_LT(std::abs(sum * 12 / n), 5.0 / 256);
}

TEST(Philox, MoleculeKeysDiffer) {
  std::set<std::uint64_t> keys;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    for (std::uint64_t epoch = 0; epoch < 10; ++epoch) {
      for (std::uint64_t molecule = 0; molecule < 100; ++molecule) keys.insert(molecule_key(seed, epoch, molecule));
    }
  }
  EXPECT_EQ(keys.size(), 10000u);
}

template <class T>
void check_dropout_factors() {
  const std::uint64_t key = molecule_key(3, 1, 4);
  for (const double p : {0.0, 0.1, 0.5, 0.999999}) {
    const Dropout dropout = Dropout::of(p);
    for (const std::uint64_t first : {0ull, 8ull, 1000ull, 8ull * 0xffffffffull - 80}) {
      for (const std::int64_t count : {0, 1, 7, 8, 255, 256, 257, 1003}) {
        std::vector<T> out(static_cast<std::size_t>(count) + 1, T(-7));
        dropout_factors(key, Draw::activation_dropout, 9, first, count, dropout, out.data());
        for (std::int64_t k = 0; k < count; ++k) {
          const std::uint64_t e = first + static_cast<std::uint64_t>(k);
          const PhiloxWords w = philox(key, static_cast<std::uint32_t>(e / 8), Draw::activation_dropout, 9);
          const bool keeps = !dropout.active() || dropout.keeps(w, static_cast<unsigned>(e % 8));
          ASSERT_EQ(out[static_cast<std::size_t>(k)], keeps ? static_cast<T>(dropout.scale) : T(0))
              << p << " element " << e;
        }
        EXPECT_EQ(out.back(), T(-7)) << "written past the end";
      }
    }
  }
}
TEST(DropoutFactors, EqualTheDefinitionFloat) {
  check_dropout_factors<float>();
}
TEST(DropoutFactors, EqualTheDefinitionDouble) {
  check_dropout_factors<double>();
}

TEST(DropoutFactors, KeepsTheExpectation) {
  // Mean of 2²⁰ factors of p = 0.1: deviation √(p/(1 − p))/1024 = 3.3e-4; bound at 5.
  std::vector<double> f(1 << 20);
  dropout_factors(42, Draw::attention_dropout, 0, 0, static_cast<std::int64_t>(f.size()), Dropout::of(0.1), f.data());
  double sum = 0;
  for (const double x : f) sum += x;
  EXPECT_NEAR(sum / double(f.size()), 1, 5 * 3.3e-4);
}

struct Molecules {
  PackedSizes sizes{1, 9, 40, 3, 18};
  std::vector<std::uint64_t> key{11, 22, 33, 44, 55};
  std::vector<std::uint8_t> has_positions{1, 1, 1, 0, 1};
};

TEST(DrawModalities, EqualTheDefinition) {
  const Molecules m;
  const Packed packed = m.sizes.packed();
  const Blend blend;
  for (const int threads : {1, 2, 3}) {
    Cpu cpu(threads);
    std::vector<std::uint8_t> pairs(std::size_t(packed.pairs()), 99), atoms(std::size_t(packed.atoms()), 99);
    draw_modalities(cpu, {packed, m.key.data(), m.has_positions.data(), blend, pairs.data(), atoms.data()});
    for (std::size_t b = 0; b < m.key.size(); ++b) {
      const std::int64_t n = packed.atoms_of(std::int64_t(b));
      for (std::int64_t e = 0; e < n * n; ++e) {
        const double u = unit_float(philox(m.key[b], std::uint32_t(e / 4), Draw::pair_modality, 0).word[e % 4]);
        const int expected = !m.has_positions[b]                    ? kShowSpd | kShowEdge
                             : u < blend.pair_spd                   ? kShowSpd
                             : u < blend.pair_spd + blend.pair_edge ? kShowEdge
                                                                    : kShowDistance;
        ASSERT_EQ(pairs[std::size_t(packed.pair_offset[b] + e)], expected) << b << ", " << e;
      }
      for (std::int64_t i = 0; i < n; ++i) {
        const double u = unit_float(philox(m.key[b], std::uint32_t(i / 4), Draw::atom_modality, 0).word[i % 4]);
        const int expected = !m.has_positions[b] || u < blend.atom_2d ? kShowDegree : kShowGaussians;
        ASSERT_EQ(atoms[std::size_t(packed.atom_offset[b] + i)], expected) << b << ", " << i;
      }
    }
  }
}

TEST(DrawModalities, ShowsWhatTheProbabilitiesSay) {
  const PackedSizes sizes{512};
  const std::uint64_t key = 5;
  const std::uint8_t has_positions = 1;
  std::vector<std::uint8_t> pairs(512 * 512);
  Cpu cpu(1);
  draw_modalities(cpu, {sizes.packed(), &key, &has_positions, Blend{}, pairs.data(), nullptr});
  std::array<double, 5> count{};
  for (const std::uint8_t v : pairs) ++count.at(v);
  // 2¹⁸ draws: deviation of a frequency at most 0.001; bound at 5.
  EXPECT_NEAR(count[kShowSpd] / 0x1p18, 0.2, 0.005);
  EXPECT_NEAR(count[kShowEdge] / 0x1p18, 0.2, 0.005);
  EXPECT_NEAR(count[kShowDistance] / 0x1p18, 0.6, 0.005);
}

TEST(DrawModalities, ProbabilitiesOfZeroAndOneAreExact) {
  const auto first = [](std::uint32_t word, const Blend& blend) {
    return int(pair_modality(word, BlendThresholds::of(blend)));
  };
  for (const std::uint32_t word : {0u, 0xffu, 0x100u, 0x80000000u, 0xffffff00u, 0xffffffffu}) {
    EXPECT_EQ(first(word, {.pair_spd = 1, .pair_edge = 0, .pair_distance = 0}), kShowSpd);
    EXPECT_EQ(first(word, {.pair_spd = 0, .pair_edge = 1, .pair_distance = 0}), kShowEdge);
    EXPECT_EQ(first(word, {.pair_spd = 0, .pair_edge = 0, .pair_distance = 1}), kShowDistance);
    // Sums that are not exactly 1 in binary still never show what has probability 0.
    EXPECT_NE(first(word, {.pair_spd = 0.1 + 0.2, .pair_edge = 0.7, .pair_distance = 0}), kShowDistance);
    EXPECT_NE(first(word, {.pair_spd = 1.0 / 3, .pair_edge = 2.0 / 3 - 1e-9, .pair_distance = 0}), kShowDistance);
    EXPECT_EQ(first(word, {.pair_spd = 1 - 1e-9, .pair_edge = 0, .pair_distance = 0}), kShowSpd);
    EXPECT_NE(first(word, {.pair_spd = 0.4, .pair_edge = 0, .pair_distance = 0.6}), kShowEdge);
    EXPECT_NE(first(word, {.pair_spd = 0, .pair_edge = 0.4, .pair_distance = 0.6}), kShowSpd);
    EXPECT_EQ(int(atom_modality(word, BlendThresholds::of({.atom_2d = 1, .atom_3d = 0}))), kShowDegree);
    EXPECT_EQ(int(atom_modality(word, BlendThresholds::of({.atom_2d = 0, .atom_3d = 1}))), kShowGaussians);
  }
}

TEST(Normal, LogarithmAgainstTheLibrary) {
  // Against long double, so that the library's own rounding does not count.
  std::mt19937_64 g(1);
  const auto check = [&](double k) {
    const long double expected = std::log(static_cast<long double>(k)) - 32 * std::log(2.0L);
    const double difference =
        double(std::abs(log_of_fraction(k) - expected)) / std::max(1.0, double(std::abs(expected)));
    ASSERT_TRUE(difference <= 3e-16) << k;
  };
  for (int shift = 0; shift <= 32; ++shift) {
    for (const double near : {-1.0, 0.0, 1.0}) {
      const double k = std::ldexp(1.0, shift) + near;
      if (k >= 1 && k <= 0x1p32) check(k);
    }
  }
  for (int s = 0; s < 200000; ++s) check(1 + double(static_cast<std::uint32_t>(g()) >> (g() % 32)));
  EXPECT_EQ(log_of_fraction(0x1p32), 0);
}

TEST(Normal, CosineAndSineAgainstTheLibrary) {
  std::mt19937_64 g(2);
  const long double turn = 2 * 3.14159265358979323846264338327950288L;
  for (int s = 0; s < 200000; ++s) {
    const std::uint32_t word =
        s < 64 ? 0x08000000u * static_cast<std::uint32_t>(s) - (s % 2) : static_cast<std::uint32_t>(g());
    const CosSin c = cos_sin_of_turn(word);
    const long double angle = turn * word / 4294967296.0L;
    ASSERT_TRUE(std::abs(c.cos - std::cos(angle)) <= 3e-16L) << word;
    ASSERT_TRUE(std::abs(c.sin - std::sin(angle)) <= 3e-16L) << word;
  }
}

TEST(Normal, Moments) {
  // n = 400,000: deviations of mean, variance, skewness, kurtosis about 0.0016, 0.0022, 0.0039, 0.0077; bounds at 5.
  constexpr int n = 400000;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, pair = 0, previous = 0;
  for (int e = 0; e < n; ++e) {
    const double x = standard_normal(77, Draw::noise, static_cast<std::uint64_t>(e));
    m1 += x, m2 += x * x, m3 += x * x * x, m4 += x * x * x * x, pair += x * previous;
    previous = x;
  }
  EXPECT_NEAR(m1 / n, 0, 0.008);
  EXPECT_NEAR(m2 / n, 1, 0.011);
  EXPECT_NEAR(m3 / n, 0, 0.020);
  EXPECT_NEAR(m4 / n, 3, 0.05);
  EXPECT_NEAR(pair / n, 0, 0.008);
}

TEST(DrawNoise, EqualTheDefinitionAndZeroWhereUnknown) {
  const Molecules m;
  const Packed packed = m.sizes.packed();
  std::vector<std::uint8_t> known(std::size_t(packed.atoms()), 1);
  known[4] = 0;
  for (const std::uint8_t* mask :
       {static_cast<const std::uint8_t*>(nullptr), static_cast<const std::uint8_t*>(known.data())}) {
    for (const int threads : {1, 3}) {
      Cpu cpu(threads);
      std::vector<float> noise(3 * known.size(), -9);
      draw_noise(cpu, {packed, m.key.data(), m.has_positions.data(), mask, 0.2f, noise.data()});
      for (std::size_t b = 0; b < m.key.size(); ++b) {
        for (std::int64_t i = 0; i < packed.atoms_of(std::int64_t(b)); ++i) {
          const std::size_t atom = std::size_t(packed.atom_offset[b] + i);
          const bool zero = !m.has_positions[b] || (mask && !mask[atom]);
          for (std::size_t axis = 0; axis < 3; ++axis) {
            const double normal = standard_normal(m.key[b], Draw::noise, std::uint64_t(3 * i) + axis);
            ASSERT_EQ(noise[3 * atom + axis], zero ? 0.0f : float(double(0.2f) * normal));
            EXPECT_EQ(noise[3 * atom + axis] == 0, zero);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace moleblend::testing
