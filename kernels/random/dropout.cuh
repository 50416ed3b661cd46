#pragma once
// Dropout as kernels draw it: the bits of dropout_factors() (philox.h).

#include "kernels/random/philox.cuh"

namespace moleblend::cuda {

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
