#pragma once
// RDKit's scaffolds as make_expected_scaffolds.py wrote them.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/features/expected_features.h"

namespace moleblend::testing {

struct ExpectedScaffold {
  std::string smiles;  // of the molecule; empty in tables without it
  std::vector<std::uint32_t> atoms;
  std::string group;  // RDKit's SMILES of the scaffold
  bool known = true;  // false: RDKit refuses the molecule
};

/// "1-3 7" as 1, 2, 3, 7.
inline std::vector<std::uint32_t> indices(const std::string& ranges) {
  std::vector<std::uint32_t> all;
  for (const auto& range : split(ranges, ' ')) {
    const auto ends = split(range, '-');
    for (unsigned long i = std::stoul(ends.front()); i <= std::stoul(ends.back()); ++i)
      all.push_back(static_cast<std::uint32_t>(i));
  }
  return all;
}

inline std::vector<ExpectedScaffold> read_scaffolds(const std::string& name, bool with_smiles) {
  std::vector<ExpectedScaffold> all;
  for (const auto& line : split(read_text(std::string(MOLEBLEND_SOURCE_DIR) + "/tests/property/data/" + name), '\n')) {
    if (line.starts_with('#')) continue;
    auto columns = split(line, '\t');
    columns.resize(with_smiles ? 3 : 2);
    auto& row = all.emplace_back();
    if (with_smiles) row.smiles = columns[0];
    const std::string &atoms = columns[columns.size() - 2], &group = columns.back();
    row.known = atoms != "-";
    if (!row.known) continue;
    row.atoms = indices(atoms);
    row.group = group.starts_with('=') ? all.at(std::stoul(group.substr(1))).group : group;
  }
  return all;
}

/// The cases: molecules with features, the scaffold's atoms and its SMILES.
struct Case {
  Molecule molecule;
  ExpectedScaffold scaffold;
};

inline std::vector<Case> scaffold_cases() {
  const std::string path = std::string(MOLEBLEND_SOURCE_DIR) + "/tests/property/data/scaffold_cases.tsv";
  std::vector<Case> all;
  for (const auto& expected : read_expected(path)) {
    auto& molecule = all.emplace_back().molecule;
    molecule.atoms = expected.atoms;
    molecule.bonds = expected.bonds;
  }
  std::size_t k = 0;
  for (const auto& line : split(read_text(path), '\n')) {
    if (line.starts_with('#') || line.starts_with("source\t")) continue;
    auto columns = split(line, '\t');
    columns.resize(6);
    all.at(k++).scaffold = {columns[1], indices(columns[4]), columns[5]};
  }
  return all;
}

/// How far scaffolds agree with RDKit's: the same atoms of the molecule, and the same other molecules in the class.
class ScaffoldAgreement {
 public:
  void add(std::size_t molecule, const std::string& name, bool same_atoms, const std::string& expected,
           const std::string& got) {
    ++total_;
    atoms_ += same_atoms;
    if (!same_atoms && total_ - atoms_ <= kExamples)
      fmt::print("  other atoms: {} in {}, RDKit {}\n", got, name, expected);
    theirs_[expected].insert(molecule);
    ours_[got].insert(molecule);
    of_[molecule] = {expected, got, name};
  }

  double atoms() const { return double(atoms_) / double(total_); }
  double classes() const {
    std::size_t same = 0, shown = 0;
    for (const auto& [molecule, names] : of_) {
      const bool equal = theirs_.at(names.expected) == ours_.at(names.got);
      same += equal;
      if (!equal && shown++ < kExamples)
        fmt::print("  other class: {} has {}, RDKit {}: {} molecules, RDKit {}\n", names.molecule, names.got,
                   names.expected, ours_.at(names.got).size(), theirs_.at(names.expected).size());
    }
    return double(same) / double(total_);
  }
  std::size_t total() const { return total_; }
  std::size_t groups() const { return theirs_.size(); }

 private:
  static constexpr std::size_t kExamples = 25;
  struct Names {
    std::string expected, got, molecule;
  };
  std::size_t total_ = 0, atoms_ = 0;
  std::map<std::string, std::set<std::size_t>> theirs_, ours_;
  std::map<std::size_t, Names> of_;
};

}  // namespace moleblend::testing
