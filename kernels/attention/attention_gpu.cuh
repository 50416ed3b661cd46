#pragma once
// What the CUDA versions of attention share: classes of molecules by size, one head of one molecule, its dropout draws.

#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/dropout.cuh"

namespace moleblend::attention_gpu {

/// `count` molecules from place `first` of Packed::by_size, none with more than `tokens` tokens.
struct SizeClass {
  std::int64_t first, count, tokens;
};

/// Calls f for the molecules with more than 128 tokens, up to 128, 64, 32, 24 and 16, in this order, where there are any: what takes longest
/// starts first.
template <class F>
void for_each_class(const Packed& p, F&& f) {
  const std::int64_t first[] = {0, p.beyond_128, p.beyond_64, p.beyond_32, p.beyond_24, p.beyond_16, p.molecules};
  const std::int64_t tokens[] = {p.largest + 1, 128, 64, 32, 24, 16};
  for (int k = 0; k < 6; ++k) {
    if (first[k] < first[k + 1]) f(SizeClass{first[k], first[k + 1] - first[k], std::min(tokens[k], p.largest + 1)});
  }
}

/// Dropout draws of one head. Blocks of eight elements never cross a row: rows are numbered with a stride of round_up(n, 8).
struct HeadDraws {
  bool active;
  std::uint32_t threshold, layer;  // upper_threshold()
  std::uint64_t key;
  std::uint32_t first, row_blocks;  // blocks before this head; blocks of a row
  float scale;                      // of what is kept

  /// The philox block of row i, columns 8 column_block … + 7, and its words.
  __device__ __forceinline__ std::uint32_t block(int i, int column_block) const {
    return first + static_cast<std::uint32_t>(i) * row_blocks + static_cast<std::uint32_t>(column_block);
  }
  __device__ __forceinline__ PhiloxWords draw(int i, int column_block) const {
    return cuda::philox_words(key, block(i, column_block), Draw::attention_dropout, layer);
  }
  /// Bit c: column c of the block is kept.
  __device__ __forceinline__ unsigned keep_bits(int i, int column_block) const {
    const PhiloxWords w = draw(i, column_block);
    unsigned bits = 0;
#pragma unroll
    for (int c = 0; c < 8; ++c) bits |= static_cast<unsigned>(cuda::keeps_element(w, c, threshold)) << c;
    return bits;
  }
};

/// One head of one molecule.
template <class T>
struct Head {
  int n;                 // tokens
  std::int64_t token;    // the first one
  std::int64_t bias_at;  // element of the bias' [n, n] block
  int column;            // of q, and of out
  HeadDraws draws;

  /// Head `head`, `head_width` columns wide, of the molecule at place `rank` of Packed::by_size.
  __device__ Head(const AttentionInput<T>& in, std::int64_t rank, int head, int head_width) {
    const std::int64_t b = in.packed.by_size[rank];
    const std::int64_t tokens = in.packed.atoms_of(b) + 1;
    n = static_cast<int>(tokens);
    token = in.packed.token_offset(b);
    bias_at = in.heads * in.packed.token_pair_offset[b] + head * tokens * tokens;
    column = head * head_width;
    draws.active = in.dropout.active();
    draws.threshold = cuda::upper_threshold(in.dropout);
    draws.layer = in.layer;
    draws.key = draws.active ? in.molecule_key[b] : 0;
    draws.row_blocks = static_cast<std::uint32_t>((n + 7) / 8);
    draws.first = static_cast<std::uint32_t>(head * n) * draws.row_blocks;
    draws.scale = draws.active ? static_cast<float>(in.dropout.scale) : 1.0f;
  }
};

/// Per row of scores, what turns them into probabilities and gradients: p = exp(s − largest) · inverse; delta = Σ_j p · dp. For molecules
/// of up to 128 tokens in shared memory, for longer ones in scratch, three floats a row.
struct RowStatistics {
  float largest, inverse, delta;
};
struct StatisticsRows {
  float* memory;
  std::int64_t pitch;

  __device__ __forceinline__ void put(int i, const RowStatistics& s) const {
    float* p = memory + i * pitch;
    p[0] = s.largest;
    p[1] = s.inverse;
    p[2] = s.delta;
  }
  __device__ __forceinline__ RowStatistics get(int i) const {
    const float* p = memory + i * pitch;
    return {p[0], p[1], p[2]};
  }
};
constexpr int kRowsInSharedMemory = 128;

/// Scratch for the statistics of molecules with more than 128 tokens: [T, H, 3]; null if there are none.
inline float* statistics_scratch(Gpu& gpu, const Packed& p, std::int64_t heads) {
  if (p.beyond_128 == 0) return nullptr;
  return static_cast<float*>(gpu.scratch(static_cast<std::size_t>(p.tokens() * heads * 3) * sizeof(float)));
}

// bf16 on tensor cores, for head widths that tensor_cores_take(); everything else.
bool tensor_cores_take(std::int64_t head_width);
void forward_tensor(Gpu& gpu, const AttentionForward<bf16>& a);
void backward_tensor(Gpu& gpu, const AttentionBackward<bf16>& a);
template <class T>
void forward_simt(Gpu& gpu, const AttentionForward<T>& a);
template <class T>
void backward_simt(Gpu& gpu, const AttentionBackward<T>& a);

}  // namespace moleblend::attention_gpu
