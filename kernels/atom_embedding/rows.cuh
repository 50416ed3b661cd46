#pragma once
// Which rows of the tables an atom uses, and how a warp goes over a token's row.

#include "kernels/atom_embedding/atom_embedding.h"
#include "kernels/common/cuda/cuda.cuh"

namespace moleblend::cuda {

/// Which atom a token is, or −1 for a graph token. `b` is its molecule.
__device__ __forceinline__ std::int64_t atom_of_token(const Packed& packed, std::int64_t token) {
  const std::int64_t b = packed.token_molecule[token];
  return token == packed.token_offset(b) ? -1 : token - b - 1;
}

/// Row of the degree tables.
__device__ __forceinline__ int degree_row(std::uint16_t degree) {
  return (degree < kAtomFeatureRows - 2 ? degree : kAtomFeatureRows - 2) + 1;
}

}  // namespace moleblend::cuda
