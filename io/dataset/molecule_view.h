#pragma once
// What the loader needs of a record, where it lies in the memory map: no text, and nothing copied but the bonds.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moleblend {

/// A bond between two different atoms, with its three categories as one number from 1 (bond_code).
struct CodedBond {
  std::uint32_t begin = 0, end = 0;
  std::uint8_t code = 0;
};

/// Valid as long as what it was read from. Numbers of more than one byte lie anywhere: copy them out, don't point at them.
struct MoleculeView {
  std::size_t atoms = 0;                 // n
  const std::byte* codes = nullptr;      // [n, 9] u8, as AtomCodes
  std::vector<CodedBond> bonds;          // its memory is used again by the next read
  std::size_t conformers = 0;            //
  const std::byte* positions = nullptr;  // [conformers, n, 3] f32, ångström
  std::size_t label_count = 0;           //
  const std::byte* labels = nullptr;     // [label_count] f64, NaN = missing
};

}  // namespace moleblend
