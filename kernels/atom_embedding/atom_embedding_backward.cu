#include <algorithm>

#include "kernels/atom_embedding/atom_embedding.h"
#include "kernels/atom_embedding/rows.cuh"
#include "kernels/common/carve.h"
#include "kernels/common/cuda/cuda.cuh"

// Gradients of the tables: for every table row the sum of dx over the tokens that used it, in a fixed order and without a float atomic.
// A counting sort on the device lists those tokens, then blocks add up:
//
//   1. count    chunks of tokens × table rows: how many tokens of the chunk use the row
//   2. prefix   over the chunks, for each table row
//   3. plan     one block: where each row's list begins, and the lists cut into segments
//   4. place    the tokens into the lists, in order (the same walk as count)
//   5. sum      a segment's tokens, 256 columns a block: into the table where the list is one segment, else a partial sum
//   6. finish   adds the partial sums of a list in order
//
// Steps 1 to 4 are small integer work. Step 5 reads dx ten times, once a feature, out of the second-level cache: that is what the
// operation takes (15,000 atoms, width 768, bf16: 230 MB). Few rows are in use, so nothing but the counts is as large as the tables.

namespace moleblend {
namespace {

using namespace cuda;

// Lists, called keys: key 512 f + c for feature f with category c, then the degree rows, then the graph token.
constexpr int kDegreeKeys = kAtomFeatures * kAtomFeatureRows;
constexpr int kGraphKey = kDegreeKeys + kAtomFeatureRows;
constexpr int kKeys = kGraphKey + 1;
// What a token may be listed for: nine features, degree, graph token. A warp each, so that no two warps meet at a key.
constexpr int kKinds = kAtomFeatures + 2;
constexpr std::int64_t kMostChunks = 64, kLeastChunk = 256;
constexpr std::int64_t kMostSegments = 256, kLeastSegment = 256;  // of a list; tokens of a segment

/// Tokens of one list that a block sums.
struct Segment {
  std::int64_t first;  // in the array of lists
  std::int32_t count;  // tokens
  std::int32_t key;
  std::int32_t slot;       // of the partial sum; −1: the list has this segment only
  std::int32_t following;  // further segments of the list, for its first segment; else 0
};

struct Lists {
  std::int64_t chunks, chunk_tokens, segment_tokens, most_segments, most_slots;
  std::int32_t* counts;         // [chunks, keys]; after `prefix`: of the chunks before
  std::int32_t* total;          // [keys]
  std::int64_t* first;          // [keys] where the list begins
  std::int32_t* tokens;         // all lists
  Segment* segments;            // [most_segments]
  std::int32_t* segment_count;  // [1]
  float* partial;               // [most_slots, D]
};

Lists carve(Carver& carver, std::int64_t tokens, std::int64_t width) {
  Lists l;
  // Whole warps of tokens, so that none of them is cut by a chunk's end.
  l.chunk_tokens = std::max(kLeastChunk, ((tokens + kMostChunks - 1) / kMostChunks + 31) / 32 * 32);
  l.chunks = (tokens + l.chunk_tokens - 1) / l.chunk_tokens;
  l.segment_tokens = std::max(kLeastSegment, (tokens + kMostSegments - 1) / kMostSegments);
  // An atom is in ten lists. A list has one unfinished segment at most, and at least half of the tokens that its segments could hold if it
  // has more than one.
  const std::int64_t listed = (kAtomFeatures + 1) * tokens;
  l.most_segments = listed / l.segment_tokens + std::min<std::int64_t>(kKeys, listed);
  l.most_slots = 2 * (listed / l.segment_tokens) + 1;
  l.counts = carver.take<std::int32_t>(l.chunks * kKeys);
  l.total = carver.take<std::int32_t>(kKeys);
  l.first = carver.take<std::int64_t>(kKeys);
  l.tokens = carver.take<std::int32_t>(listed);
  l.segments = carver.take<Segment>(l.most_segments);
  l.segment_count = carver.take<std::int32_t>(1);
  l.partial = carver.take<float>(l.most_slots * width);
  return l;
}

/// The list that `token` is in for `kind`, or −1.
template <class T>
__device__ __forceinline__ int key_of(const AtomEmbeddingBackward<T>& a, std::int64_t token, int kind) {
  const std::int64_t atom = atom_of_token(a.packed, token);
  if (atom < 0) return kind == kKinds - 1 ? kGraphKey : -1;
  if (kind < kAtomFeatures) return kind * kAtomFeatureRows + a.atom_codes[atom * kAtomFeatures + kind];
  if (kind == kAtomFeatures && (a.atom_visible[atom] & kShowDegree)) return kDegreeKeys + degree_row(a.degree[atom]);
  return -1;
}

/// A block has a chunk, a warp a kind, and walks over the chunk 32 tokens at a time: a token's place is that of its list so far, plus the
/// tokens of the same list on lower lanes. kPlace writes the lists; else the counts are left.
template <class T, bool kPlace>
__global__ void __launch_bounds__(32 * kKinds) walk(const AtomEmbeddingBackward<T> a, const Lists l) {
  GPU_SHARED(std::int32_t, counter, [kKeys]);
  const int kind = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  std::int32_t* const counts = l.counts + std::int64_t{blockIdx.x} * kKeys;
  for (int key = static_cast<int>(threadIdx.x); key < kKeys; key += 32 * kKinds)
    counter[key] = kPlace ? counts[key] : 0;
  __syncthreads();
  const std::int64_t begin = std::int64_t{blockIdx.x} * l.chunk_tokens, all = a.packed.tokens();
  const std::int64_t end = begin + l.chunk_tokens < all ? begin + l.chunk_tokens : all;
  int next = begin + lane < end ? key_of(a, begin + lane, kind) : -1;
  for (std::int64_t first = begin; first < end; first += 32) {
    const int key = next;
    const std::int64_t token = first + lane;
    next = token + 32 < end ? key_of(a, token + 32, kind) : -1;  // on its way while this one is counted
    const unsigned same = __match_any_sync(kFullWarp, key);
    const int before = __popc(same & ((1u << lane) - 1));
    const std::int32_t so_far = key < 0 ? 0 : counter[key];
    __syncwarp();
    if (key >= 0 && before == 0) counter[key] = so_far + __popc(same);
    if (kPlace && key >= 0) l.tokens[l.first[key] + so_far + before] = static_cast<std::int32_t>(token);
    __syncwarp();
  }
  if (kPlace) return;
  __syncthreads();
  for (int key = static_cast<int>(threadIdx.x); key < kKeys; key += 32 * kKinds) counts[key] = counter[key];
}

constexpr int kPrefixThreads = 64;  // a thread a key: small blocks, since there are only some five thousand
__global__ void __launch_bounds__(kPrefixThreads) prefix(const Lists l) {
  const int key = static_cast<int>(blockIdx.x * kPrefixThreads + threadIdx.x);
  if (key >= kKeys) return;
  constexpr int kAtOnce = 16;
  std::int32_t sum = 0;
  for (std::int64_t chunk = 0; chunk < l.chunks; chunk += kAtOnce) {
    std::int32_t count[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) count[k] = chunk + k < l.chunks ? l.counts[(chunk + k) * kKeys + key] : 0;
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (chunk + k < l.chunks) l.counts[(chunk + k) * kKeys + key] = sum;
      sum += count[k];
    }
  }
  l.total[key] = sum;
}

struct Place {
  std::int64_t tokens;
  std::int32_t segments, slots;
};
__device__ __forceinline__ Place operator+(const Place& a, const Place& b) {
  return {a.tokens + b.tokens, a.segments + b.segments, a.slots + b.slots};
}
__device__ __forceinline__ Place up_from(const Place& p, int step) {
  return {__shfl_up_sync(kFullWarp, p.tokens, static_cast<unsigned>(step)),
          __shfl_up_sync(kFullWarp, p.segments, static_cast<unsigned>(step)),
          __shfl_up_sync(kFullWarp, p.slots, static_cast<unsigned>(step))};
}
/// The sum over lanes up to this one.
__device__ __forceinline__ Place warp_prefix(Place p, int lane) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const Place below = up_from(p, step);
    if (lane >= step) p = p + below;
  }
  return p;
}

