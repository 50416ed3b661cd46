// Attention in bf16 of molecules with up to 24 tokens, which most are: a warp has a head, whole. What a lane holds says attention_lanes.cuh; here
// everything comes in octets, of rows and of columns, two (up to 16 tokens) or three: three times three are little more than half of the
// four 16 × 16 tiles that 17 tokens would be otherwise.
//
// Scores s[r][c] of row octet r and column octet c are two values a lane: row 8r + g, columns column_of_lane(c) and the next. mma computes
// two row octets at once, of which the third has none beside it.

#include "kernels/attention/attention_lanes.cuh"

namespace moleblend::attention_gpu {
namespace {

template <int Octets>
constexpr int kPairs = (Octets + 1) / 2;  // of row octets

/// [pair][c][e]: row octet 2 pair + e / 2, value e % 2; what mma's accumulators are.
template <int Octets, int Columns = Octets>
using Values = float[kPairs<Octets>][Columns][4];
/// [r][c]: what values become as operands of mma, two in a word.
template <int Octets>
using Operand = std::uint32_t[Octets][Octets];

/// The key that is row r of column octet c.
__device__ __forceinline__ int key_of(int c, int r) {
  return c < 2 ? column_of(c, r) : 8 * c + r;
}
/// The first of this lane's two columns of octet c.
__device__ __forceinline__ int column_of_lane(int c) {
  return c < 2 ? 4 * lane_quarter() + 2 * c : 8 * c + 2 * lane_quarter();
}
/// Row octets in their order, and in that of column octets.
template <int P, int Octets>
__device__ __forceinline__ void load_rows(Rows<P> (&x)[Octets], const bf16* from, int pitch, int n, int width) {
#pragma unroll
  for (int r = 0; r < Octets; ++r) x[r] = load_row<P>(from, pitch, 8 * r + lane_row(), n, width);
}
template <int P, int Octets>
__device__ __forceinline__ void load_columns(Rows<P> (&x)[Octets], const bf16* from, int pitch, int n, int width) {
#pragma unroll
  for (int c = 0; c < Octets; ++c) x[c] = load_row<P>(from, pitch, key_of(c, lane_row()), n, width);
}
template <int P, int Octets>
__device__ __forceinline__ void store_rows(bf16* to, int pitch, int n, int width, const Values<Octets, P / 8>& d,
                                           float factor) {
#pragma unroll
  for (int r = 0; r < Octets; ++r) store_row<P>(to, pitch, 8 * r + lane_row(), n, width, d[r / 2], r % 2 * 2, factor);
}
template <int P, int Octets>
__device__ __forceinline__ void store_columns(bf16* to, int pitch, int n, int width, const Values<Octets, P / 8>& d,
                                              float factor) {
#pragma unroll
  for (int c = 0; c < Octets; ++c)
    store_row<P>(to, pitch, key_of(c, lane_row()), n, width, d[c / 2], c % 2 * 2, factor);
}

/// s += a · bᵀ, over columns.
template <int P, int Octets>
__device__ __forceinline__ void add_products_of_rows(Values<Octets>& s, const Rows<P> (&a)[Octets],
                                                     const Rows<P> (&b)[Octets]) {
#pragma unroll
  for (int w = 0; w < P / 8; w += 2) {
#pragma unroll
    for (int r = 0; r < Octets; r += 2) {
      const bool two = r + 1 < Octets;
      const std::uint32_t fragment[4] = {a[r].word[w], two ? a[two ? r + 1 : r].word[w] : 0, a[r].word[w + 1],
                                         two ? a[two ? r + 1 : r].word[w + 1] : 0};
#pragma unroll
      for (int c = 0; c < Octets; ++c) mma_m16n8k16_bf16(s[r / 2][c], fragment, b[c].word[w], b[c].word[w + 1]);
    }
  }
}
/// d += x · y, over rows of y, which are x's columns.
template <int P, int Octets>
__device__ __forceinline__ void add_product(Values<Octets, P / 8>& d, const Operand<Octets>& x,
                                            const Rows<P> (&y)[Octets]) {
#pragma unroll
  for (int k = 0; k < Octets; k += 2) {
    const bool two_columns = k + 1 < Octets;
    const int k1 = two_columns ? k + 1 : k;
#pragma unroll
    for (int w = 0; w < P / 8; ++w) {
      const std::uint32_t y0 = transpose_8x8(y[k].word[w]), y1 = two_columns ? transpose_8x8(y[k1].word[w]) : 0;
#pragma unroll
      for (int r = 0; r < Octets; r += 2) {
        const bool two_rows = r + 1 < Octets;
        const int r1 = two_rows ? r + 1 : r;
        const std::uint32_t fragment[4] = {x[r][k], two_rows ? x[r1][k] : 0, two_columns ? x[r][k1] : 0,
                                           two_rows && two_columns ? x[r1][k1] : 0};
        mma_m16n8k16_bf16(d[r / 2][w], fragment, y0, y1);
      }
    }
  }
}
template <int Octets>
__device__ __forceinline__ void as_operand(Operand<Octets>& x, const Values<Octets>& s) {
#pragma unroll
  for (int r = 0; r < Octets; ++r)
#pragma unroll
    for (int c = 0; c < Octets; ++c) x[r][c] = pack_bf16(s[r / 2][c][r % 2 * 2], s[r / 2][c][r % 2 * 2 + 1]);
}
template <int Octets>
__device__ __forceinline__ void transpose(Operand<Octets>& to, const Operand<Octets>& x) {
#pragma unroll
  for (int r = 0; r < Octets; ++r)
#pragma unroll
    for (int c = 0; c < Octets; ++c) to[c][r] = transpose_8x8(x[r][c]);
}

/// f(r, c, k, value) for all values of a lane.
template <int Octets, class F>
__device__ __forceinline__ void for_each_value(Values<Octets>& s, const F& f) {
#pragma unroll
  for (int r = 0; r < Octets; ++r)
#pragma unroll
    for (int c = 0; c < Octets; ++c)
#pragma unroll
      for (int k = 0; k < 2; ++k) f(r, c, k, s[r / 2][c][r % 2 * 2 + k]);
}

/// Which values dropout keeps: word[r][c] has the draws of both.
template <int Octets>
struct Draws {
  std::uint32_t word[Octets][Octets];
  std::uint32_t threshold;

