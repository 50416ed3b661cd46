#pragma once
// What GPU kernels ask of a packed batch besides its offsets: which molecule a token belongs to, and the molecules by size.

#include <cstdint>
#include <vector>

#include "kernels/common/packed.h"

namespace moleblend {

/// In host memory; kept from batch to batch, so that it does not allocate in a steady loop.
struct PackedOrder {
  std::vector<std::int32_t> token_molecule;  // [T]
  std::vector<std::int32_t> by_size;         // [B] from the largest molecule to the smallest; in order among equals
  /// Molecules with more than so many tokens.
  std::int64_t beyond_16 = 0, beyond_24 = 0, beyond_32 = 0, beyond_64 = 0, beyond_128 = 0;

  /// `packed` in host memory.
  void build(const Packed& packed);

 private:
  std::vector<std::int32_t> count_;
};

}  // namespace moleblend
