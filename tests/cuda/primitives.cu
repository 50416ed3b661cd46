#include "kernels/common/cuda/cuda.cuh"
#include "kernels/random/dropout.cuh"
#include "tests/cuda/primitives.h"

namespace moleblend::testing {
namespace {

__device__ std::uint32_t pair_of(const bf16* p) {
  return p[0].bits | std::uint32_t{p[1].bits} << 16;
}
__device__ std::uint32_t pair_of(bf16 low, bf16 high) {
  return low.bits | std::uint32_t{high.bits} << 16;
}

__global__ void multiply_kernel(const bf16* a, const bf16* b, const float* c, float* d) {
  const int lane = static_cast<int>(threadIdx.x), row = lane / 4, pair = 2 * (lane % 4);
  const std::uint32_t left[4] = {pair_of(a + row * 16 + pair), pair_of(a + (row + 8) * 16 + pair),
                                 pair_of(a + row * 16 + pair + 8), pair_of(a + (row + 8) * 16 + pair + 8)};
  const std::uint32_t right[2] = {pair_of(b[pair * 8 + row], b[(pair + 1) * 8 + row]),
                                  pair_of(b[(pair + 8) * 8 + row], b[(pair + 9) * 8 + row])};
  float sum[4] = {c[row * 8 + pair], c[row * 8 + pair + 1], c[(row + 8) * 8 + pair], c[(row + 8) * 8 + pair + 1]};
  cuda::mma_m16n8k16_bf16(sum, left, right[0], right[1]);
  d[row * 8 + pair] = sum[0];
  d[row * 8 + pair + 1] = sum[1];
  d[(row + 8) * 8 + pair] = sum[2];
  d[(row + 8) * 8 + pair + 1] = sum[3];
}

template <bool Transposed>
__global__ void load_matrices_kernel(const std::uint16_t* rows, std::uint32_t* words) {
  GPU_SHARED(std::uint32_t, tile, [32][4]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int k = 0; k < 4; ++k) tile[lane][k] = rows[lane * 8 + 2 * k] | std::uint32_t{rows[lane * 8 + 2 * k + 1]} << 16;
  __syncwarp();
  std::uint32_t r[4];
  if constexpr (Transposed) {
    cuda::ldmatrix_x4_trans(r, tile[lane]);
  } else {
    cuda::ldmatrix_x4(r, tile[lane]);
  }
  for (int k = 0; k < 4; ++k) words[lane * 4 + k] = r[k];
}

__global__ void transpose_kernel(const std::uint16_t* values, std::uint32_t* words) {
  const int lane = static_cast<int>(threadIdx.x);
  const std::uint32_t mine = values[2 * lane] | std::uint32_t{values[2 * lane + 1]} << 16;
  words[lane] = cuda::transpose_8x8(mine);
}

__global__ void copy_kernel(const std::uint32_t* from, std::uint32_t* to) {
  GPU_DYNAMIC_SHARED(shared);
  auto* words = reinterpret_cast<std::uint32_t*>(shared);
  const int thread = static_cast<int>(threadIdx.x);
  cuda::copy_async_16(words + 4 * thread, from + 4 * thread, thread == 0 ? 16 : thread == 1 ? 8 : 0);
  cuda::copy_async_commit();
  cuda::copy_async_wait<0>();
  __syncthreads();
  for (int k = 0; k < 4; ++k) to[4 * thread + k] = words[4 * ((thread + 1) % 3) + k];
}

__global__ void hand_over_kernel(int rounds, int* to) {
  GPU_SHARED(int, place, [32]);
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int round = 0; round < rounds; ++round) {
    if (threadIdx.x < 32) place[lane] = 100 * round + lane;
    cuda::named_barrier(1, 64);
    if (threadIdx.x >= 32) to[round * 32 + lane] = place[31 - lane];
    cuda::named_barrier(2, 64);
  }
}

__global__ void round_kernel(int count, const float* x, bf16* rounded, std::uint32_t* packed) {
  const int k = static_cast<int>(threadIdx.x);
  if (k < count) rounded[k] = cuda::round_to_bf16(x[k]);
  if (k < count / 2) packed[k] = cuda::pack_bf16(x[2 * k], x[2 * k + 1]);
}

__global__ void reduce_kernel(const float* x, float* sums, float* largest) {
  const int lane = static_cast<int>(threadIdx.x);
  sums[lane] = cuda::warp_sum(x[lane]);
  largest[lane] = cuda::warp_max(x[lane]);
}

__global__ void pieces_kernel(int count, const bf16* from, bf16* to) {
  const int k = 8 * static_cast<int>(threadIdx.x);
  if (k >= count) return;
  float x[8];
  cuda::load<8>(from + k, x);
  for (float& v : x) v *= 2;
  if (threadIdx.x % 2 == 0) {
    cuda::store<8>(to + k, x);
  } else {
    cuda::store_16_bytes(to + k, cuda::Piece<8, bf16>(x).word);
  }
}

__global__ void draw_kernel(std::uint64_t key, std::uint32_t* words) {
  // One block by itself and two, of other purposes, at once: 32 lanes, 3 blocks, 4 words.
  const std::uint32_t lane = threadIdx.x, blocks[2] = {lane + 100, 7 * lane};
  const Draw purposes[2] = {Draw::hidden_dropout, Draw::drop_path};
  PhiloxWords two[2];
  cuda::philox_words(key, blocks, purposes, 5, two);
  const PhiloxWords one = cuda::philox_words(key, lane, Draw::attention_dropout, 3);
  for (int k = 0; k < 4; ++k) {
    words[12 * lane + k] = one.word[k];
    words[12 * lane + 4 + k] = two[0].word[k];
    words[12 * lane + 8 + k] = two[1].word[k];
  }
}

__global__ void keep_kernel(const std::uint32_t* words, Dropout dropout, std::uint32_t* kept) {
  const std::uint32_t lane = threadIdx.x, threshold = cuda::upper_threshold(dropout);
  kept[2 * lane] = cuda::keeps(words[lane], 0, threshold);
  kept[2 * lane + 1] = cuda::keeps(words[lane], 1, threshold);
}

__global__ void power_kernel(int count, const float* x, float* power) {
  const int k = static_cast<int>(threadIdx.x);
  if (k < count) power[k] = cuda::exp2_fast(x[k]);
}

}  // namespace