  __device__ __forceinline__ explicit Draws(const HeadDraws& draws) : word{}, threshold(draws.threshold) {
    static_assert(Octets == 2 || Octets == 3);
    if (!draws.active) return;
    const int g = lane_row(), t = lane_quarter();
    const bool odd = t % 2 != 0;
    // The square of 16: each lane draws for one of its two rows, as in attention_lanes.cuh. Row octet 2 is drawn twice, by both of a pair;
    // column octet 2 by lane t for row octet t, each of which keeps a word of each.
    constexpr int kDraws = Octets == 2 ? 1 : 3;
    std::uint32_t block[kDraws];
    Draw purpose[kDraws];
    PhiloxWords drawn[kDraws];
    block[0] = draws.block(g + (odd ? 8 : 0), t / 2);
    if constexpr (Octets == 3) {
      block[1] = draws.block(16 + g, t / 2);
      block[2] = draws.block(8 * min(t, 2) + g, 2);
    }
#pragma unroll
    for (int k = 0; k < kDraws; ++k) purpose[k] = Draw::attention_dropout;
    philox_words(draws.key, block, purpose, draws.layer, drawn);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const std::uint32_t lower = drawn[0].word[c], upper = drawn[0].word[2 + c];
      const std::uint32_t got = __shfl_xor_sync(kFullWarp, odd ? lower : upper, 1);
      word[0][c] = odd ? got : lower;
      word[1][c] = odd ? upper : got;
    }
    if constexpr (Octets == 3) {
#pragma unroll
      for (int c = 0; c < 2; ++c) word[2][c] = odd ? drawn[1].word[2 + c] : drawn[1].word[c];
      std::uint32_t(&w)[4] = drawn[2].word;
#pragma unroll
      for (int step = 2; step > 0; step /= 2) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (k & step) continue;
          const bool upper = t & step;
          const std::uint32_t got = __shfl_xor_sync(kFullWarp, upper ? w[k] : w[k + step], step);
          w[k] = upper ? got : w[k];
          w[k + step] = upper ? w[k + step] : got;
        }
      }
#pragma unroll
      for (int r = 0; r < 3; ++r) word[r][2] = w[r];
    }
  }
  __device__ __forceinline__ bool keeps(int r, int c, int k) const {
    return cuda::keeps(word[r][c], k, threshold);
  }
};

/// Of a lane's values, what a [n, n] array of the head has; zero outside.
template <int Octets>
struct Bias {
  bf16 value[Octets][Octets][2];

