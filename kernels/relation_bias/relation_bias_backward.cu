#include <algorithm>
#include <initializer_list>

#include "kernels/relation_bias/backward.cuh"

// How the work lies on the machine: the look-ups' gradients are histograms. A block takes 128 neighbouring token pairs at a time, as they lie
// in dbias, and has tables of the hop vectors and of the SPD rows that are common in shared memory; a thread owns one head of one table and
// walks over the pairs that show it, so no two threads meet. The distance encoder is in files of its own (bf16, float); here
// are the Gaussian sums, a warp an atom, and what both leave behind: du of each pair, summed an atom at a time, then by element.
// Gradients of the hop vectors end in edge_table and W_hop.

namespace moleblend {
namespace relation {
namespace {

using namespace cuda;

// ---- sums of parts

constexpr int kSumThreads = 256, kSlices = kSumThreads / 32;

/// A block has 32 values of a sum; each warp adds every eighth part.
__global__ void __launch_bounds__(kSumThreads) add_parts(const Sums sums) {
  GPU_SHARED(float, slices, [kSlices][33]);
  int which = 0;
  while (which + 1 < sums.count && sums.first_block[which + 1] <= blockIdx.x) ++which;
  const Sum& s = sums.sum[which];
  const int lane = threadIdx.x % 32, slice = threadIdx.x / 32;
  const std::int64_t k = (blockIdx.x - sums.first_block[which]) * 32 + lane;
  float total = 0;
  if (k < s.values) {
#pragma unroll 4
    for (int part = slice; part < s.count; part += kSlices) total += s.parts[part * s.stride + k];
  }
  slices[slice][lane] = total;
  __syncthreads();
  if (slice > 0 || k >= s.values) return;
  for (int other = 1; other < kSlices; ++other) total += slices[other][lane];
  if (s.sign_of) {
    const float x = s.sign_of[k];
    total = x > 0 ? total : x < 0 ? -total : 0.0f;
  }
  s.out[k] = s.overwrite ? total : s.out[k] + total;
}

}  // namespace

void add_sums(Gpu& gpu, std::initializer_list<Sum> list) {
  Sums sums{};
  for (const Sum& s : list) {
    sums.sum[sums.count] = s;
    sums.first_block[sums.count + 1] = sums.first_block[sums.count] + blocks_for(s.values, 32);
    ++sums.count;
  }
  launch(gpu, add_parts, dim3(static_cast<unsigned>(sums.first_block[sums.count])), dim3(kSumThreads), 0, sums);
}

}  // namespace relation

namespace {

using namespace relation;
using namespace cuda;

// ---- look-ups

constexpr int kHeads = 32;  // of a block; more take several blocks
constexpr int kTile = 128, kTilePitch = kTile + 1;
constexpr int kLookUpThreads = 256, kHeadStep = kLookUpThreads / kTile;
// What a head of a pair may count for: a row for each hop, one for the SPD, the graph token.
constexpr int kRowSlots = kPathHops + 1, kSlots = kRowSlots + 1;
constexpr int kSpdSlot = kPathHops, kGraphSlot = kRowSlots;
static_assert(kSlots * kHeads <= kLookUpThreads, "a thread owns a head of one slot");
// The tables in shared memory: the hop vectors, then the SPD rows of 0 … 32 hops and of unreachable pairs. Longer paths are rare: a block
// that meets one sets up a table of all SPD rows in device memory.
constexpr int kFirstSpdRow = kPathHops * kHopRows, kNearSpds = 33;
constexpr int kSharedRows = kFirstSpdRow + kNearSpds + 1, kFarRow = kSharedRows;

int look_up_blocks(const Input& in) {
  return blocks_of(in.packed.token_pairs(), 4 * kTile, 264);
}

/// One block's sums of the look-ups' gradients.
struct LookUpPartial {
  std::int64_t rows = 0, graph, length;  // places in the block's part
  MOLEBLEND_HD explicit LookUpPartial(std::int64_t heads) : graph(kSharedRows * heads), length(graph + heads) {}
};

struct LookUpBackward {
  Input in;
  const float* dbias;
  float* parts;            // [blocks, LookUpPartial::length]
  float* far_parts;        // [blocks, 512, H], set up where far_used says so
  std::int32_t* far_used;  // [blocks, ⌈H / kHeads⌉]
};

struct LookUpTile {
  float* rows;           // [kSharedRows, heads]
  float* dvalue;         // [heads, kTilePitch]
  float* weight;         // [kTile] of a hop
  std::uint16_t* row;    // [kRowSlots, kTile] of `rows`; from kFarRow on, of the SPD rows
  std::uint32_t* shows;  // [kSlots, kTile / 32] bits of the pairs that count for a slot
  MOLEBLEND_HD LookUpTile(SharedCut& cut, int heads)
      : rows(cut.take<float>(kSharedRows * heads)),
        dvalue(cut.take<float>(heads * kTilePitch)),
        weight(cut.take<float>(kTile)),
        row(cut.take<std::uint16_t>(kRowSlots * kTile)),
        shows(cut.take<std::uint32_t>(kSlots * kTile / 32)) {}
};

/// What a thread reads for the next tile, while the block works on the present one: all of one pair, and half of its heads.
struct Fetched {
  float dvalue[kHeads / kHeadStep];
  unsigned slots;  // bits of those that the pair counts for
  float weight;
  std::uint16_t row[kRowSlots];
  bool far;
};

/// Pair `at` of all token pairs; b is the molecule of an earlier one, and moves on.
__device__ __forceinline__ Fetched fetch(const LookUpBackward& a, std::int64_t at, int first_head, int heads,
                                         std::int64_t& b) {
  Fetched f{};
  const Input& in = a.in;
  if (at >= in.packed.token_pairs()) return f;
  const std::int64_t* offset = in.packed.token_pair_offset;
  while (offset[b + 1] <= at) ++b;
  const std::int64_t n = in.packed.atoms_of(b), tokens = n + 1, local = at - offset[b], stride = tokens * tokens;
  const float* from = a.dbias + in.heads * offset[b] + local + first_head * stride;
#pragma unroll
  for (int k = 0; k < kHeads / kHeadStep; ++k) {
    const int h = static_cast<int>(threadIdx.x) / kTile + k * kHeadStep;
    if (h < heads) f.dvalue[k] = from[h * stride];
  }
  const std::int64_t row = quotient(local, tokens), column = local - row * tokens;
  if (row == 0 || column == 0) {
    f.slots = 1u << kGraphSlot;
    return f;
  }
  const std::int64_t pair = in.packed.pair_offset[b] + (row - 1) * n + column - 1;
  const LookUp look = look_up(in, pair);
  f.slots = (1u << look.hops) - 1;
  f.weight = look.weight;
#pragma unroll
  for (int d = 0; d < kPathHops; ++d) {
    if (d < look.hops) f.row[d] = static_cast<std::uint16_t>(d * kHopRows + in.path[pair * kPathHops + d]);
  }
  if (look.spd_row >= 0) {
    const int spd = look.spd_row - 1;
    f.slots |= 1u << kSpdSlot;
    f.far = spd >= kNearSpds && spd != kUnreachable;
    f.row[kSpdSlot] =
        static_cast<std::uint16_t>(f.far ? kFarRow + spd + 1 : kFirstSpdRow + (spd == kUnreachable ? kNearSpds : spd));
  }
  return f;
}

__global__ void __launch_bounds__(kLookUpThreads) look_up_backward(const LookUpBackward a) {
  GPU_DYNAMIC_SHARED(memory);
  const Input& in = a.in;
  const auto first_head = static_cast<int>(blockIdx.y) * kHeads;
  const int heads = min(static_cast<int>(in.heads) - first_head, kHeads);
  SharedCut cut(memory);
  const LookUpTile s(cut, heads);
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, place = tid % kTile;
  for (int k = tid; k < kSharedRows * heads; k += kLookUpThreads) s.rows[k] = 0;
  float* const far = a.far_parts + blockIdx.x * kSpdRows * in.heads + first_head;
  bool far_used = false;
  float graph = 0;
  const int slot = tid / heads, head = tid % heads;

  const std::int64_t pairs = in.packed.token_pairs();
  const Share tiles = share_of((pairs + kTile - 1) / kTile, blockIdx.x, gridDim.x);
  std::int64_t at = tiles.begin * kTile + place;
  std::int64_t b = molecule_of(in.packed.token_pair_offset, in.packed.molecules, min(at, pairs - 1));
  Fetched next = fetch(a, at, first_head, heads, b);
  for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
#pragma unroll
    for (int k = 0; k < kHeads / kHeadStep; ++k) {
      const int h = tid / kTile + k * kHeadStep;
      if (h < heads) s.dvalue[h * kTilePitch + place] = next.dvalue[k];
    }
    if (warp < kTile / 32) {
      s.weight[place] = next.weight;
#pragma unroll
      for (int k = 0; k < kRowSlots; ++k) s.row[k * kTile + place] = next.row[k];
#pragma unroll
      for (int k = 0; k < kSlots; ++k) {
        const unsigned bits = __ballot_sync(kFullWarp, next.slots >> k & 1);
        if (lane == 0) s.shows[k * (kTile / 32) + warp] = bits;
      }
    }
    if (__syncthreads_or(next.far) && !far_used) {
      far_used = true;
      if (slot == kSpdSlot) {
        for (int row = 0; row < kSpdRows; ++row) far[row * in.heads + head] = 0;
      }
    }
    at += kTile;
    if (tile + 1 < tiles.end) next = fetch(a, at, first_head, heads, b);

    if (slot < kSlots) {
      const float* dvalue = s.dvalue + head * kTilePitch;
      const std::uint16_t* rows = s.row + slot * kTile;
      for (int part = 0; part < kTile / 32; ++part) {
        unsigned left = s.shows[slot * (kTile / 32) + part];
        if (slot == kGraphSlot) {
          for (; left; left &= left - 1) graph += dvalue[part * 32 + __ffs(static_cast<int>(left)) - 1];
          continue;
        }
        // The next pair is read before the sum of this one is stored, which the compiler could not do: rows may be the same.
        const auto read = [&](float& value, int& row) {
          const int p = part * 32 + __ffs(static_cast<int>(left)) - 1;
          left &= left - 1;
          value = slot < kPathHops ? s.weight[p] * dvalue[p] : dvalue[p];
          row = rows[p];
        };
        float value = 0;
        int row = -1;
        if (left) read(value, row);
        while (row >= 0) {
          const float this_value = value;
          const int this_row = row;
          row = -1;
          if (left) read(value, row);
          if (this_row < kFarRow) {
            s.rows[this_row * heads + head] += this_value;
          } else {
            far[(this_row - kFarRow) * in.heads + head] += this_value;
          }
        }
      }
    }
    __syncthreads();
  }

