#include <algorithm>

#include "kernels/activation/gelu.cuh"
#include "kernels/relation_bias/encodings.cuh"

// How the work lies on the machine: a block takes 128 neighbouring token pairs at a time, as they lie in the bias, so that each head's values
// are one run (molecules are mostly far smaller than a multiple of anything, so tiles go on over their ends). It looks up SPD and path
// edges into a tile [H, 128] in shared memory, collects the pairs that show their distance, and adds their MLP to the tile, which is
// written once. On tensor cores a warp has 16 of those pairs: their Gaussians are computed where the first product wants them, in registers, and
// so is the hidden layer for the second; only the weights are in shared memory. In float a warp has eight pairs, and lanes the outputs.
// The sums of Gaussians are a kernel of their own, a warp an atom: they need all pairs of an atom, whatever those show.

namespace moleblend {
namespace {

using namespace relation;
using namespace cuda;

constexpr int kTile = 128, kThreads = 128, kWarps = kThreads / 32;
constexpr int kMostHeads = 64;  // that a tile has room for; more take several blocks
constexpr int kBlocksPerMultiprocessor = 4;
constexpr int kTilePitch = kTile + 1;

template <class T>
struct ForwardArgs {
  Input in;
  DeviceEncodings e;
  T* bias;
  float* overflow;  // [blocks, 4, 2, K, 8] if that is too large for shared memory; else null
};

/// The tile's pairs that show their distance, and the bias they add to.
struct DistanceRows {
  int count;                  // of pairs
  const float* u;             // [count, and on to a multiple of 16]
  const std::uint8_t* place;  // [count] in the tile
  float* bias;                // [heads, kTilePitch]
  int first_head, heads;
};

/// K → K → H in bf16 on tensor cores.
template <int KP, int HP>
class TensorMlp {
 public:
  static constexpr int kPitch = KP + 8;
  MOLEBLEND_HD TensorMlp(SharedCut& cut, const Input&, bool) {
    w1_ = cut.take<bf16>(KP * kPitch);
    w2_ = cut.take<bf16>(HP * kPitch);
    vectors_ = cut.take<float>(4 * KP + HP);
  }
  __device__ void load(const Input&, const DeviceEncodings& e, float*) {
    load_weights<KP, KP>(w1_, e.w1);
    load_weights<HP, KP>(w2_, e.w2);
    for (int k = threadIdx.x; k < KP; k += kThreads) {
      vectors_[k] = e.mean[k];
      vectors_[KP + k] = e.inverse_sigma[k];
      vectors_[2 * KP + k] = e.height[k];
      vectors_[3 * KP + k] = e.b1[k];
    }
    for (int h = threadIdx.x; h < HP; h += kThreads) vectors_[4 * KP + h] = e.b2[h];
  }

  __device__ void add(const DistanceRows& rows) const {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int first = threadIdx.x / 32 * 16; first < rows.count; first += 16 * kWarps) {
      const float u[2] = {rows.u[first + g], rows.u[first + g + 8]};
      std::uint32_t gaussian[KP / 16][4];
#pragma unroll
      for (int kk = 0; kk < KP / 16; ++kk) {
#pragma unroll
        for (int part = 0; part < 4; ++part) {
          const int k = kk * 16 + part / 2 * 8 + 2 * t;
          gaussian[kk][part] = pack_bf16(value(u[part % 2], k), value(u[part % 2], k + 1));
        }
      }
      float out[HP / 8][4] = {};
#pragma unroll 1
      for (int n = 0; n < KP; n += 16) {
        float hidden[2][4] = {};
        std::uint32_t f[4];
#pragma unroll
        for (int kk = 0; kk < KP / 16; ++kk) {
          b_rows(f, w1_, kPitch, n, kk * 16);
          mma_m16n8k16_bf16(hidden[0], gaussian[kk], f[0], f[1]);
          mma_m16n8k16_bf16(hidden[1], gaussian[kk], f[2], f[3]);
        }
        std::uint32_t active[4];
#pragma unroll
        for (int part = 0; part < 4; ++part) {
          const float* x = &hidden[part / 2][part % 2 * 2];
          const float* b1 = vectors_ + 3 * KP + n + part / 2 * 8 + 2 * t;
          active[part] = pack_bf16(cuda::gelu<bf16>(x[0] + b1[0]), cuda::gelu<bf16>(x[1] + b1[1]));
        }
#pragma unroll
        for (int hh = 0; hh < HP / 16; ++hh) {
          b_rows(f, w2_, kPitch, hh * 16, n);
          mma_m16n8k16_bf16(out[2 * hh], active, f[0], f[1]);
          mma_m16n8k16_bf16(out[2 * hh + 1], active, f[2], f[3]);
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first + g + 8 * half;
        if (row >= rows.count) continue;
        float* to = rows.bias + rows.place[row];
#pragma unroll
        for (int n = 0; n < HP / 8; ++n) {
#pragma unroll
          for (int one = 0; one < 2; ++one) {
            const int h = n * 8 + 2 * t + one;
            if (h < rows.heads) to[h * kTilePitch] += out[n][2 * half + one] + vectors_[4 * KP + h];
          }
        }
      }
    }
  }

