#pragma once
// Runs of Philox blocks on the CPU, several at a time in vector registers: the same words as philox(), faster.

#include <cstdint>

#include "kernels/random/philox.h"

namespace moleblend {

/// Blocks that philox_run() draws at once.
inline constexpr int kPhiloxRun = 32;

/// words [4 · kPhiloxRun]: philox(key, first_block + k, purpose, layer) for k in [0, kPhiloxRun), block after block.
/// The counter wraps at 2³² as in philox(); words past the last block wanted are simply not used.
void philox_run(std::uint64_t key, std::uint32_t first_block, Draw purpose, std::uint32_t layer, std::uint32_t* words);

}  // namespace moleblend
