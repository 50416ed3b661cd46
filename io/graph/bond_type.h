#pragma once
// The first feature of a bond, as the Open Graph Benchmark numbers it.

#include <cstdint>

namespace moleblend {

enum BondType : std::uint8_t { kSingle, kDouble, kTriple, kAromatic, kMisc };

}  // namespace moleblend