constexpr int kPlanThreads = 1024, kKeysPerThread = (kKeys + kPlanThreads - 1) / kPlanThreads;
__global__ void __launch_bounds__(kPlanThreads) plan(const Lists l) {
  GPU_SHARED(Place, of_warp, [kPlanThreads / 32]);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int first_key = static_cast<int>(threadIdx.x) * kKeysPerThread;
  const auto needs = [&](std::int32_t tokens) {
    const auto segments = static_cast<std::int32_t>((tokens + l.segment_tokens - 1) / l.segment_tokens);
    return Place{tokens, segments, segments > 1 ? segments : 0};
  };
  std::int32_t total[kKeysPerThread];
  Place mine{};
#pragma unroll
  for (int k = 0; k < kKeysPerThread; ++k) {
    total[k] = first_key + k < kKeys ? l.total[first_key + k] : 0;
    mine = mine + needs(total[k]);
  }
  const Place up_to = warp_prefix(mine, lane);
  if (lane == 31) of_warp[warp] = up_to;
  __syncthreads();
  Place at{up_to.tokens - mine.tokens, up_to.segments - mine.segments, up_to.slots - mine.slots};
  for (int w = 0; w < warp; ++w) at = at + of_warp[w];
  for (int k = 0; k < kKeysPerThread && first_key + k < kKeys; ++k) {
    const Place size = needs(l.total[first_key + k]);
    l.first[first_key + k] = at.tokens;
    for (std::int32_t s = 0; s < size.segments; ++s) {
      const std::int64_t done = s * l.segment_tokens, rest = size.tokens - done;
      l.segments[at.segments + s] = {at.tokens + done,
                                     static_cast<std::int32_t>(rest < l.segment_tokens ? rest : l.segment_tokens),
                                     first_key + k, size.slots > 0 ? at.slots + s : -1, s == 0 ? size.segments - 1 : 0};
    }
    at = at + size;
  }
  if (threadIdx.x == kPlanThreads - 1) *l.segment_count = at.segments;
}