void multiply_tile(Gpu& gpu, const bf16* a, const bf16* b, const float* c, float* d) {
  cuda::launch(gpu, multiply_kernel, 1, 32, 0, a, b, c, d);
}
void load_matrices(Gpu& gpu, bool transposed, const std::uint16_t* rows, std::uint32_t* words) {
  cuda::launch(gpu, transposed ? load_matrices_kernel<true> : load_matrices_kernel<false>, 1, 32, 0, rows, words);
}
void transpose_matrix(Gpu& gpu, const std::uint16_t* values, std::uint32_t* words) {
  cuda::launch(gpu, transpose_kernel, 1, 32, 0, values, words);
}
void copy_asynchronously(Gpu& gpu, const std::uint32_t* from, std::uint32_t* to) {
  cuda::launch(gpu, copy_kernel, 1, 3, 48, from, to);
}
void hand_over(Gpu& gpu, int rounds, int* to) {
  cuda::launch(gpu, hand_over_kernel, 1, 64, 0, rounds, to);
}
void round_values(Gpu& gpu, int count, const float* x, bf16* rounded, std::uint32_t* packed) {
  cuda::launch(gpu, round_kernel, 1, static_cast<unsigned>(count), 0, count, x, rounded, packed);
}
void reduce_warp(Gpu& gpu, const float* x, float* sums, float* largest) {
  cuda::launch(gpu, reduce_kernel, 1, 32, 0, x, sums, largest);
}
void double_in_pieces(Gpu& gpu, int count, const bf16* from, bf16* to) {
  cuda::launch(gpu, pieces_kernel, 1, static_cast<unsigned>(count / 8), 0, count, from, to);
}
void draw_words(Gpu& gpu, std::uint64_t key, std::uint32_t* words) {
  cuda::launch(gpu, draw_kernel, 1, 32, 0, key, words);
}
void keep_halves(Gpu& gpu, const Dropout& dropout, const std::uint32_t* words, std::uint32_t* kept) {
  cuda::launch(gpu, keep_kernel, 1, 32, 0, words, dropout, kept);
}
void powers_of_two(Gpu& gpu, int count, const float* x, float* power) {
  cuda::launch(gpu, power_kernel, 1, static_cast<unsigned>(count), 0, count, x, power);
}

}  // namespace moleblend::testing
