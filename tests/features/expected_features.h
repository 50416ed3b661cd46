#pragma once
// Tables of expected features, and how far a program agrees with them.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "io/dataset/molecule.h"

namespace moleblend::testing {

/// A folder outside the clone: the environment variable, or its usual place beside the source.
inline std::string data_folder(const char* variable, const char* beside_source) {
  const char* set = std::getenv(variable);
  return set ? set : std::string(MOLEBLEND_SOURCE_DIR) + beside_source;
}

/// Text of a file, unpacked if it is gzipped; throws if it can't be read.
inline std::string read_text(const std::string& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) throw std::runtime_error("can't open " + path);
  std::string text;
  std::vector<char> block(1 << 16);
  int count = 0;
  while ((count = gzread(file.get(), block.data(), static_cast<unsigned>(block.size()))) > 0) {
    text.append(block.data(), static_cast<std::size_t>(count));
  }
  if (count < 0) throw std::runtime_error("can't read " + path);
  return text;
}

inline std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

struct ExpectedMolecule {
  std::string source, smiles;
  std::vector<AtomCodes> atoms;
  std::vector<Bond> bonds;
};

/// Rows with the columns source, smiles, atoms (nine codes each), bonds (begin, end, type, stereo, conjugated); lines
/// with '#' and the header are skipped, further columns ignored.
inline std::vector<ExpectedMolecule> read_expected(const std::string& path) {
  std::vector<ExpectedMolecule> molecules;
  for (const auto& line : split(read_text(path), '\n')) {
    if (line.starts_with('#') || line.starts_with("source\t")) continue;
    const auto columns = split(line, '\t');
    ExpectedMolecule molecule{columns.at(0), columns.at(1), {}, {}};
    for (const auto& atom : split(columns.at(2), ';')) {
      auto& codes = molecule.atoms.emplace_back();
      const auto values = split(atom, ',');
      for (std::size_t k = 0; k < codes.size(); ++k) codes[k] = static_cast<std::uint8_t>(std::stoi(values.at(k)));
    }
    if (columns.size() > 3) {
      for (const auto& bond : split(columns[3], ';')) {
        const auto v = split(bond, ',');
        const auto number = [&](std::size_t k) { return static_cast<std::uint32_t>(std::stoul(v.at(k))); };
        molecule.bonds.push_back({number(0), number(1), static_cast<std::uint8_t>(number(2)),
                                  static_cast<std::uint8_t>(number(3)), static_cast<std::uint8_t>(number(4))});
      }
    }
    molecules.push_back(std::move(molecule));
  }
  return molecules;
}

/// Counts equal features over many molecules.
class Agreement {
 public:
  /// A molecule whose atoms can't be set against each other counts as wrong in every feature.
  void compare(const ExpectedMolecule& expected, const Molecule& got, const std::string& text) {
    bool same_atoms = expected.atoms.size() == got.atoms.size();
    for (std::size_t i = 0; same_atoms && i < got.atoms.size(); ++i)
      same_atoms = expected.atoms[i][0] == got.atoms[i][0];
    if (!same_atoms)
      return miss(expected, fmt::format("{} atoms, expected {}", got.size(), expected.atoms.size()), text);
    for (std::size_t i = 0; i < got.atoms.size(); ++i) {
      for (std::size_t k = 0; k < kAtomNames.size(); ++k) {
        // Most atoms are no stereo centres: count those that are for either side by themselves too.
        count(kAtomNames[k], expected.atoms[i][k], got.atoms[i][k], text, fmt::format("atom {}", i));
        if (k == 1 && (expected.atoms[i][k] || got.atoms[i][k])) {
          count("chirality, centres", expected.atoms[i][k], got.atoms[i][k], text, fmt::format("atom {}", i));
        }
      }
    }
    std::map<std::pair<std::uint32_t, std::uint32_t>, Bond> bonds;
    for (const auto& bond : got.bonds) bonds[std::minmax(bond.begin, bond.end)] = bond;
    EXPECT_EQ(bonds.size(), expected.bonds.size()) << text;
    for (const auto& bond : expected.bonds) {
      const auto found = bonds.find(std::minmax(bond.begin, bond.end));
      const Bond none{.begin = 0, .end = 0, .type = 99, .stereo = 99, .conjugated = 99};
      const Bond& other = found == bonds.end() ? none : found->second;
      const auto where = fmt::format("bond {}-{}", bond.begin, bond.end);
      count("bond type", bond.type, other.type, text, where);
      count("bond stereo", bond.stereo, other.stereo, text, where);
      if (bond.stereo || other.stereo) count("bond stereo, marked", bond.stereo, other.stereo, text, where);
      count("conjugated", bond.conjugated, other.conjugated, text, where);
    }
  }

  void miss(const ExpectedMolecule& expected, const std::string& why, const std::string& text) {
    ++missed_;
    if (missed_ <= kExamples) fmt::print("  not comparable: {} ({})\n", text, why);
    for (const auto* name : kAtomNames) features_[name].total += expected.atoms.size();
    for (const auto* name : {"bond type", "bond stereo", "conjugated"}) features_[name].total += expected.bonds.size();
  }

  double fraction(const std::string& feature) const {
    const auto& f = features_.at(feature);
    return f.total == 0 ? 1.0 : double(f.equal) / double(f.total);
  }

  void print(const std::string& title) const {
    fmt::print("{}\n", title);
    for (const auto& [name, f] : features_) {
      fmt::print("  {:<20} {:9.4f} %  ({} of {})\n", name, 100 * fraction(name), f.equal, f.total);
      for (const auto& example : f.examples) fmt::print("      {}\n", example);
    }
    std::fflush(stdout);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [name, f] : features_) all.push_back(name);
    return all;
  }

 private:
  static constexpr std::array<const char*, 9> kAtomNames = {"atomic number", "chirality", "degree",
                                                            "charge",        "hydrogens", "radicals",
                                                            "hybridisation", "aromatic",  "in ring"};
  static constexpr std::size_t kExamples = 14;
  struct Feature {
    std::size_t equal = 0, total = 0;
    std::vector<std::string> examples;
  };

  void count(const std::string& name, int expected, int got, const std::string& text, const std::string& where) {
    auto& f = features_[name];
    ++f.total;
    f.equal += expected == got;
    if (expected != got && f.examples.size() < kExamples) {
      f.examples.push_back(fmt::format("expected {}, got {}: {} of {}", expected, got, where, text));
    }
  }

  std::map<std::string, Feature> features_;
  std::size_t missed_ = 0;
};

}  // namespace moleblend::testing
