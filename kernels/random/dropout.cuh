#pragma once
// Dropout factors as kernels draw them: the bits of dropout_factors() (philox.h).

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/philox.h"

namespace moleblend::cuda {

/// factor[k] = 0 or the dropout's scale, of elements 8 · block + k.
__device__ __forceinline__ void dropout_factors(std::uint64_t key, Draw purpose, std::uint32_t layer,
                                                std::uint32_t block, const Dropout& dropout, float (&factor)[8]) {
  const PhiloxWords w = philox(key, block, purpose, layer);
  const auto scale = static_cast<float>(dropout.scale);
#pragma unroll
  for (int k = 0; k < 8; ++k) factor[k] = dropout.keeps(w, static_cast<unsigned>(k)) ? scale : 0.0f;
}

/// The factor of one element: for rows that do not begin with a block of draws.
__device__ __forceinline__ float dropout_factor(std::uint64_t key, Draw purpose, std::uint32_t layer,
                                                std::int64_t element, const Dropout& dropout) {
  const PhiloxWords w = philox(key, static_cast<std::uint32_t>(element / 8), purpose, layer);
  // Chosen by comparison: an index known only at run time would put the words into local memory.
  const auto lane = static_cast<unsigned>(element % 8);
  const std::uint32_t low = lane < 2 ? w.word[0] : w.word[1], high = lane < 6 ? w.word[2] : w.word[3];
  const std::uint32_t word = lane < 4 ? low : high;
  return ((word >> (16 * (lane % 2))) & 0xFFFFu) >= dropout.threshold ? static_cast<float>(dropout.scale) : 0.0f;
}

}  // namespace moleblend::cuda