 private:
  __device__ float value(float u, int k) const {
    return vectors_[2 * KP + k] * bell<true>((u - vectors_[k]) * vectors_[KP + k]);
  }
  bf16 *w1_, *w2_;  // [KP, kPitch], [HP, kPitch]
  float* vectors_;  // mean, 1/σ, height, b1 [KP] each; b2 [HP]
};

/// The same in float, for any K and H; also K = 0, where no pair comes.
class FloatMlp {
 public:
  static constexpr int kRows = 8;  // of a warp
  MOLEBLEND_HD FloatMlp(SharedCut& cut, const Input& in, bool in_shared) {
    const std::int64_t values = 2 * kRows * in.kernels;
    buffer_ = in_shared ? cut.take<float>(kWarps * values) : nullptr;
  }
  __device__ void load(const Input& in, const DeviceEncodings& e, float* overflow) {
    kernels_ = static_cast<int>(in.kernels);
    const std::int64_t values = 2 * kRows * in.kernels, warp = threadIdx.x / 32;
    const std::int64_t block = blockIdx.x + std::int64_t{gridDim.x} * blockIdx.y;
    gaussian_ = (overflow ? overflow + block * kWarps * values : buffer_) + warp * values;
    active_ = gaussian_ + kRows * in.kernels;
    e_ = e;
    heads_ = in.heads;
  }

  __device__ void add(const DistanceRows& rows) const {
    const int lane = threadIdx.x % 32;
    for (int first = threadIdx.x / 32 * kRows; first < rows.count; first += kRows * kWarps) {
      for (int k = lane; k < kernels_; k += 32) {
        const float mean = e_.mean[k], inverse_sigma = e_.inverse_sigma[k], height = e_.height[k];
        float v[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) v[r] = height * bell<false>((rows.u[first + r] - mean) * inverse_sigma);
        put(gaussian_, k, v);
      }
      __syncwarp();
      product(kernels_, e_.w1_transposed, kernels_, gaussian_, [&](int k, float(&v)[kRows]) {
        const float b1 = e_.b1[k];
#pragma unroll
        for (int r = 0; r < kRows; ++r) v[r] = cuda::gelu(v[r] + b1);
        put(active_, k, v);
      });
      __syncwarp();
      product(rows.heads, e_.w2_transposed + rows.first_head, heads_, active_, [&](int h, float(&v)[kRows]) {
        const float b2 = e_.b2[rows.first_head + h];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          if (first + r < rows.count) rows.bias[h * kTilePitch + rows.place[first + r]] += v[r] + b2;
        }
      });
      __syncwarp();
    }
  }