  __device__ __forceinline__ explicit Bias(const TensorHead& head) {
#pragma unroll
    for (int r = 0; r < Octets; ++r) {
      const int i = 8 * r + lane_row();
      const bool biased = head.bias && i < head.n;
#pragma unroll
      for (int c = 0; c < Octets; ++c) {
        const int j = column_of_lane(c);
        const bf16* at = head.bias + (i * head.n + j);
#pragma unroll
        for (int k = 0; k < 2; ++k) value[r][c][k] = biased && j + k < head.n ? at[k] : bf16{0};
      }
    }
  }
};
/// Values of a head to `tile`, as its [n, n] lie.
template <int Octets>
__device__ __forceinline__ void to_run(float* tile, const Values<Octets>& x, int n) {
#pragma unroll
  for (int r = 0; r < Octets; ++r)
#pragma unroll
    for (int c = 0; c < Octets; ++c)
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int i = 8 * r + lane_row(), j = column_of_lane(c) + k;
        if (i < n && j < n) tile[i * n + j] = x[r / 2][c][r % 2 * 2 + k];
      }
}

/// Products to scores, in place, and the largest of each row.
template <int Octets>
__device__ __forceinline__ void to_scores(Values<Octets>& s, float (&largest)[Octets], const TensorHead& head,
                                          const Bias<Octets>& bias) {
#pragma unroll
  for (float& x : largest) x = -std::numeric_limits<float>::infinity();
  for_each_value<Octets>(s, [&](int r, int c, int k, float& x) {
    x = score(x, head.scale, bias.value[r][c][k], column_of_lane(c) + k, head.n);
    largest[r] = fmaxf(largest[r], x);
  });
#pragma unroll
  for (float& x : largest) x = quad_max(x);
}

// Blocks of a multiprocessor that registers are divided among: as many as leave enough of them (the compiler's report shows no spills).
template <int P, int Octets>
struct BlocksOfMultiprocessor {
  enum : int {
    forward = P <= 32 ? (Octets == 2 ? 6 : 4) : (Octets == 2 ? 4 : 3),
    backward = P <= 32 ? (Octets == 2 ? 5 : 3) : (Octets == 2 ? 4 : 2)
  };
};

template <int P, int Octets>
__global__ void __launch_bounds__(32 * kWarps, BlocksOfMultiprocessor<P, Octets>::forward)
    forward_small_kernel(const AttentionForward<bf16> a, const SizeClass molecules, int head_width) {
  const std::int64_t rank = rank_of_block();
  const int h = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32);
  if (rank >= molecules.count || h >= a.in.heads) return;
  const TensorHead head(a.in, molecules.first + rank, h, head_width);
  const int n = head.n, pitch = head.pitch, width = head.width;
  Rows<P> q[Octets], k[Octets], v[Octets];
  load_rows<P>(q, head.q, pitch, n, width);
  load_columns<P>(k, head.k, pitch, n, width);
  load_columns<P>(v, head.v, pitch, n, width);
  const Bias<Octets> bias(head);
  const Draws<Octets> draws(head.draws);

  Values<Octets> s = {};
  add_products_of_rows<P, Octets>(s, q, k);
  float largest[Octets], sum[Octets] = {};
  to_scores<Octets>(s, largest, head, bias);
  for_each_value<Octets>(s, [&](int r, int c, int e, float& x) {
    const float p = exp_from(x, largest[r] * kLog2E);
    sum[r] += p;
    x = draws.keeps(r, c, e) ? p : 0.0f;
  });
  Operand<Octets> p;
  as_operand<Octets>(p, s);
  Values<Octets, P / 8> out = {};
  add_product<P, Octets>(out, p, v);
  bf16* to = a.out + head.token * a.in.width + head.column;
#pragma unroll
  for (int r = 0; r < Octets; ++r) {
    const float factor = __fdividef(head.draws.scale, quad_sum(sum[r]));  // a sum of at least 1, or NaN
    store_row<P>(to, static_cast<int>(a.in.width), 8 * r + lane_row(), n, width, out[r / 2], r % 2 * 2, factor);
  }
}

