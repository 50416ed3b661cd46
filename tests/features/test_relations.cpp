// Relations against a plain Floyd–Warshall written from the definition, on random graphs, and against checksums that an
// independent program made from public molecules.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <sstream>

#include "io/graph/relations.h"
#include "io/support/checksum.h"
#include "io/support/csv.h"
#include "io/support/text_source.h"

namespace moleblend {
namespace {

struct Relations {
  std::vector<std::uint16_t> spd, degree;
  std::vector<std::uint8_t> path;

  Relations(std::size_t n, std::span<const Bond> bonds)
      : spd(n * n, 0xFFFF), degree(n, 0xFFFF), path(n * n * kPathHops, 0xFF) {
    RelationScratch scratch;
    relations(n, bonds, spd.data(), path.data(), degree.data(), scratch);
  }
};

/// The rule of METHOD section 2, word for word.
class FloydWarshall {
 public:
  FloydWarshall(std::size_t n, std::span<const Bond> bonds)
      : n_(n), distance(n * n, kUnreachable), pivot_(n * n, -1), code_(n * n, 0) {
    for (const Bond& b : bonds) {
      if (b.begin == b.end) continue;
      distance[b.begin * n + b.end] = distance[b.end * n + b.begin] = 1;
      code_[b.begin * n + b.end] = code_[b.end * n + b.begin] = bond_code(b.type, b.stereo, b.conjugated);
    }
    for (std::size_t i = 0; i < n; ++i) distance[i * n + i] = 0;
    for (std::size_t k = 0; k < n; ++k)
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) {
          const int through = distance[i * n + k] + distance[k * n + j];
          if (through < distance[i * n + j]) {
            distance[i * n + j] = through;
            pivot_[i * n + j] = static_cast<int>(k);
          }
        }
  }

  std::vector<std::uint8_t> path(std::size_t i, std::size_t j) const {
    std::vector<std::uint8_t> codes;
    if (i != j && distance[i * n_ + j] < kUnreachable) expand(i, j, codes);
    codes.resize(kPathHops);
    return codes;
  }

 private:
  void expand(std::size_t i, std::size_t j, std::vector<std::uint8_t>& codes) const {
    const int k = pivot_[i * n_ + j];
    if (k < 0) {
      codes.push_back(code_[i * n_ + j]);
      return;
    }
    expand(i, static_cast<std::size_t>(k), codes);
    expand(static_cast<std::size_t>(k), j, codes);
  }

  std::size_t n_;

 public:
  std::vector<int> distance;

 private:
  std::vector<int> pivot_;
  std::vector<std::uint8_t> code_;
};

void expect_as_floyd_warshall(std::size_t n, const std::vector<Bond>& bonds) {
  const Relations got(n, bonds);
  const FloydWarshall expected(n, bonds);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      ASSERT_EQ(got.spd[i * n + j], expected.distance[i * n + j]) << "n " << n << ", pair " << i << ", " << j;
      const auto* path = got.path.data() + (i * n + j) * kPathHops;
      ASSERT_EQ(std::vector<std::uint8_t>(path, path + kPathHops), expected.path(i, j))
          << "n " << n << ", pair " << i << ", " << j;
    }
    std::size_t neighbours = 0;
    for (std::size_t j = 0; j < n; ++j) neighbours += expected.distance[i * n + j] == 1;
    ASSERT_EQ(got.degree[i], neighbours) << "n " << n << ", atom " << i;
  }
}

Bond random_bond(std::size_t begin, std::size_t end, std::mt19937_64& g) {
  return {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end),
          static_cast<std::uint8_t>(g() % kBondTypes), static_cast<std::uint8_t>(g() % kBondStereos),
          static_cast<std::uint8_t>(g() % 2)};
}

/// A molecule-like graph in a shuffled order: fragments of random trees with ring closures (even rings give ties),
/// bridges, and now and then a bond given twice or a bond from an atom to itself.
std::vector<Bond> random_graph(std::size_t n, std::mt19937_64& g) {
  std::vector<std::size_t> name(n);
  for (std::size_t i = 0; i < n; ++i) name[i] = i;
  std::shuffle(name.begin(), name.end(), g);
  const std::size_t reach = 1 + g() % 6;  // short: long chains; long: bushes
  std::vector<Bond> bonds;
  for (std::size_t i = 1; i < n; ++i) {
    if (g() % 12 == 0) continue;  // a new fragment
    bonds.push_back(random_bond(name[i], name[i - 1 - g() % std::min(i, reach)], g));
  }
  for (std::size_t ring = g() % (n / 3 + 2); ring > 0 && n > 1; --ring) {
    const std::size_t i = g() % n, size = std::min<std::size_t>(n - 1, 3 + g() % 6);
    bonds.push_back(random_bond(name[i], name[(i + size) % n], g));
  }
  if (!bonds.empty() && g() % 3 == 0) {
    const Bond again = bonds[g() % bonds.size()];
    bonds.push_back(random_bond(again.end, again.begin, g));
  }
  if (g() % 4 == 0) bonds.push_back(random_bond(name[0], name[0], g));
  return bonds;
}

TEST(Relations, RandomGraphsOfEverySize) {
  std::mt19937_64 g(20240501);
  // All sizes around the limits of the row widths (16, 32, 64, 127) and of the breadth-first version, which starts at
  // 128.
  for (std::size_t n = 1; n <= 140; ++n) {
    for (int repeat = 0; repeat < (n <= 40 ? 30 : 4); ++repeat) expect_as_floyd_warshall(n, random_graph(n, g));
    if (HasFatalFailure()) return;
  }
}