 private:
  __device__ static void put(float* x, int k, const float (&v)[kRows]) {
    store<4>(x + k * kRows, {v[0], v[1], v[2], v[3]});
    store<4>(x + k * kRows + 4, {v[4], v[5], v[6], v[7]});
  }
  /// f(o, Σ_k w[k, o] · x[k, r] of the eight rows r) for the lane's outputs o.
  template <class F>
  __device__ void product(int outputs, const float* w, std::int64_t pitch, const float* x, const F& f) const {
    for (int o = threadIdx.x % 32; o < outputs; o += 32) {
      float v[kRows] = {};
#pragma unroll 4
      for (int k = 0; k < kernels_; ++k) {
        const float weight = w[k * pitch + o];
        float a[4], b[4];
        cuda::load<4>(x + k * kRows, a);
        cuda::load<4>(x + k * kRows + 4, b);
#pragma unroll
        for (int r = 0; r < 4; ++r) v[r] += weight * a[r], v[4 + r] += weight * b[r];
      }
      f(o, v);
    }
  }

  float* buffer_;
  float *gaussian_, *active_;  // [K, 8] of the warp
  DeviceEncodings e_;
  int kernels_;
  std::int64_t heads_;
};

/// What a block keeps in shared memory besides its MLP.
struct ForwardTile {
  float* bias;                // [heads, kTilePitch]
  std::int64_t *at, *stride;  // [kTile] head h of a pair is at + h · stride of the bias
  float *weight, *u;          // [kTile] of a hop; of the pairs that show their distance
  int* spd_row;               // [kTile] −1: none; −2: a pair of the graph token
  std::uint16_t* hop;         // [5, kTile] rows of the hop table
  std::uint8_t *hops, *place;
  int* count;  // [kWarps]
  MOLEBLEND_HD ForwardTile(SharedCut& cut, int heads)
      : bias(cut.take<float>(heads * kTilePitch)),
        at(cut.take<std::int64_t>(kTile)),
        stride(cut.take<std::int64_t>(kTile)),
        weight(cut.take<float>(kTile)),
        u(cut.take<float>(kTile)),
        spd_row(cut.take<int>(kTile)),
        hop(cut.take<std::uint16_t>(kPathHops * kTile)),
        hops(cut.take<std::uint8_t>(kTile)),
        place(cut.take<std::uint8_t>(kTile)),
        count(cut.take<int>(kWarps)) {}
};

template <class T, class Mlp>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) forward_pairs(const ForwardArgs<T> a) {
  GPU_DYNAMIC_SHARED(memory);
  const Input& in = a.in;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const auto first_head = static_cast<int>(blockIdx.y) * kMostHeads;
  const int heads = min(static_cast<int>(in.heads) - first_head, kMostHeads);
  SharedCut cut(memory);
  const ForwardTile s(cut, heads);
  Mlp mlp(cut, in, !a.overflow);
  mlp.load(in, a.e, a.overflow);

  const std::int64_t* offset = in.packed.token_pair_offset;
  const std::int64_t pairs = in.packed.token_pairs();
  const Share tiles = share_of((pairs + kTile - 1) / kTile, blockIdx.x, gridDim.x);
  std::int64_t at = tiles.begin * kTile + tid;
  std::int64_t b = at < pairs ? molecule_of(offset, in.packed.molecules, at) : 0;
  for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile, at += kTile) {
    const auto size = static_cast<int>(min(pairs - tile * kTile, std::int64_t{kTile}));
    // A thread has a token pair.
    bool shows_distance = false;
    float u = 0;
    if (at < pairs) {
      while (offset[b + 1] <= at) ++b;
      const std::int64_t n = in.packed.atoms_of(b), tokens = n + 1, local = at - offset[b];
      const std::int64_t row = quotient(local, tokens), column = local - row * tokens;
      s.at[tid] = in.heads * offset[b] + local;
      s.stride[tid] = tokens * tokens;
      if (row == 0 || column == 0) {
        s.spd_row[tid] = -2;
      } else {
        const std::int64_t pair = in.packed.pair_offset[b] + (row - 1) * n + column - 1;
        const LookUp shown = look_up(in, pair);
        s.spd_row[tid] = shown.spd_row;
        s.hops[tid] = static_cast<std::uint8_t>(shown.hops);
        s.weight[tid] = shown.weight;
        for (int d = 0; d < shown.hops; ++d) {
          s.hop[d * kTile + tid] = static_cast<std::uint16_t>(d * kHopRows + in.path[pair * kPathHops + d]);
        }
        shows_distance = a.e.mean && (in.pair_visible[pair] & kShowDistance);
        if (shows_distance) {
          const std::int64_t first = in.packed.atom_offset[b] - 1;
          u = argument(in, first + row, first + column).u;
        }
      }
    }
    const unsigned showing = __ballot_sync(kFullWarp, shows_distance);
    if (lane == 0) s.count[warp] = __popc(showing);
    __syncthreads();

    int before = 0, count = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      before += w < warp ? s.count[w] : 0;
      count += s.count[w];
    }
    if (shows_distance) {
      const int place = before + __popc(showing & ((1u << lane) - 1));
      s.u[place] = u;
      s.place[place] = static_cast<std::uint8_t>(tid);
    }
    // Rows of tensor-core tiles past the last pair compute something finite, of which nothing is kept.
    if (tid >= count && tid < (count + 15) / 16 * 16) s.u[tid] = 0;
    // Lanes have neighbouring heads: rows of the tables are read as they lie.
    const int step_pair = kThreads / heads, step_head = kThreads % heads;
    for (int p = tid / heads, h = tid % heads; p < size;) {
      const int spd_row = s.spd_row[p];
      float value = 0;
      if (spd_row == -2) {
        value = in.tables.graph_token[first_head + h];
      } else {
        if (spd_row >= 0) value = in.tables.spd_table[spd_row * in.heads + first_head + h];
        if (const int hops = s.hops[p]; hops > 0) {
          const float weight = s.weight[p];
          for (int d = 0; d < hops; ++d) value += weight * a.e.hop[s.hop[d * kTile + p] * in.heads + first_head + h];
        }
      }
      s.bias[h * kTilePitch + p] = value;
      p += step_pair, h += step_head;
      if (h >= heads) h -= heads, ++p;
    }
    __syncthreads();

    mlp.add({count, s.u, s.place, s.bias, first_head, heads});
    __syncthreads();

    for (int h = warp; h < heads; h += kWarps) {
#pragma unroll
      for (int p = lane; p < kTile; p += 32) {
        if (p < size) a.bias[s.at[p] + (first_head + h) * s.stride[p]] = store_as<T>(s.bias[h * kTilePitch + p]);
      }
    }
    __syncthreads();
  }
}

