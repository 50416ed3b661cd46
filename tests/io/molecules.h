#pragma once
// Small data sets for tests.

#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "io/dataset/dataset_writer.h"
#include "io/dataset/shard_writer.h"

namespace moleblend::testing {

/// A made-up molecule of `n` atoms: a chain with a ring closure, `conformers` sets of positions, labels of which some are missing.
inline Molecule made_molecule(std::uint64_t number, std::size_t n, std::uint32_t conformers, std::size_t labels) {
  std::mt19937_64 g(number);
  Molecule m;
  m.identifier = "molecule " + std::to_string(number);
  m.smiles = std::string(n, 'C');
  m.source_file = 1;
  m.source_record = 10 * number;
  for (std::size_t i = 0; i < n; ++i) {
    AtomCodes codes{};
    for (auto& c : codes) c = static_cast<std::uint8_t>(g() % 7);
    m.atoms.push_back(codes);
  }
  const auto bond = [&](std::size_t a, std::size_t b) {
    m.bonds.push_back({static_cast<std::uint32_t>(a), static_cast<std::uint32_t>(b), static_cast<std::uint8_t>(g() % 5),
                       static_cast<std::uint8_t>(g() % 6), static_cast<std::uint8_t>(g() % 2)});
  };
  for (std::size_t i = 1; i < n; ++i) bond(i - 1, i);
  if (n > 5) bond(0, 5);
  m.conformers = conformers;
  m.conformer_source = conformers > 0 ? ConformerSource::file : ConformerSource::none;
  std::normal_distribution<float> x(0, 2);
  for (std::size_t k = 0; k < conformers * n * 3; ++k) m.positions.push_back(x(g));
  for (std::size_t k = 0; k < labels; ++k)
    m.labels.push_back(g() % 4 == 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(g() % 1000) / 7);
  return m;
}

/// Equal bit for bit; missing labels are equal to each other.
inline bool same(Molecule a, Molecule b) {
  if (a.labels.size() != b.labels.size()) return false;
  for (std::size_t k = 0; k < a.labels.size(); ++k) {
    if (a.labels[k] != b.labels[k] && !(a.labels[k] != a.labels[k] && b.labels[k] != b.labels[k])) return false;
  }
  a.labels.clear();
  b.labels.clear();
  return a == b;
}

/// `blocks` shards of `in_block` molecules each, of 1 to 20 atoms with 0 to 3 conformers and one label; returns all molecules.
inline std::vector<Molecule> make_dataset(const std::filesystem::path& folder, std::uint64_t blocks,
                                          std::uint64_t in_block) {
  std::vector<Molecule> molecules;
  for (std::uint64_t block = 0; block < blocks; ++block) {
    ShardWriter writer(folder, block, 1);
    for (std::uint64_t i = 0; i < in_block; ++i) {
      const std::uint64_t number = block * in_block + i;
      molecules.push_back(made_molecule(number, 1 + number * 7 % 20, static_cast<std::uint32_t>(number % 4), 1));
      writer.add(molecules.back());
    }
    writer.finish(block);
  }
  write_dataset_json(folder, {.labels = {"gap"},
                              .sources = {{"a.csv", "00", 10, 20}, {"b.csv", "11", 30, 40}},
                              .options = R"({"keep_hydrogens": false})",
                              .program_version = "test"});
  return molecules;
}

/// Writes a file plainly: for tests that write thousands, where AtomicFile would wait for the disk each time.
inline void write_quickly(const std::filesystem::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
}

/// The message of the Error that `f` throws; empty if it throws none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return {};
}

}  // namespace moleblend::testing