template <int P, int Octets>
__global__ void __launch_bounds__(32 * kWarps, BlocksOfMultiprocessor<P, Octets>::backward)
    backward_small_kernel(const AttentionBackward<bf16> a, const SizeClass molecules, int head_width) {
  constexpr int kMost = 64 * Octets * Octets;  // scores of a head
  GPU_SHARED(float, tiles, [kWarps][kMost]);
  const std::int64_t rank = rank_of_block();
  const int h = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32);
  if (rank >= molecules.count || h >= a.in.heads) return;
  const TensorHead head(a.in, molecules.first + rank, h, head_width);
  const int n = head.n, pitch = head.pitch, width = head.width;
  Rows<P> q[Octets], k[Octets], v[Octets], dout[Octets];
  load_rows<P>(q, head.q, pitch, n, width);
  load_columns<P>(k, head.k, pitch, n, width);
  load_rows<P>(dout, a.dout + head.token * a.in.width + head.column, static_cast<int>(a.in.width), n, width);
  load_columns<P>(v, head.v, pitch, n, width);
  const Bias<Octets> bias(head);
  const Draws<Octets> draws(head.draws);

  Values<Octets> s = {}, dp = {};
  add_products_of_rows<P, Octets>(s, q, k);
  add_products_of_rows<P, Octets>(dp, dout, v);
  float largest[Octets], sum[Octets] = {}, delta[Octets] = {};
  to_scores<Octets>(s, largest, head, bias);
  for_each_value<Octets>(s, [&](int r, int c, int e, float& x) {
    float& gradient = dp[r / 2][c][r % 2 * 2 + e];
    x = exp_from(x, largest[r] * kLog2E);
    gradient = draws.keeps(r, c, e) ? gradient * head.draws.scale : 0.0f;
    sum[r] += x;
    delta[r] += x * gradient;
  });
  float inverse[Octets];
#pragma unroll
  for (int r = 0; r < Octets; ++r) {
    inverse[r] = __fdividef(1.0f, quad_sum(sum[r]));
    delta[r] = quad_sum(delta[r]) * inverse[r];
  }
  const RunOfSums<kMost> bias_gradient(a.dbias ? a.dbias + head.bias_at : nullptr, n * n);
  for_each_value<Octets>(s, [&](int r, int c, int e, float& x) {
    float& gradient = dp[r / 2][c][r % 2 * 2 + e];
    const float p = x * inverse[r];
    gradient = p * (gradient - delta[r]);
    x = draws.keeps(r, c, e) ? p * head.draws.scale : 0.0f;
  });
  if (a.dbias) {
    to_run<Octets>(tiles[threadIdx.x / 32], dp, n);
    bias_gradient.add(tiles[threadIdx.x / 32]);
  }

  bf16* dqkv = a.dqkv + head.token * pitch + head.column;
  Operand<Octets> x, transposed;
  as_operand<Octets>(x, s);
  transpose<Octets>(transposed, x);
  {
    Values<Octets, P / 8> dv = {};
    add_product<P, Octets>(dv, transposed, dout);
    store_columns<P, Octets>(dqkv + 2 * a.in.width, pitch, n, width, dv, 1.0f);
  }
  as_operand<Octets>(x, dp);
  {
    Values<Octets, P / 8> dq = {};
    add_product<P, Octets>(dq, x, k);
    store_rows<P, Octets>(dqkv, pitch, n, width, dq, head.scale);
  }
  transpose<Octets>(transposed, x);
  Values<Octets, P / 8> dk = {};
  add_product<P, Octets>(dk, transposed, q);
  store_columns<P, Octets>(dqkv + a.in.width, pitch, n, width, dk, head.scale);
}

/// f(P, octets): the variant for a head width and a class.
template <class F>
void with_variant(int head_width, std::int64_t tokens, const F& f) {
  const auto with_octets = [&](auto padded) {
    tokens <= 16 ? f(padded, std::integral_constant<int, 2>()) : f(padded, std::integral_constant<int, 3>());
  };
  if (head_width <= 16) return with_octets(std::integral_constant<int, 16>());
  if (head_width <= 32) return with_octets(std::integral_constant<int, 32>());
  with_octets(std::integral_constant<int, 64>());
}

}  // namespace

void forward_small(Gpu& gpu, const AttentionForward<bf16>& a, const SizeClass& molecules) {
  with_variant(head_width_of(a.in), molecules.tokens, [&](auto p, auto octets) {
    launch(gpu, forward_small_kernel<p(), octets()>, heads_grid(molecules, a.in.heads, kWarps), dim3(32 * kWarps), 0, a,
           molecules, head_width_of(a.in));
  });
}

void backward_small(Gpu& gpu, const AttentionBackward<bf16>& a, const SizeClass& molecules) {
  with_variant(head_width_of(a.in), molecules.tokens, [&](auto p, auto octets) {
    launch(gpu, backward_small_kernel<p(), octets()>, heads_grid(molecules, a.in.heads, kWarps), dim3(32 * kWarps), 0,
           a, molecules, head_width_of(a.in));
  });
}

}  // namespace moleblend::attention_gpu
