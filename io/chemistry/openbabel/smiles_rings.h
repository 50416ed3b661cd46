#pragma once
// Ring closures of a SMILES string.

#include <cstdint>
#include <string_view>
#include <vector>

namespace moleblend::chemistry {

struct RingClosure {
  int number = 0;                        // the ring bond number
  std::uint32_t opened = 0, closed = 0;  // atoms, counted from 0 in the order of the string
};

/// Ring closures in the order in which they close. Expects a SMILES that a parser has accepted; never throws on others.
std::vector<RingClosure> ring_closures(std::string_view smiles);

}  // namespace moleblend::chemistry
