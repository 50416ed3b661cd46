#include <algorithm>

#include "kernels/activation/gelu.cuh"
#include "kernels/relation_bias/backward.cuh"

// The distance encoder's backward pass on tensor cores. A block collects the pairs of its share that show their distance into full tiles of
// 64 rows, or 32. Gaussians and hidden layer are computed again and live in shared memory only; the weights' gradients stay in registers
// over all tiles of a block, 16 × 16 pieces shared out to the warps. For the products along rows (hidden layer, its gradient, that of the
// Gaussians) a warp has 16 rows × 32 columns, which is what leaves registers enough for sixteen warps on a multiprocessor.

namespace moleblend::relation {
namespace {

using namespace cuda;

constexpr std::uint32_t kOnes = 0x3F803F80u;  // two bf16

template <int KP, int HP, int Rows>
struct Shape {
  static constexpr int kRows = Rows;
  static constexpr int kColumnWarps = KP >= 32 ? KP / 32 : 1;
  static constexpr int kWarps = kRows / 16 * kColumnWarps, kThreads = 32 * kWarps;
  static constexpr int kColumns = KP / kColumnWarps;  // of a warp
  static constexpr int kPitch = KP + 8, kHeadPitch = HP + 8;
  static constexpr int kHeadPairs = (HP / 2 + kWarps - 1) / kWarps;                // of a warp
  static constexpr int kW1Pieces = ((KP / 16) * (KP / 16) + kWarps - 1) / kWarps;  // 16 × 16, of a warp
  static constexpr int kW2Pieces = ((HP / 16) * (KP / 16) + kWarps - 1) / kWarps;
  static_assert(kW1Pieces <= KP / 16 && (KP / 16) % kW1Pieces == 0, "a warp's pieces of W1 lie in one row of pieces");
};

template <int KP, int HP, int kRows>
struct Tile {
  using S = Shape<KP, HP, kRows>;
  bf16 *w1, *w2;                              // [KP, kPitch], [HP, kPitch]
  bf16* gaussian;                             // [kRows, kPitch]
  bf16 *active, *dhidden;                     // [kRows, kPitch] gelu(h), dh
  bf16* dout;                                 // [kRows, kHeadPitch]
  float *mean, *inverse_sigma, *height, *b1;  // [KP]
  float *mean_sum, *sigma_sum;                // [kRows / 16, KP] over all tiles, by row of warps
  float *db1, *db2;                           // [KP], [HP] over all tiles
  float* du;                                  // [kColumnWarps, kRows]
  ShownPairs<S::kThreads, kRows> shown;
  MOLEBLEND_HD explicit Tile(SharedCut& cut)
      : w1(cut.take<bf16>(KP * S::kPitch)),
        w2(cut.take<bf16>(HP * S::kPitch)),
        gaussian(cut.take<bf16>(kRows * S::kPitch)),
        active(cut.take<bf16>(kRows * S::kPitch)),
        dhidden(cut.take<bf16>(kRows * S::kPitch)),
        dout(cut.take<bf16>(kRows * S::kHeadPitch)),
        mean(cut.take<float>(KP)),
        inverse_sigma(cut.take<float>(KP)),
        height(cut.take<float>(KP)),
        b1(cut.take<float>(KP)),
        mean_sum(cut.take<float>(kRows / 16 * KP)),
        sigma_sum(cut.take<float>(kRows / 16 * KP)),
        db1(cut.take<float>(KP)),
        db2(cut.take<float>(HP)),
        du(cut.take<float>(S::kColumnWarps * kRows)),
        shown(cut) {}
};

/// The sum over the eight rows that a warp's fragment of an accumulator has, on lanes 0 … 3.
__device__ __forceinline__ float column_sum(float x) {
#pragma unroll
  for (int step = 4; step < 32; step *= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}

template <int KP, int HP, int kRows>
__global__ void __launch_bounds__(Shape<KP, HP, kRows>::kThreads, 1) distance_rows(const DistanceBackward a) {
  using S = Shape<KP, HP, kRows>;
  GPU_DYNAMIC_SHARED(memory);
  SharedCut cut(memory);
  Tile<KP, HP, kRows> s(cut);
  auto& shown = s.shown;
  const Input& in = a.in;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int first_row = warp / S::kColumnWarps * 16, first_column = warp % S::kColumnWarps * S::kColumns;
  const auto heads = static_cast<int>(in.heads), kernels = static_cast<int>(in.kernels);

  load_weights<KP, KP>(s.w1, a.e.w1);
  load_weights<HP, KP>(s.w2, a.e.w2);
  for (int k = tid; k < KP; k += S::kThreads) {
    s.mean[k] = a.e.mean[k];
    s.inverse_sigma[k] = a.e.inverse_sigma[k];
    s.height[k] = a.e.height[k];
    s.b1[k] = a.e.b1[k];
  }
  for (int k = tid; k < kRows / 16 * KP; k += S::kThreads) s.mean_sum[k] = s.sigma_sum[k] = 0;
  for (int k = tid; k < KP; k += S::kThreads) s.db1[k] = 0;
  for (int h = tid; h < HP; h += S::kThreads) s.db2[h] = 0;

  // Sums over all tiles.
  float dw1[S::kW1Pieces][2][4] = {}, dw2[S::kW2Pieces][2][4] = {};
  constexpr int kW1Row = KP / 16 / S::kW1Pieces;  // warps along a row of pieces of W1
  const int w1_row = warp / kW1Row * 16, w1_column = warp % kW1Row * S::kW1Pieces * 16;

  shown.start(in);
  while (const int rows = shown.fill(in)) {
    // Gaussians, and the gradient of the output. Rows past the last are finite, with a gradient of zero.
    for (int k = tid; k < kRows * KP / 2; k += S::kThreads) {
      const int row = k / (KP / 2), column = k % (KP / 2) * 2;
      const float u = row < rows ? shown.u[row] : 0.0f;
      float v[2];
#pragma unroll
      for (int one = 0; one < 2; ++one) {
        v[one] = s.height[column + one] * bell<true>((u - s.mean[column + one]) * s.inverse_sigma[column + one]);
      }
      *reinterpret_cast<std::uint32_t*>(s.gaussian + row * S::kPitch + column) = pack_bf16(v[0], v[1]);
    }
#pragma unroll
    for (int q = 0; q < S::kHeadPairs; ++q) {
      const int h = (warp + q * S::kWarps) * 2;
      if (h >= HP) continue;
      float sum[2] = {};
#pragma unroll
      for (int row = lane; row < kRows; row += 32) {
        float v[2] = {};
        if (row < rows) {
          const std::int64_t stride = shown.stride(row);
          const float* from = a.dbias + shown.at[row] + h * stride;
          if (h < heads) v[0] = from[0];
          if (h + 1 < heads) v[1] = from[stride];
        }
        *reinterpret_cast<std::uint32_t*>(s.dout + row * S::kHeadPitch + h) = pack_bf16(v[0], v[1]);
        sum[0] += v[0];
        sum[1] += v[1];
      }
#pragma unroll
      for (int one = 0; one < 2; ++one) {
        sum[one] = warp_sum(sum[one]);
        if (lane == 0) s.db2[h + one] += sum[one];
      }
    }
    __syncthreads();

    std::uint32_t fa[4], fb[4];
    {
      float h[S::kColumns / 8][4] = {};
#pragma unroll 2
      for (int k = 0; k < KP; k += 16) {
        a_rows(fa, s.gaussian, S::kPitch, first_row, k);
#pragma unroll
        for (int n = 0; n < S::kColumns; n += 16) {
          b_rows(fb, s.w1, S::kPitch, first_column + n, k);
          mma_m16n8k16_bf16(h[n / 8], fa, fb[0], fb[1]);
          mma_m16n8k16_bf16(h[n / 8 + 1], fa, fb[2], fb[3]);
        }
      }
      float dactive[S::kColumns / 8][4] = {};
#pragma unroll
      for (int k = 0; k < HP; k += 16) {
        a_rows(fa, s.dout, S::kHeadPitch, first_row, k);
#pragma unroll
        for (int n = 0; n < S::kColumns; n += 16) {
          b_columns(fb, s.w2, S::kPitch, k, first_column + n);
          mma_m16n8k16_bf16(dactive[n / 8], fa, fb[0], fb[1]);
          mma_m16n8k16_bf16(dactive[n / 8 + 1], fa, fb[2], fb[3]);
        }
      }
#pragma unroll
      for (int n = 0; n < S::kColumns / 8; ++n) {
        const int column = first_column + n * 8 + 2 * t;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float active[2], dh[2];
#pragma unroll
          for (int one = 0; one < 2; ++one) {
            const float v = h[n][2 * half + one] + s.b1[column + one];
            active[one] = cuda::gelu<bf16>(v);
            dh[one] = gelu_derivative<bf16>(v) * dactive[n][2 * half + one];
          }
          const int place = (first_row + g + 8 * half) * S::kPitch + column;
          *reinterpret_cast<std::uint32_t*>(s.active + place) = pack_bf16(active[0], active[1]);
          *reinterpret_cast<std::uint32_t*>(s.dhidden + place) = pack_bf16(dh[0], dh[1]);
        }
      }
    }
    __syncthreads();

#pragma unroll
    for (int q = 0; q < S::kW2Pieces; ++q) {
      const int piece = warp * S::kW2Pieces + q;
      if (piece >= (HP / 16) * (KP / 16)) continue;
      const int h = piece / (KP / 16) * 16, column = piece % (KP / 16) * 16;
#pragma unroll 2
      for (int k = 0; k < kRows; k += 16) {
        a_columns(fa, s.dout, S::kHeadPitch, k, h);
        b_columns(fb, s.active, S::kPitch, k, column);
        mma_m16n8k16_bf16(dw2[q][0], fa, fb[0], fb[1]);
        mma_m16n8k16_bf16(dw2[q][1], fa, fb[2], fb[3]);
      }
    }
    if (w1_row < KP) {
      float db1[4] = {};
#pragma unroll 2
      for (int k = 0; k < kRows; k += 16) {
        a_columns(fa, s.dhidden, S::kPitch, k, w1_row);
        if (w1_column == 0) mma_m16n8k16_bf16(db1, fa, kOnes, kOnes);
#pragma unroll
        for (int q = 0; q < S::kW1Pieces; ++q) {
          b_columns(fb, s.gaussian, S::kPitch, k, w1_column + 16 * q);
          mma_m16n8k16_bf16(dw1[q][0], fa, fb[0], fb[1]);
          mma_m16n8k16_bf16(dw1[q][1], fa, fb[2], fb[3]);
        }
      }
      if (w1_column == 0 && t == 0) {
        s.db1[w1_row + g] += db1[0];
        s.db1[w1_row + g + 8] += db1[2];
      }
    }
    float x[S::kColumns / 8][4] = {};  // gradient of the Gaussians
#pragma unroll 2
    for (int k = 0; k < KP; k += 16) {
      a_rows(fa, s.dhidden, S::kPitch, first_row, k);
#pragma unroll
      for (int n = 0; n < S::kColumns; n += 16) {
        b_columns(fb, s.w1, S::kPitch, k, first_column + n);
        mma_m16n8k16_bf16(x[n / 8], fa, fb[0], fb[1]);
        mma_m16n8k16_bf16(x[n / 8 + 1], fa, fb[2], fb[3]);
      }
    }

    // With z = (u − μ)/σ and c = dg g z/σ: dμ = c, dσ = dg g (z² − 1)/σ, du = −Σ c.
    float u[2], du[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half)
      u[half] = first_row + g + 8 * half < rows ? shown.u[first_row + g + 8 * half] : 0.0f;
#pragma unroll
    for (int n = 0; n < S::kColumns / 8; ++n) {
#pragma unroll
      for (int one = 0; one < 2; ++one) {
        const int column = first_column + n * 8 + 2 * t + one;
        const float mean = s.mean[column], inverse_sigma = s.inverse_sigma[column],
                    height = s.height[column] * inverse_sigma;
        float dmean = 0, dsigma = 0;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float z = (u[half] - mean) * inverse_sigma;
          const float w = x[n][2 * half + one] * height * bell<true>(z);
          du[half] -= w * z;
          dmean += w * z;
          dsigma += w * (z * z - 1.0f);
        }
        dmean = column_sum(dmean);
        dsigma = column_sum(dsigma);
        if (g == 0) {
          s.mean_sum[first_row / 16 * KP + column] += dmean;
          s.sigma_sum[first_row / 16 * KP + column] += dsigma;
        }
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      du[half] += __shfl_xor_sync(kFullWarp, du[half], 1);
      du[half] += __shfl_xor_sync(kFullWarp, du[half], 2);
      if (t == 0) s.du[warp % S::kColumnWarps * kRows + first_row + g + 8 * half] = du[half];
    }
    __syncthreads();
    if (tid < rows) {
      float sum = 0;
#pragma unroll
      for (int part = 0; part < S::kColumnWarps; ++part) sum += s.du[part * kRows + tid];
      a.du[shown.pair[tid]] += sum;
    }
    shown.drop(rows);
  }

  const MlpPartial place(in.heads, in.kernels);
  float* const part = a.mlp_parts + blockIdx.x * place.length;
  // A fragment of an accumulator at (row, column) of a matrix [rows, kernels].
  const auto put = [&](float* to, int bound, int row, int column, const float(&v)[4]) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int r = row + g + k / 2 * 8, c = column + 2 * t + k % 2;
      if (r < bound && c < kernels) to[r * kernels + c] = v[k];
    }
  };
  if (w1_row < KP) {
#pragma unroll
    for (int q = 0; q < S::kW1Pieces; ++q) {
#pragma unroll
      for (int n = 0; n < 2; ++n) put(part + place.w1, kernels, w1_row, w1_column + 16 * q + 8 * n, dw1[q][n]);
    }
  }
#pragma unroll
  for (int q = 0; q < S::kW2Pieces; ++q) {
    const int piece = warp * S::kW2Pieces + q;
    if (piece >= (HP / 16) * (KP / 16)) continue;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      put(part + place.w2, heads, piece / (KP / 16) * 16, piece % (KP / 16) * 16 + 8 * n, dw2[q][n]);
    }
  }
  for (int k = tid; k < kernels; k += S::kThreads) part[place.b1 + k] = s.db1[k];
  for (int h = tid; h < heads; h += S::kThreads) part[place.b2 + h] = s.db2[h];
  for (int k = tid; k < 2 * kernels; k += S::kThreads) {
    const float* from = k < kernels ? s.mean_sum + k : s.sigma_sum + k - kernels;
    float sum = 0;
    for (int row = 0; row < kRows / 16; ++row) sum += from[row * KP];
    a.gaussian_parts[std::int64_t{blockIdx.x} * 2 * kernels + k] = sum;
  }
}

}  // namespace

void distance_backward_bf16(Gpu& gpu, const DistanceBackward& a) {
  with_padded_sizes(a.in, [&](auto kernels, auto heads) {
    constexpr int KP = decltype(kernels)::value, HP = decltype(heads)::value;
    const auto with_rows = [&](auto rows) {
      using S = Shape<KP, HP, decltype(rows)::value>;
      SharedCut cut(nullptr);
      Tile<KP, HP, S::kRows> tile(cut);
      if (cut.bytes() > gpu.shared_bytes_of_block()) return false;
      launch(gpu, distance_rows<KP, HP, S::kRows>, dim3(static_cast<unsigned>(distance_blocks(a.in))),
             dim3(S::kThreads), cut.bytes(), a);
      return true;
    };
    // The largest weights leave registers for half as many rows, and so does shared memory where a block has 99 KiB.
    if constexpr (KP < 128 || HP < 64) {
      if (with_rows(std::integral_constant<int, 64>{})) return;
    }
    if constexpr (KP == 128) with_rows(std::integral_constant<int, 32>{});
  });
}

}  // namespace moleblend::relation
