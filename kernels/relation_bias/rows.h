#pragma once
// Which rows of its tables a pair of atoms takes: what the CPU and CUDA versions of the relation bias share.

#include "kernels/common/packed.h"

namespace moleblend::relation {

inline constexpr int kHopRows = kBondCodes + 1;  // a bond code's row; row 0, no such hop, is zero
inline constexpr int kSpdRows = 512, kElementRows = 1536;
inline constexpr int kBondFeatures = 3;

MOLEBLEND_HD constexpr int row_element(std::uint16_t category) {
  return category + 3;
}
MOLEBLEND_HD constexpr int column_element(std::uint16_t category) {
  return category + 515;
}

/// Row of edge_table for feature f (type, stereo, conjugated) of a bond.
MOLEBLEND_HD constexpr int edge_row(std::uint8_t code, int f) {
  return (f == 0 ? bond_type(code) : f == 1 ? bond_stereo(code) : bond_conjugated(code)) + 512 * f + 3;
}

/// Hops of a path that count: none where there is no path.
MOLEBLEND_HD constexpr int hops_of(int spd) {
  return spd == kUnreachable ? 0 : spd < kPathHops ? spd : kPathHops;
}

}  // namespace moleblend::relation
