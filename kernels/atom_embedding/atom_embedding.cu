#include "kernels/atom_embedding/atom_embedding.h"
#include "kernels/atom_embedding/rows.cuh"
#include "kernels/common/cuda/cuda.cuh"

// How the work lies on the machine: forward cuts the columns into slices of 256 (eight a lane), so that the table rows in use, some
// forty of them in a batch of molecules, stay in the first-level cache: an atom reads eleven of them, and from the second level that would
// be twenty times what the result takes to write. A warp walks over tokens. Copies between atoms and tokens take a warp a row.

namespace moleblend {
namespace {

using namespace cuda;

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kTokensPerWarp = 8;

template <int N>
__device__ __forceinline__ void add_row(const float* row, float scale, float (&x)[N]) {
  float v[N];
  load<N>(row, v);
#pragma unroll
  for (int k = 0; k < N; ++k) x[k] += scale * v[k];
}

/// N columns a lane.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) embed(const AtomEmbeddingForward<T> a) {
  const std::int64_t column = (std::int64_t{blockIdx.y} * 32 + threadIdx.x % 32) * N, width = a.width;
  if (column >= width) return;
  const std::int64_t first = std::int64_t{blockIdx.x} * kWarps * kTokensPerWarp + threadIdx.x / 32;
  for (int k = 0; k < kTokensPerWarp; ++k) {
    const std::int64_t token = first + k * kWarps;
    if (token >= a.packed.tokens()) return;
    const std::int64_t atom = atom_of_token(a.packed, token);
    float x[N] = {};
    if (atom < 0) {
      load<N>(a.graph_token + column, x);
    } else {
      const std::uint16_t* codes = a.atom_codes + atom * kAtomFeatures;
#pragma unroll
      for (int f = 0; f < kAtomFeatures; ++f)
        add_row<N>(a.atom_table + (codes[f] + kAtomFeatureRows * f + 2) * width + column, 1.0f, x);
      const std::uint8_t visible = a.atom_visible[atom];
      if (visible & kShowDegree) {
        const std::int64_t row = degree_row(a.degree[atom]) * width + column;
        float in[N];
        load<N>(a.in_degree_table + row, in);
        add_row<N>(a.out_degree_table + row, 1.0f, in);
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] += in[i];
      }
      if (visible & kShowGaussians) {
        float term[N];
        load<N>(a.gaussian_term + atom * width + column, term);
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] += static_cast<float>(kGaussianTermScale) * term[i];
      }
    }
    store<N>(a.x + token * width + column, x);
  }
}

/// A warp a token: `tokens` row from or to `atoms` row. N values at a time.
template <class T, int N, bool kScatter>
__global__ void __launch_bounds__(kThreads) copy_atoms(const Packed packed, std::int64_t width, const T* from, T* to) {
  const std::int64_t token = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (token >= packed.tokens()) return;
  const std::int64_t atom = atom_of_token(packed, token);
  if (!kScatter && atom < 0) return;
  const T* const source = from + (kScatter ? atom : token) * width;
  T* const target = to + (kScatter ? token : atom) * width;
  for (std::int64_t column = threadIdx.x % 32 * N; column < width; column += 32 * N) {
    Piece<N, T> piece{};
    if (atom >= 0) piece = *reinterpret_cast<const Piece<N, T>*>(source + column);
    *reinterpret_cast<Piece<N, T>*>(target + column) = piece;
  }
}

template <bool kScatter, class T>
void copy(Gpu& gpu, const Packed& packed, std::int64_t width, const T* from, T* to) {
  constexpr int kSixteenBytes = 16 / sizeof(T);
  const auto kernel = width % kSixteenBytes == 0 ? copy_atoms<T, kSixteenBytes, kScatter> : copy_atoms<T, 1, kScatter>;
  launch(gpu, kernel, blocks_for(packed.tokens(), kWarps), kThreads, 0, packed, width, from, to);
}

}  // namespace

template <class T>
void atom_embedding_forward(Gpu& gpu, const AtomEmbeddingForward<T>& a) {
  const unsigned blocks = blocks_for(a.packed.tokens(), kWarps * kTokensPerWarp);
  if (a.width % 8 == 0) {
    launch(gpu, embed<T, 8>, dim3(blocks, blocks_for(a.width, 256)), kThreads, 0, a);
  } else {
    launch(gpu, embed<T, 1>, dim3(blocks, blocks_for(a.width, 32)), kThreads, 0, a);
  }
}

template <class T>
void gather_atoms(Gpu& gpu, const Packed& packed, std::int64_t width, const T* x, T* atoms) {
  copy<false>(gpu, packed, width, x, atoms);
}

template <class T>
void scatter_atoms(Gpu& gpu, const Packed& packed, std::int64_t width, const T* datoms, T* dx) {
  copy<true>(gpu, packed, width, datoms, dx);
}

template void atom_embedding_forward(Gpu&, const AtomEmbeddingForward<float>&);
template void atom_embedding_forward(Gpu&, const AtomEmbeddingForward<bf16>&);
template void gather_atoms(Gpu&, const Packed&, std::int64_t, const float*, float*);
template void gather_atoms(Gpu&, const Packed&, std::int64_t, const bf16*, bf16*);
template void scatter_atoms(Gpu&, const Packed&, std::int64_t, const float*, float*);
template void scatter_atoms(Gpu&, const Packed&, std::int64_t, const bf16*, bf16*);

}  // namespace moleblend
