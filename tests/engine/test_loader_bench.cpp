// What measurements rest on: made-up molecules that could be real, and a check of the loader that notices faults.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "engine/bench/loader_bench.h"
#include "engine/bench/molecules.h"

namespace moleblend {
namespace {

TEST(MadeUpMolecules, HaveValencesBondsAndRoom) {
  for (const MadeUpSizes& size : {kSmallMolecules, kDrugSizedMolecules}) {
    const std::vector<Molecule> molecules = random_molecules(1000, size.mean_atoms, size.deviation, 5);
    double atoms = 0, squares = 0, in_ring = 0;
    const std::map<int, int> valence = {{5, 4}, {6, 3}, {7, 2}, {8, 1}, {15, 2}};
    for (const Molecule& m : molecules) {
      const std::size_t n = m.size();
      atoms += static_cast<double>(n);
      squares += static_cast<double>(n * n);
      const std::vector<std::uint8_t> orders = kekule_orders(m);
      std::vector<int> used(n), neighbours(n);
      for (std::size_t e = 0; e < m.bonds.size(); ++e) {
        const Bond& b = m.bonds[e];
        ASSERT_TRUE(b.begin < n && b.end < n && b.begin != b.end);
        ASSERT_TRUE(orders[e] == 1 || orders[e] == 2);
        for (const std::uint32_t i : {b.begin, b.end}) used[i] += orders[e], ++neighbours[i];
        double length = 0;
        for (std::size_t c = 0; c < 3; ++c)
          length += std::pow(m.positions[3 * b.begin + c] - m.positions[3 * b.end + c], 2);
        // Rings that share atoms are strained; most bonds are within a few hundredths of 1.5 Å.
        ASSERT_TRUE(std::sqrt(length) > 0.7 && std::sqrt(length) < 3.5) << std::sqrt(length);
      }
      for (std::size_t i = 0; i < n; ++i) {
        ASSERT_LE(neighbours[i], 4);
        ASSERT_EQ(used[i] + m.atoms[i][4], valence.at(m.atoms[i][0])) << "hydrogens fill the valence";
        ASSERT_EQ(neighbours[i] + m.atoms[i][4], m.atoms[i][2]) << "degree";
        in_ring += m.atoms[i][8];
      }
      ASSERT_FALSE(m.smiles.empty());
      ASSERT_EQ(m.positions.size(), 3 * n);
    }
    // A mean of 1,000 draws lies within four of its deviations.
    const double mean = atoms / 1000, deviation = std::sqrt(squares / 1000 - mean * mean);
    EXPECT_NEAR(mean, size.mean_atoms, 4 * size.deviation / std::sqrt(1000.0));
    EXPECT_NEAR(deviation, size.deviation, 0.15 * size.deviation);
    EXPECT_GT(in_ring / atoms, 0.3);
    EXPECT_LT(in_ring / atoms, 0.7);
  }
}

TEST(MadeUpMolecules, AreTheSameEveryTime) {
  const auto first = random_molecules(20, 14.1, 2, 7), again = random_molecules(30, 14.1, 2, 7);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), again.begin()));
  EXPECT_NE(random_molecules(1, 14.1, 2, 8)[0], first[0]);
  EXPECT_ANY_THROW(random_molecules(1, 0, 2, 1));
  EXPECT_ANY_THROW(random_molecules(1, 14, std::nan(""), 1));
}

TEST(LoaderBench, ItsCheckNoticesFaults) {
  const std::vector<Molecule> molecules = random_molecules(3, 14.1, 2, 1);
  RelationScratch scratch;
  Batch good;
  for (std::size_t b = 0; b < 3; ++b) good.add(molecules[b], b, b, 0, scratch);
  for (std::size_t b = 0; b < 3; ++b) ASSERT_EQ(fault_in(good, b, molecules[b]), "");
  EXPECT_NE(fault_in(good, 0, molecules[1]), "") << "another molecule";
  const auto pair = static_cast<std::size_t>(good.pair_offset[1]), atom = static_cast<std::size_t>(good.atom_offset[1]);
  const auto fault = [&](auto&& damage) {
    Batch batch = good;
    damage(batch);
    return fault_in(batch, 1, molecules[1]);
  };
  EXPECT_NE(fault([&](Batch& b) { ++b.spd[pair + 3]; }), "");
  EXPECT_NE(fault([&](Batch& b) { b.path[(pair + 3) * kPathHops] ^= 1; }), "");
  EXPECT_NE(fault([&](Batch& b) { b.path[(pair + 3) * kPathHops + 4] ^= 1; }), "");
  EXPECT_NE(fault([&](Batch& b) { ++b.degree[atom]; }), "");
  EXPECT_NE(fault([&](Batch& b) { ++b.atom_codes[9 * atom + 8]; }), "");
  EXPECT_NE(fault([&](Batch& b) { b.positions[3 * atom + 1] = std::nanf(""); }), "");
  EXPECT_NE(fault([&](Batch& b) { b.has_positions[1] = 0; }), "");
  EXPECT_EQ(fault([&](Batch& b) { ++b.spd[0]; }), "") << "of another molecule";
}

TEST(LoaderBench, GivesItsRows) {
  std::vector<BenchRow> rows;
  bench_loader({.molecules = 2000, .batch_size = 64, .threads = 2, .seconds = 0.05, .quiet = true},
               [&](BenchRow row) { rows.push_back(std::move(row)); });
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].name, "loader.n14");
  EXPECT_EQ(rows[1].name, "loader.n14.2_threads");
  for (const BenchRow& row : rows) {
    EXPECT_TRUE(row.correct.value_or(false)) << row.detail.dump();
    EXPECT_GT(row.value, 0);
    EXPECT_TRUE(row.share_of_floor && *row.share_of_floor > 0 && *row.share_of_floor < 1);
  }
}

}  // namespace
}  // namespace moleblend
