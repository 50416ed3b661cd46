#pragma once
// Philox words as kernels draw them: those of philox() (philox.h).

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/philox.h"

namespace moleblend::cuda {

/// words[k] = philox(key, block[k], purpose[k], layer). Several at once share the key's schedule, a quarter of the work, and fill each
/// other's waiting.
template <int N>
__device__ __forceinline__ void philox_words(std::uint64_t key, const std::uint32_t (&block)[N],
                                             const Draw (&purpose)[N], std::uint32_t layer, PhiloxWords (&words)[N]) {
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
#pragma unroll
  for (int n = 0; n < N; ++n) words[n] = {{block[n], static_cast<std::uint32_t>(purpose[n]), layer, 0}};
#pragma unroll
  for (int round = 0; round < 10; ++round) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      std::uint32_t(&c)[4] = words[n].word;
      std::uint32_t low0, high0, low2, high2;
      multiply_words(c[0], 0xD2511F53u, low0, high0);
      multiply_words(c[2], 0xCD9E8D57u, low2, high2);
      c[0] = high2 ^ c[1] ^ k0;
      c[1] = low2;
      c[2] = high0 ^ c[3] ^ k1;
      c[3] = low0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}
__device__ __forceinline__ PhiloxWords philox_words(std::uint64_t key, std::uint32_t block, Draw purpose,
                                                    std::uint32_t layer) {
  const std::uint32_t blocks[1] = {block};
  const Draw purposes[1] = {purpose};
  PhiloxWords words[1];
  philox_words(key, blocks, purposes, layer, words);
  return words[0];
}

}  // namespace moleblend::cuda