  const LookUpPartial places(in.heads);
  float* const part = a.parts + blockIdx.x * places.length + first_head;
  if (slot == kGraphSlot) part[places.graph + head] = graph;
  for (int k = tid; k < kSharedRows * heads; k += kLookUpThreads) {
    part[places.rows + k / heads * in.heads + k % heads] = s.rows[k];
  }
  if (tid == 0) a.far_used[blockIdx.x * gridDim.y + blockIdx.y] = far_used;
}

constexpr int kThreads = 256;

/// spd_table's rows of the paths that shared memory has no room for; a thread has an entry.
__global__ void __launch_bounds__(kThreads) add_far_rows(const LookUpBackward a, int blocks, float* spd_table) {
  const std::int64_t heads = a.in.heads,
                     at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x + (kNearSpds + 1) * heads;
  if (at >= kUnreachable * heads + heads) return;
  const std::int64_t chunks = (heads + kHeads - 1) / kHeads, chunk = at % heads / kHeads;
  float total = 0;
  for (int block = 0; block < blocks; ++block) {
    if (a.far_used[block * chunks + chunk]) total += a.far_parts[block * kSpdRows * heads + at];
  }
  spd_table[at] += total;
}

/// From the hop vectors' gradient `dhop` [5, 61, H] to edge_hop, and dbond [61, H] of the bonds' mean rows. A thread has an entry of either.
__global__ void __launch_bounds__(kThreads)
    hops_backward(const Input in, const float* bond_mean, const float* dhop, float* edge_hop, float* dbond) {
  const std::int64_t heads = in.heads, at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t hop_entries = kPathHops * heads * heads;
  float sum = 0;
  if (at < hop_entries) {
    const std::int64_t h = at % heads, q = at / heads % heads, d = at / heads / heads;
    for (int code = 1; code < kHopRows; ++code)
      sum += bond_mean[code * heads + q] * dhop[(d * kHopRows + code) * heads + h];
    edge_hop[at] += sum;
  } else if (at < hop_entries + kHopRows * heads) {
    const std::int64_t code = (at - hop_entries) / heads, q = (at - hop_entries) % heads;
    for (int d = 0; d < kPathHops; ++d) {
      const float* dvector = dhop + (d * kHopRows + code) * heads;
      const float* w = in.tables.edge_hop + (d * heads + q) * heads;
      for (std::int64_t h = 0; h < heads; ++h) sum += dvector[h] * w[h];
    }
    dbond[code * heads + q] = sum;
  }
}

/// From dbond to edge_table; a thread has an entry of one of the rows that bonds have.
__global__ void __launch_bounds__(kThreads) bonds_backward(const float* dbond, std::int64_t heads, float* edge_table) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= (kBondTypes + kBondStereos + 2) * heads) return;
  const std::int64_t h = at % heads;
  const auto which = static_cast<int>(at / heads);
  const int f = which < kBondTypes ? 0 : which < kBondTypes + kBondStereos ? 1 : 2;
  const int row = which - (f > 0 ? kBondTypes : 0) - (f > 1 ? kBondStereos : 0) + 512 * f + 3;
  float sum = 0;
  for (int code = 1; code < kHopRows; ++code) {
    if (edge_row(static_cast<std::uint8_t>(code), f) == row) sum += dbond[code * heads + h];
  }
  edge_table[row * heads + h] += sum / 3.0f;
}

