#pragma once
// Philox words and dropout as kernels draw them: the bits of philox() and dropout_factors() (philox.h).

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

/// Dropout::threshold as keeps() compares with it. 0, of no dropout, keeps whatever the word.
__device__ __forceinline__ std::uint32_t upper_threshold(const Dropout& dropout) {
  return dropout.threshold << 16;
}
/// Whether the element in the lower (half = 0) or upper half of a word is kept. The lower bits of the upper half's word decide nothing:
/// those of the threshold are zero.
__device__ __forceinline__ bool keeps(std::uint32_t word, int half, std::uint32_t threshold) {
  return (half == 0 ? word << 16 : word) >= threshold;
}
/// Of element k of a block, k known to the compiler.
__device__ __forceinline__ bool keeps_element(const PhiloxWords& words, int k, std::uint32_t threshold) {
  return keeps(words.word[k / 2], k % 2, threshold);
}

/// The factor of one element: for rows that do not begin with a block of draws.
__device__ __forceinline__ float dropout_factor(std::uint64_t key, Draw purpose, std::uint32_t layer,
                                                std::int64_t element, const Dropout& dropout) {
  const PhiloxWords w = philox_words(key, static_cast<std::uint32_t>(element / 8), purpose, layer);
  // Chosen by comparison: an index known only at run time would put the words into local memory.
  const auto lane = static_cast<unsigned>(element % 8);
  const std::uint32_t low = lane < 2 ? w.word[0] : w.word[1], high = lane < 6 ? w.word[2] : w.word[3];
  const std::uint32_t word = lane < 4 ? low : high;
  return keeps(word, static_cast<int>(lane % 2), upper_threshold(dropout)) ? static_cast<float>(dropout.scale) : 0.0f;
}

}  // namespace moleblend::cuda
