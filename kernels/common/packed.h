#pragma once
// How a batch of molecules lies in memory: end to end, without padding.
//
// Shape letters, the same everywhere:
//   B molecules, N atoms (all molecules together), T = N + B tokens, P = Σ n² ordered atom pairs, H heads, D width,
//   d = D / H head width, F feed-forward width, K Gaussian kernels, L layers.
// A molecule with n atoms has n + 1 tokens, the graph token first.

#include <cstdint>

namespace moleblend {

/// Offsets of a packed batch; all pointers have B + 1 entries.
struct Packed {
  std::int64_t molecules;                 // B
  const std::int64_t* atom_offset;        // Σ n: atoms of molecule b are [atom_offset[b], atom_offset[b + 1])
  const std::int64_t* pair_offset;        // Σ n²: pair (i, j) of molecule b is pair_offset[b] + i · n + j
  const std::int64_t* token_pair_offset;  // Σ (n + 1)²: for [H, n + 1, n + 1] blocks of attention bias, times H

  std::int64_t atoms() const { return atom_offset[molecules]; }
  std::int64_t tokens() const { return atoms() + molecules; }
  std::int64_t pairs() const { return pair_offset[molecules]; }
  std::int64_t token_pairs() const { return token_pair_offset[molecules]; }
  std::int64_t atoms_of(std::int64_t b) const { return atom_offset[b + 1] - atom_offset[b]; }
  /// The graph token of molecule b; its atoms' tokens follow.
  std::int64_t token_offset(std::int64_t b) const { return atom_offset[b] + b; }
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
constexpr std::uint8_t bond_code(int type, int stereo, int conjugated) {
  return static_cast<std::uint8_t>(1 + (type * kBondStereos + stereo) * 2 + conjugated);
}
constexpr int bond_type(std::uint8_t code) {
  return (code - 1) / (2 * kBondStereos);
}
constexpr int bond_stereo(std::uint8_t code) {
  return (code - 1) / 2 % kBondStereos;
}
constexpr int bond_conjugated(std::uint8_t code) {
  return (code - 1) % 2;
}

}  // namespace moleblend