TEST(Relations, DenseGraphsHaveManyTies) {
  std::mt19937_64 g(7);
  for (const std::size_t n : {6, 16, 17, 33, 64, 65, 127, 128, 150}) {
    for (const std::size_t edges : {n, 2 * n, 6 * n}) {
      std::vector<Bond> bonds;
      for (std::size_t e = 0; e < edges; ++e) bonds.push_back(random_bond(g() % n, g() % n, g));
      expect_as_floyd_warshall(n, bonds);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Relations, LongChainsEndAtTheCap) {
  for (const std::size_t n : {127, 128, 560}) {
    std::vector<Bond> bonds;
    for (std::uint32_t i = 1; i < n; ++i) bonds.push_back({i - 1, i, 0, 0, 0});
    expect_as_floyd_warshall(n, bonds);
  }
}

TEST(Relations, SquareTakesTheLowerPivot) {
  // 0-1-2-3-0: from 0 to 2 both 1 and 3 lie between; 1 comes first.
  const std::vector<Bond> square = {{0, 1, 1, 0, 0}, {1, 2, 2, 0, 0}, {2, 3, 0, 0, 1}, {3, 0, 3, 0, 1}};
  const Relations r(4, square);
  const auto* path = r.path.data() + (0 * 4 + 2) * kPathHops;
  EXPECT_EQ(std::vector<std::uint8_t>(path, path + 3),
            (std::vector<std::uint8_t>{bond_code(1, 0, 0), bond_code(2, 0, 0), 0}));
  EXPECT_EQ(r.spd[2], 2);
  EXPECT_EQ(r.degree, (std::vector<std::uint16_t>{2, 2, 2, 2}));
}

TEST(Relations, LastOfTwoBondsCounts) {
  const std::vector<Bond> twice = {{0, 1, 0, 0, 0}, {1, 0, 1, 2, 1}};
  const Relations r(2, twice);
  EXPECT_EQ(r.path[kPathHops], bond_code(1, 2, 1));
  EXPECT_EQ(r.degree, (std::vector<std::uint16_t>{1, 1}));
}

TEST(Relations, RefusesBondsToNowhere) {
  std::vector<std::uint16_t> spd(4), degree(2);
  std::vector<std::uint8_t> path(4 * kPathHops);
  RelationScratch scratch;
  const std::vector<Bond> bad = {{0, 2, 0, 0, 0}};
  EXPECT_ANY_THROW(relations(2, bad, spd.data(), path.data(), degree.data(), scratch));
}

// ---- golden tables: source, smiles, atoms, bonds, spd_crc32, path_crc32 ----------------------------

std::vector<std::string> split(const std::string& text, char delimiter) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, delimiter);) parts.push_back(part);
  return parts;
}

std::vector<Bond> parse_bonds(const std::string& text) {
  std::vector<Bond> bonds;
  for (const std::string& item : split(text, ';')) {
    const auto f = split(item, ',');
    const auto number = [&](std::size_t k) { return static_cast<std::uint32_t>(std::stoul(f.at(k))); };
    bonds.push_back({number(0), number(1), static_cast<std::uint8_t>(number(2)), static_cast<std::uint8_t>(number(3)),
                     static_cast<std::uint8_t>(number(4))});
  }
  return bonds;
}

std::string crc_text(const auto& values) {
  return std::to_string(crc32(std::as_bytes(std::span(values))));
}

/// Three bytes a hop, category + 1, as the golden tables have it.
std::vector<std::uint8_t> categories(const std::vector<std::uint8_t>& codes) {
  std::vector<std::uint8_t> out;
  for (const std::uint8_t code : codes) {
    for (const int category : {bond_type(code), bond_stereo(code), bond_conjugated(code)})
      out.push_back(code == 0 ? std::uint8_t{0} : static_cast<std::uint8_t>(category + 1));
  }
  return out;
}

void check_table(const std::filesystem::path& file, std::size_t& checked) {
  CsvReader table(TextSource(file), '\t');
  std::vector<std::string> row;
  ASSERT_TRUE(table.next(row));
  const auto column = [&](const char* name) {
    const auto at = std::find(row.begin(), row.end(), name);
    EXPECT_NE(at, row.end()) << file << " has no column " << name;
    return static_cast<std::size_t>(at - row.begin());
  };
  const std::size_t atoms = column("atoms"), bonds = column("bonds"), spd = column("spd_crc32"),
                    path = column("path_crc32");
  while (table.next(row)) {
    ASSERT_GT(row.size(), std::max({atoms, bonds, spd, path})) << file << ", line " << table.line();
    if (row[spd].empty()) continue;  // large molecules carry no checksum
    const Relations r(split(row[atoms], ';').size(), parse_bonds(row[bonds]));
    EXPECT_EQ(crc_text(r.spd), row[spd]) << file << ", line " << table.line();
    EXPECT_EQ(crc_text(categories(r.path)), row[path]) << file << ", line " << table.line();
    ++checked;
  }
}

TEST(Relations, GoldenTables) {
  const char* given = std::getenv("MOLEBLEND_FEATURES");
  const std::filesystem::path folder = given ? given : MOLEBLEND_SOURCE_DIR "/../shared/golden/features";
  std::vector<std::filesystem::path> tables;
  if (std::filesystem::is_directory(folder)) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (name.ends_with(".tsv") || name.ends_with(".tsv.gz")) tables.push_back(entry.path());
    }
  }
  if (tables.empty())
    GTEST_SKIP() << "no golden feature tables in " << folder << "; MOLEBLEND_FEATURES names their folder";
  std::size_t checked = 0;
  for (const auto& table : tables) check_table(table, checked);
  EXPECT_GT(checked, 0u);
  RecordProperty("molecules", static_cast<int>(checked));
  std::cout << checked << " molecules of " << tables.size() << " tables\n";
}

}  // namespace
}  // namespace moleblend
