// The draws of a step on the GPU. A warp takes a token: an atom's token the row of pairs that starts at the atom, the graph token the
// molecule's atoms. Rows of one molecule spread over many warps, so that large molecules make no tail, and neighbouring lanes write
// neighbouring bytes. Each lane draws the Philox block of its own element again (a block serves four elements): 230,000 pairs of 1,024
// molecules cost 1.6 million warp instructions, some 2 µs on 132 multiprocessors, while handing words between lanes would only pay on
// long rows.

#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/draws.h"
#include "kernels/random/modality.h"
#include "kernels/random/normal.h"
#include "kernels/random/philox.cuh"

namespace moleblend {
namespace {

using cuda::blocks_for;
using cuda::launch;

constexpr int kThreads = 256, kWarps = kThreads / 32;

/// What a warp works on: row `i` of the pairs of molecule b, or the molecule's atoms if i is -1.
struct Row {
  std::int64_t b, n, i;
};
__device__ __forceinline__ Row row_of(const Packed& packed, std::int64_t token) {
  const std::int64_t b = packed.token_molecule[token];
  return {b, packed.atoms_of(b), token - packed.token_offset(b) - 1};
}
__device__ __forceinline__ std::int64_t warp_of_grid() {
  return std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
}

/// Word of `element` of (key, purpose), without an index into registers.
__device__ __forceinline__ std::uint32_t word_of(std::uint64_t key, Draw purpose, std::int64_t element) {
  const PhiloxWords w = cuda::philox_words(key, static_cast<std::uint32_t>(element / 4), purpose, 0);
  const std::uint32_t even = element & 2 ? w.word[2] : w.word[0], odd = element & 2 ? w.word[3] : w.word[1];
  return element & 1 ? odd : even;
}

__global__ void __launch_bounds__(kThreads) modalities(const DrawModalities a, const BlendThresholds thresholds) {
  const std::int64_t token = warp_of_grid();
  if (token >= a.packed.tokens()) return;
  const Row row = row_of(a.packed, token);
  const bool draws = a.has_positions[row.b];
  const std::uint64_t key = a.molecule_key[row.b];
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (row.i < 0) {
    if (!a.atom_visible) return;
    std::uint8_t* atoms = a.atom_visible + a.packed.atom_offset[row.b];
    for (std::int64_t k = lane; k < row.n; k += 32)
      atoms[k] = draws ? atom_modality(word_of(key, Draw::atom_modality, k), thresholds) : kFlatAtom;
  } else if (a.pair_visible) {
    const std::int64_t first = row.i * row.n;
    std::uint8_t* pairs = a.pair_visible + a.packed.pair_offset[row.b] + first;
    for (std::int64_t j = lane; j < row.n; j += 32)
      pairs[j] = draws ? pair_modality(word_of(key, Draw::pair_modality, first + j), thresholds) : kFlatPair;
  }
}

__global__ void __launch_bounds__(kThreads) show(const ShowRelations a) {
  const std::int64_t token = warp_of_grid();
  if (token >= a.packed.tokens()) return;
  const Row row = row_of(a.packed, token);
  const Visible visible = visible_of(a.graph, a.distance, a.has_positions[row.b]);
  std::uint8_t* const to = row.i < 0 ? a.atom_visible + a.packed.atom_offset[row.b]
                                     : a.pair_visible + a.packed.pair_offset[row.b] + row.i * row.n;
  const std::uint8_t value = row.i < 0 ? visible.atom : visible.pair;
  for (std::int64_t j = threadIdx.x % 32; j < row.n; j += 32) to[j] = value;
}

/// A thread a value: element e of the tokens' [T, 3], those of graph tokens being nobody's.
__global__ void __launch_bounds__(kThreads) normal_noise(const DrawNoise a) {
  const std::int64_t e = std::int64_t{blockIdx.x} * kThreads + threadIdx.x, token = e / 3, axis = e - 3 * token;
  if (token >= a.packed.tokens()) return;
  const Row row = row_of(a.packed, token);
  if (row.i < 0) return;
  const std::int64_t atom = token - row.b - 1;
  const bool draws = a.has_positions[row.b] && (!a.position_known || a.position_known[atom]);
  const auto element = static_cast<std::uint64_t>(3 * row.i + axis);
  a.noise[3 * atom + axis] =
      draws ? static_cast<float>(double{a.scale} * standard_normal(a.molecule_key[row.b], Draw::noise, element)) : 0.0f;
}

__global__ void __launch_bounds__(kThreads)
    noised_positions(std::int64_t count, const float* positions, const float* noise, float* noised) {
  const std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (k < count) noised[k] = noise ? positions[k] + noise[k] : positions[k];
}

}  // namespace

void draw_modalities(Gpu& gpu, const DrawModalities& a) {
  launch(gpu, modalities, blocks_for(a.packed.tokens(), kWarps), kThreads, 0, a, BlendThresholds::of(a.blend));
}

void draw_noise(Gpu& gpu, const DrawNoise& a) {
  launch(gpu, normal_noise, blocks_for(3 * a.packed.tokens(), kThreads), kThreads, 0, a);
}

void show_relations(Gpu& gpu, const ShowRelations& a) {
  launch(gpu, show, blocks_for(a.packed.tokens(), kWarps), kThreads, 0, a);
}

template <>
void add_noise(Gpu& gpu, std::int64_t count, const float* positions, const float* noise, float* noised) {
  launch(gpu, noised_positions, blocks_for(count, kThreads), kThreads, 0, count, positions, noise, noised);
}

}  // namespace moleblend