// ---- Gaussian sums

constexpr int kAtomWarps = kThreads / 32;

int sum_blocks(const Input& in) {
  return blocks_of(in.packed.tokens(), 8 * kAtomWarps, 264);
}

/// The part of dgaussian_sum in means and widths, and in du, which it overwrites. A warp has a share of the atoms; lane l has the
/// Gaussians l, l + 32, … of C · 32.
template <class T, int C>
__global__ void __launch_bounds__(kThreads, 2)
    gaussian_sums_backward(const Input in, const DeviceEncodings e, const T* dsum, float* parts, float* du) {
  GPU_SHARED(float, sums, [2][kAtomWarps][32 * C]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Share tokens =
      share_of(in.packed.tokens(), std::int64_t{blockIdx.x} * kAtomWarps + warp, std::int64_t{gridDim.x} * kAtomWarps);
  float* const part = parts + blockIdx.x * 2 * in.kernels;
  for (std::int64_t k0 = 0; k0 < in.kernels; k0 += 32 * C) {
    float mean[C], inverse_sigma[C], dmean[C] = {}, dsigma[C] = {};
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const std::int64_t k = k0 + lane + 32 * c;
      mean[c] = k < in.kernels ? e.mean[k] : 0.0f;
      inverse_sigma[c] = k < in.kernels ? e.inverse_sigma[k] : 0.0f;
    }
    for (std::int64_t token = tokens.begin; token < tokens.end; ++token) {
      const AtomToken self = atom_token(in.packed, token);
      if (self.atom < 0) continue;
      const std::int64_t first = in.packed.atom_offset[self.molecule], n = in.packed.atoms_of(self.molecule);
      float* const own_du = du + in.packed.pair_offset[self.molecule] + (self.atom - first) * n;
      const bool shows = dsum && (in.atom_visible[self.atom] & kShowGaussians);
      float weight[C];  // dgaussian_sum · height / σ
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const std::int64_t k = k0 + lane + 32 * c;
        weight[c] = shows && k < in.kernels
                        ? to_float(dsum[self.atom * in.kernels + k]) * e.height[k] * inverse_sigma[c]
                        : 0.0f;
      }
      for (std::int64_t j0 = 0; j0 < n; j0 += 32) {
        const auto count = static_cast<int>(min(n - j0, std::int64_t{32}));
        float result = 0;
        if (shows) {
          const float own = lane < count ? argument(in, self.atom, first + j0 + lane).u : 0.0f;
          for (int q = 0; q < count; ++q) {
            const float u = __shfl_sync(kFullWarp, own, q);
            float sum = 0;
#pragma unroll
            for (int c = 0; c < C; ++c) {
              const float z = (u - mean[c]) * inverse_sigma[c], w = weight[c] * bell<sizeof(T) == 2>(z);
              sum += w * z;
              dmean[c] += w * z;
              dsigma[c] += w * (z * z - 1.0f);
            }
            sum = warp_sum(sum);
            if (lane == q) result = -sum;
          }
        }
        if (lane < count) own_du[j0 + lane] = k0 == 0 ? result : own_du[j0 + lane] + result;
      }
    }
#pragma unroll
    for (int c = 0; c < C; ++c) {
      sums[0][warp][lane + 32 * c] = dmean[c];
      sums[1][warp][lane + 32 * c] = dsigma[c];
    }
    __syncthreads();
    for (int k = threadIdx.x; k < 2 * 32 * C; k += kThreads) {
      const int which = k / (32 * C), column = k % (32 * C);
      float total = 0;
      for (int w = 0; w < kAtomWarps; ++w) total += sums[which][w][column];
      if (k0 + column < in.kernels) part[which * in.kernels + k0 + column] = total;
    }
    __syncthreads();
  }
}

