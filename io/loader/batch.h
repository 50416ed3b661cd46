#pragma once
// A packed batch in host memory: what a device needs of a number of molecules, end to end, without padding.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/dataset/molecule.h"
#include "io/dataset/molecule_view.h"
#include "io/graph/relations.h"
#include "kernels/common/packed.h"

namespace moleblend {

struct Batch {
  // Offsets, B + 1 entries each (see Packed).
  std::vector<std::int64_t> atom_offset{0}, pair_offset{0}, token_pair_offset{0};
  // Per molecule.
  std::vector<std::uint64_t> index;         // [B] its place in the data set
  std::vector<std::uint64_t> key;           // [B] of the random draws: molecule_key(seed, epoch, index)
  std::vector<std::uint8_t> has_positions;  // [B]
  std::vector<double> labels;               // [B, label_count], NaN = missing
  std::int64_t label_count = 0;
  // Per atom.
  std::vector<std::uint16_t> atom_codes;     // [N, 9]
  std::vector<std::uint16_t> degree;         // [N]
  std::vector<float> positions;              // [N, 3] ångström; zeros where the molecule has none
  std::vector<std::uint8_t> position_known;  // [N]
  // Per ordered pair.
  std::vector<std::uint16_t> spd;  // [P]
  std::vector<std::uint8_t> path;  // [P, 5]

  std::int64_t molecules() const { return static_cast<std::int64_t>(index.size()); }
  std::int64_t atoms() const { return atom_offset.back(); }
  /// In host memory.
  Packed packed() const {
    return Packed::of(molecules(), atom_offset.data(), pair_offset.data(), token_pair_offset.data());
  }

  /// Empties the batch and keeps its memory.
  void clear();
  /// Adds a molecule. `conformer` chooses its positions (modulo the number that it has); -1: no positions are used.
  void add(const Molecule& molecule, std::uint64_t molecule_index, std::uint64_t molecule_key, std::int64_t conformer,
           RelationScratch& scratch);
  void add(const MoleculeView& molecule, std::uint64_t molecule_index, std::uint64_t molecule_key,
           std::int64_t conformer, RelationScratch& scratch);

  /// Gives the batch room for molecules of so many atoms each, and for labels; what it held before is lost, and nothing is in it
  /// until put() has filled every place. Cheaper than as many add(): memory that was used before is not cleared.
  void lay_out(std::span<const std::uint32_t> atoms, std::size_t labels);
  /// Fills place b < molecules(). Throws Error if the molecule does not have the atoms and labels that the place has.
  void put(std::size_t b, const MoleculeView& molecule, std::uint64_t molecule_index, std::uint64_t molecule_key,
           std::int64_t conformer, RelationScratch& scratch);

 private:
  void resize();
};

}  // namespace moleblend