constexpr int kSumThreads = 256;

/// gaussian_sum, a warp an atom; lane l has the Gaussians l, l + 32, … of C · 32.
template <class T, int C>
__global__ void __launch_bounds__(kSumThreads) gaussian_sums(const Input in, const DeviceEncodings e, T* sum) {
  const std::int64_t token = std::int64_t{blockIdx.x} * (kSumThreads / 32) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (token >= in.packed.tokens()) return;
  const AtomToken self = atom_token(in.packed, token);
  if (self.atom < 0) return;
  const std::int64_t first = in.packed.atom_offset[self.molecule], end = in.packed.atom_offset[self.molecule + 1];
  const bool shows = in.atom_visible[self.atom] & kShowGaussians;
  for (std::int64_t k0 = lane; k0 - lane < in.kernels; k0 += 32 * C) {
    float mean[C], inverse_sigma[C], total[C];
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const std::int64_t k = k0 + 32 * c;
      mean[c] = k < in.kernels ? e.mean[k] : 0.0f;
      inverse_sigma[c] = k < in.kernels ? e.inverse_sigma[k] : 0.0f;
      total[c] = 0;
    }
    for (std::int64_t j0 = first; shows && j0 < end; j0 += 32) {
      const auto count = static_cast<int>(min(end - j0, std::int64_t{32}));
      const float own = lane < count ? argument(in, self.atom, j0 + lane).u : 0.0f;
      for (int q = 0; q < count; ++q) {
        const float u = __shfl_sync(kFullWarp, own, q);
#pragma unroll
        for (int c = 0; c < C; ++c) total[c] += bell<sizeof(T) == 2>((u - mean[c]) * inverse_sigma[c]);
      }
    }
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const std::int64_t k = k0 + 32 * c;
      if (k < in.kernels) sum[self.atom * in.kernels + k] = store_as<T>(e.height[k] * total[c]);
    }
  }
}