/// What an atom gives its element's rows of gaussian_mul and gaussian_bias, as the row atom of pairs and as the column atom.
struct alignas(16) AtomSums {
  float row_mul, row_bias, column_mul, column_bias;
};

/// A warp has an atom.
__global__ void __launch_bounds__(kThreads) sum_atoms(const Input in, const float* du, AtomSums* out) {
  const std::int64_t token = std::int64_t{blockIdx.x} * kAtomWarps + threadIdx.x / 32;
  if (token >= in.packed.tokens()) return;
  const AtomToken self = atom_token(in.packed, token);
  if (self.atom < 0) return;
  const int lane = threadIdx.x % 32;
  const std::int64_t first = in.packed.atom_offset[self.molecule], n = in.packed.atoms_of(self.molecule),
                     i = self.atom - first;
  const float* of_molecule = du + in.packed.pair_offset[self.molecule];
  AtomSums s{};
  for (std::int64_t j = lane; j < n; j += 32) {
    float square = 0;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      const float d = in.positions[3 * (first + j) + axis] - in.positions[3 * self.atom + axis];
      square += d * d;
    }
    const float r = sqrtf(square), row = of_molecule[i * n + j], column = of_molecule[j * n + i];
    s.row_mul += row * r;
    s.row_bias += row;
    s.column_mul += column * r;
    s.column_bias += column;
  }
  s = {warp_sum(s.row_mul), warp_sum(s.row_bias), warp_sum(s.column_mul), warp_sum(s.column_bias)};
  if (lane == 0) out[self.atom] = s;
}

