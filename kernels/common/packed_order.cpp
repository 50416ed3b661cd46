#include "kernels/common/packed_order.h"

#include <algorithm>

namespace moleblend {

void PackedOrder::build(const Packed& packed) {
  const auto molecules = static_cast<std::size_t>(packed.molecules);
  token_molecule.resize(static_cast<std::size_t>(packed.tokens()));
  by_size.resize(molecules);
  // A counting sort: batches are large and sizes small.
  const auto sizes = static_cast<std::size_t>(packed.largest) + 2;
  count_.assign(sizes, 0);
  beyond_16 = beyond_24 = beyond_32 = beyond_64 = beyond_128 = 0;
  for (std::int64_t b = 0; b < packed.molecules; ++b) {
    const std::int64_t n = packed.atoms_of(b), tokens = n + 1;
    std::fill_n(token_molecule.begin() + packed.token_offset(b), tokens, static_cast<std::int32_t>(b));
    beyond_16 += tokens > 16;
    beyond_24 += tokens > 24;
    beyond_32 += tokens > 32;
    beyond_64 += tokens > 64;
    beyond_128 += tokens > 128;
    ++count_[static_cast<std::size_t>(packed.largest - n) + 1];
  }
  for (std::size_t s = 1; s < sizes; ++s) count_[s] += count_[s - 1];
  for (std::int64_t b = 0; b < packed.molecules; ++b) {
    const auto place = static_cast<std::size_t>(packed.largest - packed.atoms_of(b));
    by_size[static_cast<std::size_t>(count_[place]++)] = static_cast<std::int32_t>(b);
  }
}

}  // namespace moleblend