/// Adds to what the key stands for.
template <class T>
__device__ __forceinline__ void add_to_table(const AtomEmbeddingBackward<T>& a, int key, std::int64_t column,
                                             float sum) {
  if (key < kDegreeKeys) {
    a.datom_table[(key + 2) * a.width + column] += sum;
  } else if (key < kGraphKey) {
    a.din_degree_table[(key - kDegreeKeys) * a.width + column] += sum;
    a.dout_degree_table[(key - kDegreeKeys) * a.width + column] += sum;
  } else {
    a.dgraph_token[column] += sum;
  }
}

constexpr int kWarps = 8, kThreads = 32 * kWarps;
// Blocks that share the segments out among themselves, as their number is only known on the device.
constexpr std::int64_t kSumBlocks = 1024, kFinishBlocks = 256;

/// N columns a lane. A warp takes 32 of the segment's tokens at a time, the next 32 kWarps · 32 tokens on.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 2) sum_segments(const AtomEmbeddingBackward<T> a, const Lists l) {
  constexpr int kColumns = 32 * N;
  constexpr int kAtOnce = 8;  // rows on their way
  GPU_SHARED(float, shared, [kWarps][kColumns]);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t first_column = std::int64_t{blockIdx.y} * kColumns, column = first_column + lane * N;
  // Lanes past the last column and list places past the last token read what is there, and add nothing: no branch between the loads.
  const T* const dx = a.dx + (column < a.width ? column : 0);
  const std::int32_t segments = *l.segment_count;
  for (std::int32_t s = static_cast<std::int32_t>(blockIdx.x); s < segments;
       s += static_cast<std::int32_t>(gridDim.x)) {
    const Segment segment = l.segments[s];
    float sum[N] = {};
    for (int base = 32 * warp; base < segment.count; base += 32 * kWarps) {
      const int here = segment.count - base < 32 ? segment.count - base : 32;
      const std::int32_t token = l.tokens[segment.first + base + (lane < here ? lane : 0)];
      for (int k = 0; k < here; k += kAtOnce) {
        Piece<N, T> row[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
          row[j] = *reinterpret_cast<const Piece<N, T>*>(dx + __shfl_sync(kFullWarp, token, k + j) * a.width);
        }
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
#pragma unroll
          for (int i = 0; i < N; ++i) sum[i] += k + j < here ? row[j][i] : 0.0f;
        }
      }
    }
    store<N>(&shared[warp][lane * N], sum);
    __syncthreads();
    for (int k = static_cast<int>(threadIdx.x); k < kColumns && first_column + k < a.width; k += kThreads) {
      float all = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) all += shared[w][k];
      if (segment.slot < 0) {
        add_to_table(a, segment.key, first_column + k, all);
      } else {
        l.partial[segment.slot * a.width + first_column + k] = all;
      }
    }
    __syncthreads();
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) finish(const AtomEmbeddingBackward<T> a, const Lists l) {
  const std::int64_t column = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (column >= a.width) return;
  const std::int32_t segments = *l.segment_count;
  for (std::int32_t s = static_cast<std::int32_t>(blockIdx.x); s < segments;
       s += static_cast<std::int32_t>(gridDim.x)) {
    const Segment segment = l.segments[s];
    if (segment.following == 0) continue;
    float sum = 0;
#pragma unroll 8
    for (std::int64_t k = segment.slot; k <= segment.slot + segment.following; ++k)
      sum += l.partial[k * a.width + column];
    add_to_table(a, segment.key, column, sum);
  }
}

