#include "kernels/random/philox_blocks.h"

namespace moleblend {

void philox_run(std::uint64_t key, std::uint32_t first_block, Draw purpose, std::uint32_t layer, std::uint32_t* words) {
  // One array for each of the four counter words, so that the loop over blocks becomes a vector loop.
  std::uint32_t c0[kPhiloxRun], c1[kPhiloxRun], c2[kPhiloxRun], c3[kPhiloxRun];
  for (int b = 0; b < kPhiloxRun; ++b) {
    c0[b] = first_block + static_cast<std::uint32_t>(b);
    c1[b] = static_cast<std::uint32_t>(purpose);
    c2[b] = layer;
    c3[b] = 0;
  }
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int b = 0; b < kPhiloxRun; ++b) {
      // High and low halves apart: the compiler takes each for a vector multiplication of 32-bit lanes, which is twice
      // as fast as 64-bit products that it must assume to be full ones.
      const std::uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, a0 = c0[b], a2 = c2[b];
      const auto high0 = static_cast<std::uint32_t>((std::uint64_t{a0} * m0) >> 32);
      const auto high1 = static_cast<std::uint32_t>((std::uint64_t{a2} * m1) >> 32);
      c0[b] = high1 ^ c1[b] ^ k0;
      c2[b] = high0 ^ c3[b] ^ k1;
      c1[b] = a2 * m1;
      c3[b] = a0 * m0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int b = 0; b < kPhiloxRun; ++b) {
    words[4 * b] = c0[b];
    words[4 * b + 1] = c1[b];
    words[4 * b + 2] = c2[b];
    words[4 * b + 3] = c3[b];
  }
}

}  // namespace moleblend
