#pragma once
// How a batch of molecules lies in memory: end to end, without padding.
//
// Shape letters, the same everywhere:
//   B molecules, N atoms (all molecules together), T = N + B tokens, P = Σ n² ordered atom pairs, H heads, D width,
//   d = D / H head width, F feed-forward width, K Gaussian kernels, L layers.
// A molecule with n atoms has n + 1 tokens, the graph token first.

#include <cstdint>

#include "kernels/common/precision.h"

namespace moleblend {

/// A packed batch. Its arrays lie in memory of the device that works on it; its totals are at hand everywhere.
struct Packed {
  std::int64_t molecules = 0;                 // B
  const std::int64_t* atom_offset = nullptr;  // [B + 1] Σ n: molecule b has atoms [atom_offset[b], atom_offset[b + 1])
  const std::int64_t* pair_offset = nullptr;  // [B + 1] Σ n²: pair (i, j) of molecule b is pair_offset[b] + i · n + j
  const std::int64_t* token_pair_offset =
      nullptr;  // [B + 1] Σ (n + 1)²: for [H, n + 1, n + 1] blocks of attention bias, times H

  std::int64_t atom_count = 0, pair_count = 0, token_pair_count = 0;  // N, P, Σ (n + 1)²
  std::int64_t largest = 0;                                           // most atoms of a molecule

  // Made for GPUs, where work is handed out by token or by size of molecule; null on the CPU.
  const std::int32_t* token_molecule = nullptr;  // [T]
  const std::int32_t* by_size = nullptr;         // [B] molecules from the largest to the smallest
  /// How many molecules have more than 16, 24, 32, 64 and 128 tokens: they are the first in by_size.
  std::int64_t beyond_16 = 0, beyond_24 = 0, beyond_32 = 0, beyond_64 = 0, beyond_128 = 0;

  /// From offsets in host memory.
  static Packed of(std::int64_t molecules, const std::int64_t* atom_offset, const std::int64_t* pair_offset,
                   const std::int64_t* token_pair_offset) {
    Packed p;
    p.molecules = molecules;
    p.atom_offset = atom_offset;
    p.pair_offset = pair_offset;
    p.token_pair_offset = token_pair_offset;
    p.atom_count = atom_offset[molecules];
    p.pair_count = pair_offset[molecules];
    p.token_pair_count = token_pair_offset[molecules];
    for (std::int64_t b = 0; b < molecules; ++b) p.largest = p.atoms_of(b) > p.largest ? p.atoms_of(b) : p.largest;
    return p;
  }

  MOLEBLEND_HD std::int64_t atoms() const { return atom_count; }
  MOLEBLEND_HD std::int64_t tokens() const { return atom_count + molecules; }
  MOLEBLEND_HD std::int64_t pairs() const { return pair_count; }
  MOLEBLEND_HD std::int64_t token_pairs() const { return token_pair_count; }
  // Where the arrays can be read only.
  MOLEBLEND_HD std::int64_t atoms_of(std::int64_t b) const { return atom_offset[b + 1] - atom_offset[b]; }
  /// The graph token of molecule b; its atoms' tokens follow.
  MOLEBLEND_HD std::int64_t token_offset(std::int64_t b) const { return atom_offset[b] + b; }
};

/// Which relations a pair shows, and which features an atom shows: bits, so that blending (exactly one), fine-tuning (the sum
/// of several) and molecules without positions (SPD + edge) are one mechanism.
enum PairVisible : std::uint8_t { kShowSpd = 1, kShowEdge = 2, kShowDistance = 4 };
enum AtomVisible : std::uint8_t { kShowDegree = 1, kShowGaussians = 2 };

inline constexpr int kAtomFeatures = 9;
inline constexpr int kAtomFeatureRows = 512;  // table rows a feature has in the embedding tables
inline constexpr int kUnreachable = 510;      // shortest path distance between fragments
inline constexpr int kPathHops = 5;           // hops of a path that are used
// A bond's three categories as one number, 0 = no such hop: 1 + (type · 6 + stereo) · 2 + conjugated.
inline constexpr int kBondTypes = 5, kBondStereos = 6, kBondCodes = kBondTypes * kBondStereos * 2;
MOLEBLEND_HD constexpr std::uint8_t bond_code(int type, int stereo, int conjugated) {
  return static_cast<std::uint8_t>(1 + (type * kBondStereos + stereo) * 2 + conjugated);
}
MOLEBLEND_HD constexpr int bond_type(std::uint8_t code) {
  return (code - 1) / (2 * kBondStereos);
}
MOLEBLEND_HD constexpr int bond_stereo(std::uint8_t code) {
  return (code - 1) / 2 % kBondStereos;
}
MOLEBLEND_HD constexpr int bond_conjugated(std::uint8_t code) {
  return (code - 1) % 2;
}

}  // namespace moleblend