/// A warp a token.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) gaussian_gradient(const AtomEmbeddingBackward<T> a) {
  const std::int64_t token = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (token >= a.packed.tokens()) return;
  const std::int64_t atom = atom_of_token(a.packed, token);
  if (atom < 0) return;
  const bool shown = a.atom_visible[atom] & kShowGaussians;
  for (std::int64_t column = threadIdx.x % 32 * N; column < a.width; column += 32 * N) {
    float v[N] = {};
    if (shown) load<N>(a.dx + token * a.width + column, v);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] *= static_cast<float>(kGaussianTermScale);
    store<N>(a.dgaussian_term + atom * a.width + column, v);
  }
}

}  // namespace

template <class T>
void atom_embedding_backward(Gpu& gpu, const AtomEmbeddingBackward<T>& a) {
  const std::int64_t tokens = a.packed.tokens();
  if (tokens == 0) return;
  const bool octets = a.width % 8 == 0;
  Carver size;
  carve(size, tokens, a.width);
  Carver carver(gpu.scratch(size.bytes()));
  const Lists l = carve(carver, tokens, a.width);
  const auto chunks = static_cast<unsigned>(l.chunks);
  launch(gpu, walk<T, false>, chunks, 32 * kKinds, 0, a, l);
  launch(gpu, prefix, blocks_for(kKeys, kPrefixThreads), kPrefixThreads, 0, l);
  launch(gpu, plan, 1, kPlanThreads, 0, l);
  launch(gpu, walk<T, true>, chunks, 32 * kKinds, 0, a, l);
  const auto blocks = [&](std::int64_t most) { return static_cast<unsigned>(std::min(most, l.most_segments)); };
  launch(gpu, octets ? sum_segments<T, 8> : sum_segments<T, 1>,
         dim3(blocks(kSumBlocks), blocks_for(a.width, octets ? 256 : 32)), kThreads, 0, a, l);
  launch(gpu, finish<T>, dim3(blocks(kFinishBlocks), blocks_for(a.width, kThreads)), kThreads, 0, a, l);
  if (a.dgaussian_term) {
    launch(gpu, octets ? gaussian_gradient<T, 8> : gaussian_gradient<T, 1>, blocks_for(tokens, kWarps), kThreads, 0, a);
  }
}

template void atom_embedding_backward(Gpu&, const AtomEmbeddingBackward<float>&);
template void atom_embedding_backward(Gpu&, const AtomEmbeddingBackward<bf16>&);

}  // namespace moleblend