constexpr int kElementThreads = 512, kElementTile = 256;
constexpr int kOwnElements = kElementRows / kElementThreads;

int element_blocks(const Input& in) {
  return blocks_of(in.packed.atoms(), kElementTile, 64);
}

/// Sums by row of the element tables. A thread owns three rows and walks over the block's atoms.
__global__ void __launch_bounds__(kElementThreads) sum_elements(const Input in, const AtomSums* atoms, float* parts) {
  GPU_SHARED(AtomSums, value, [kElementTile]);
  GPU_SHARED(int, category, [kElementTile]);
  const Share share = share_of(in.packed.atoms(), blockIdx.x, gridDim.x);
  float mul[kOwnElements] = {}, bias[kOwnElements] = {};
  const int tid = threadIdx.x;
  for (std::int64_t first = share.begin; first < share.end; first += kElementTile) {
    const auto count = static_cast<int>(min(share.end - first, std::int64_t{kElementTile}));
    if (tid < count) {
      value[tid] = atoms[first + tid];
      category[tid] = in.atom_codes[(first + tid) * kAtomFeatures];
    }
    __syncthreads();
    for (int k = 0; k < count; ++k) {
      const auto c = static_cast<std::uint16_t>(category[k]);
#pragma unroll
      for (int own = 0; own < kOwnElements; ++own) {
        const int row = tid + own * kElementThreads;
        if (row == row_element(c)) mul[own] += value[k].row_mul, bias[own] += value[k].row_bias;
        if (row == column_element(c)) mul[own] += value[k].column_mul, bias[own] += value[k].column_bias;
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int own = 0; own < kOwnElements; ++own) {
    parts[blockIdx.x * 2 * kElementRows + tid + own * kElementThreads] = mul[own];
    parts[(blockIdx.x * 2 + 1) * kElementRows + tid + own * kElementThreads] = bias[own];
  }
}

// ---- the operation

struct Plan {
  DeviceEncodings e;
  LookUpBackward look_up;
  DistanceBackward distance;
  float *dhop, *dbond;   // [5, 61, H], [61, H]
  AtomSums* atoms;       // [N]
  float* element_parts;  // [blocks, 2, 1536] mul, bias

  static Plan carve(Gpu& gpu, Carver& carver, const Input& in, const float* dbias, bool tensor_cores) {
    Plan p{};
    p.e = DeviceEncodings::carve(carver, in, tensor_cores);
    const std::int64_t chunks = (in.heads + kHeads - 1) / kHeads, blocks = look_up_blocks(in);
    p.look_up = {in, dbias, carver.take<float>(blocks * LookUpPartial(in.heads).length),
                 carver.take<float>(blocks * kSpdRows * in.heads), carver.take<std::int32_t>(blocks * chunks)};
    p.dhop = carver.take<float>(kPathHops * kHopRows * in.heads);
    p.dbond = carver.take<float>(kHopRows * in.heads);
    if (!has_distances(in)) return p;
    const std::int64_t tiles = distance_blocks(in);
    p.distance = {in,
                  p.e,
                  dbias,
                  carver.take<float>(in.packed.pairs()),
                  carver.take<float>(tiles * MlpPartial(in.heads, in.kernels).length),
                  carver.take<float>((tiles + sum_blocks(in)) * 2 * in.kernels),
                  nullptr};
    if (!tensor_cores) {
      if (const std::int64_t values = overflow_of_distance_backward_float(gpu, in))
        p.distance.overflow = carver.take<float>(values);
    }
    p.atoms = carver.take<AtomSums>(in.packed.atoms());
    p.element_parts = carver.take<float>(element_blocks(in) * 2 * kElementRows);
    return p;
  }
};

void look_ups_backward(Gpu& gpu, const Input& in, const Plan& p, const RelationTables<float>& gradients) {
  const std::int64_t heads = in.heads, chunks = (heads + kHeads - 1) / kHeads;
  const int blocks = look_up_blocks(in);
  SharedCut cut(nullptr);
  LookUpTile tile(cut, static_cast<int>(std::min<std::int64_t>(heads, kHeads)));
  launch(gpu, look_up_backward, dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(chunks)),
         dim3(kLookUpThreads), cut.bytes(), p.look_up);
  const LookUpPartial place(heads);
  const float* parts = p.look_up.parts;
  const auto rows = [&](int first, std::int64_t count, float* out, bool overwrite) {
    return Sum{parts + place.rows + first * heads, place.length, blocks, count * heads, out, nullptr, overwrite};
  };
  add_sums(gpu, {rows(0, kFirstSpdRow, p.dhop, true),
                 rows(kFirstSpdRow, kNearSpds, gradients.spd_table + heads, false),
                 rows(kFirstSpdRow + kNearSpds, 1, gradients.spd_table + (kUnreachable + 1) * heads, false),
                 {parts + place.graph, place.length, blocks, heads, gradients.graph_token, nullptr, false}});
  launch(gpu, add_far_rows, dim3(blocks_for((kUnreachable - kNearSpds) * heads, kThreads)), dim3(kThreads), 0,
         p.look_up, blocks, gradients.spd_table);
  launch(gpu, hops_backward, dim3(blocks_for(kPathHops * heads * heads + kHopRows * heads, kThreads)), dim3(kThreads),
         0, in, p.e.bond_mean, p.dhop, gradients.edge_hop, p.dbond);
  launch(gpu, bonds_backward, dim3(blocks_for((kBondTypes + kBondStereos + 2) * heads, kThreads)), dim3(kThreads), 0,
         p.dbond, heads, gradients.edge_table);
}

template <class T>
void distances_backward(Gpu& gpu, const Input& in, const Plan& p, const T* dsum, bool tensor_cores,
                        const RelationTables<float>& gradients) {
  const std::int64_t heads = in.heads, kernels = in.kernels;
  const int tiles = distance_blocks(in), elements = element_blocks(in), gaussian_blocks = tiles + sum_blocks(in);
  float* const sum_parts = p.distance.gaussian_parts + tiles * 2 * kernels;
  auto* const sums = kernels > 64   ? gaussian_sums_backward<T, 4>
                     : kernels > 32 ? gaussian_sums_backward<T, 2>
                                    : gaussian_sums_backward<T, 1>;
  launch(gpu, sums, dim3(static_cast<unsigned>(sum_blocks(in))), dim3(kThreads), 0, in, p.e, dsum, sum_parts,
         p.distance.du);
  if (tensor_cores) {
    distance_backward_bf16(gpu, p.distance);
  } else {
    distance_backward_float(gpu, p.distance);
  }
  launch(gpu, sum_atoms, dim3(blocks_for(in.packed.tokens(), kAtomWarps)), dim3(kThreads), 0, in, p.distance.du,
         p.atoms);
  launch(gpu, sum_elements, dim3(static_cast<unsigned>(elements)), dim3(kElementThreads), 0, in, p.atoms,
         p.element_parts);
  const MlpPartial place(heads, kernels);
  const float* parts = p.distance.mlp_parts;
  const float* gaussians = p.distance.gaussian_parts;
  add_sums(gpu, {{parts + place.w1, place.length, tiles, kernels * kernels, gradients.distance_w1, nullptr, false},
                 {parts + place.b1, place.length, tiles, kernels, gradients.distance_b1, nullptr, false},
                 {parts + place.w2, place.length, tiles, heads * kernels, gradients.distance_w2, nullptr, false},
                 {parts + place.b2, place.length, tiles, heads, gradients.distance_b2, nullptr, false},
                 {gaussians, 2 * kernels, gaussian_blocks, kernels, gradients.gaussian_mean, nullptr, false},
                 {gaussians + kernels, 2 * kernels, gaussian_blocks, kernels, gradients.gaussian_std,
                  in.tables.gaussian_std, false},
                 {p.element_parts, 2 * kElementRows, elements, kElementRows, gradients.gaussian_mul, nullptr, false},
                 {p.element_parts + kElementRows, 2 * kElementRows, elements, kElementRows, gradients.gaussian_bias,
                  nullptr, false}});
}

}  // namespace

template <class T>
void relation_bias_backward(Gpu& gpu, const RelationBiasBackward<T>& a) {
  const Input in = input_of(a.in);
  const bool tensor_cores = on_tensor_cores<T>(in);
  Carver count;
  Plan::carve(gpu, count, in, a.dbias, tensor_cores);
  Carver scratch(gpu.scratch(count.bytes()));
  const Plan p = Plan::carve(gpu, scratch, in, a.dbias, tensor_cores);
  build_encodings(gpu, in, p.e);
  look_ups_backward(gpu, in, p, a.gradients);
  if (has_distances(in)) distances_backward(gpu, in, p, a.dgaussian_sum, tensor_cores, a.gradients);
}

template void relation_bias_backward(Gpu&, const RelationBiasBackward<float>&);
template void relation_bias_backward(Gpu&, const RelationBiasBackward<bf16>&);

}  // namespace moleblend