template <class T>
void sum_gaussians(Gpu& gpu, const Input& in, const DeviceEncodings& e, T* sum) {
  auto* const kernel = in.kernels > 64   ? gaussian_sums<T, 4>
                       : in.kernels > 32 ? gaussian_sums<T, 2>
                                         : gaussian_sums<T, 1>;
  launch(gpu, kernel, dim3(blocks_for(in.packed.tokens(), kSumThreads / 32)), dim3(kSumThreads), 0, in, e, sum);
}

struct ForwardPlan {
  unsigned blocks, chunks;
  std::size_t shared;
  bool overflows;
};

template <class Mlp>
ForwardPlan plan(Gpu& gpu, const Input& in) {
  constexpr std::size_t kMostShared = 96 * 1024;
  ForwardPlan p{};
  p.chunks = blocks_for(in.heads, kMostHeads);
  p.blocks = static_cast<unsigned>(std::min<std::int64_t>(
      std::int64_t{kBlocksPerMultiprocessor} * gpu.multiprocessors(), (in.packed.token_pairs() + kTile - 1) / kTile));
  for (const bool in_shared : {true, false}) {
    SharedCut cut(nullptr);
    ForwardTile(cut, static_cast<int>(std::min<std::int64_t>(in.heads, kMostHeads)));
    Mlp(cut, in, in_shared);
    p.shared = cut.bytes();
    p.overflows = !in_shared;
    if (p.shared <= kMostShared) break;
  }
  return p;
}

template <class Mlp, class T>
void run(Gpu& gpu, const RelationBiasForward<T>& a, bool tensor_cores) {
  const Input in = input_of(a.in);
  const ForwardPlan p = plan<Mlp>(gpu, in);
  const auto carve = [&](Carver& carver) {
    ForwardArgs<T> args{in, DeviceEncodings::carve(carver, in, tensor_cores), a.bias, nullptr};
    if (p.overflows) {
      args.overflow = carver.take<float>(std::int64_t{p.blocks} * p.chunks * kWarps * 2 * FloatMlp::kRows * in.kernels);
    }
    return args;
  };
  Carver count;
  carve(count);
  Carver scratch(gpu.scratch(count.bytes()));
  const ForwardArgs<T> args = carve(scratch);
  build_encodings(gpu, in, args.e);
  launch(gpu, forward_pairs<T, Mlp>, dim3(p.blocks, p.chunks), dim3(kThreads), p.shared, args);
  if (!a.gaussian_sum || in.kernels == 0) return;
  if (has_distances(in)) {
    sum_gaussians(gpu, in, args.e, a.gaussian_sum);
  } else {
    gpu.zero(a.gaussian_sum, in.packed.atoms() * in.kernels);
  }
}

}  // namespace

template <class T>
void relation_bias_forward(Gpu& gpu, const RelationBiasForward<T>& a) {
  if constexpr (sizeof(T) == 2) {
    const Input in = input_of(a.in);
    if (on_tensor_cores<T>(in)) {
      return with_padded_sizes(in, [&](auto kernels, auto heads) {
        run<TensorMlp<decltype(kernels)::value, decltype(heads)::value>>(gpu, a, true);
      });
    }
  }
  run<FloatMlp>(gpu, a, false);
}

template void relation_bias_forward(Gpu&, const RelationBiasForward<float>&);
template void relation_bias_forward(Gpu&, const RelationBiasForward<bf16>&);

}  // namespace moleblend
