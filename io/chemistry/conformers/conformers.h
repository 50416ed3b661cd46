#pragma once
// Three-dimensional structures for molecules that come without.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/chemistry/chemistry.h"
#include "io/chemistry/openbabel/snapshot.h"
#include "io/chemistry/rules/geometry.h"

namespace moleblend::chemistry {

/// Builds one conformer a call.
class ConformerBuilder {
 public:
  virtual ~ConformerBuilder() = default;
  /// Prepares for one molecule, features already encoded (the engines want charges, stereo and radicals as the rules leave them).
  /// Both arguments live until the next call. Returns what is in the way, empty if nothing is.
  virtual std::string prepare(Record& record, const Snapshot& snapshot) = 0;
  /// Positions of the graph's atoms; empty if the engine gives up. The same molecule, seed and steps give the same bytes.
  virtual std::vector<Point> build(std::uint64_t seed, int force_field_steps) = 0;
};

std::unique_ptr<ConformerBuilder> make_openbabel_builder();
/// Null if this build has no RDKit.
std::unique_ptr<ConformerBuilder> make_rdkit_builder();
/// "RDKit 2022.09.3", empty if this build has none.
std::string rdkit_name();

/// Owns the engines.
class Conformers {
 public:
  Conformers();
  bool has(ConformerEngine engine) const;
  /// Fills conformer_source, conformers and positions. All conformers of a molecule come from one engine: the first that builds
  /// all of them, else the one that builds most. Throws Rejected if none passes the checks and one is required.
  void build(Record& record, const Snapshot& snapshot, const ConformerOptions& options, std::uint64_t seed,
             Molecule& molecule);

 private:
  std::unique_ptr<ConformerBuilder> openbabel_, rdkit_;
};

}  // namespace moleblend::chemistry
