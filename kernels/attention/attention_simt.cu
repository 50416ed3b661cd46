// Attention in float arithmetic without tensor cores: float, and bf16 of head widths that attention_tensor.cu does not take.
//
// A block has a molecule and a group of its heads. An item is a row (of queries; in the second half of backward, of keys) of one head; a
// lane has an item, with its operands and sums in registers, or the 2, 4, … 32 lanes of a wide head share it, D columns each. The other
// side's rows pass through shared memory, kTileRows at a time, eight rows to a step; the lanes of one head read the same words there
// (broadcasts). No lane waits for another's part of a softmax, and a philox block (eight columns of a row) is drawn by the lane that has
// the row. Where a lane has a column instead, a tile's blocks are drawn by the whole block of threads first and kept as bits.

#include <limits>
#include <type_traits>

#include "kernels/attention/attention_gpu.cuh"

namespace moleblend::attention_gpu {
namespace {

using namespace cuda;

constexpr int kThreads = 128;
constexpr int kTileRows = 32;
constexpr int kStep = 8;  // rows of a tile at once: as many as a philox block has columns

/// How a launch cuts heads and rows.
struct Cut {
  int group;      // heads of a block
  int lanes;      // of an item
  int tile_rows;  // multiple of kStep
  int width;      // of a head
  std::int64_t groups;

  __host__ __device__ int items() const { return kThreads / lanes; }
  /// With what a kernel knows when it is compiled.
  template <int Lanes>
  __device__ Cut with_lanes() const {
    Cut cut(*this);
    if constexpr (Lanes > 0) cut.lanes = Lanes, cut.tile_rows = kTileRows;
    return cut;
  }
};

/// Floats between a lane's columns of one row and the next lane's; lanes of an item read different banks.
template <int D>
__host__ __device__ constexpr int slice_pitch(int lanes) {
  return lanes == 1 ? D : D + 4;
}
/// Of a head in a tile; heads are shifted against each other in the banks.
template <int D>
__host__ __device__ int tile_pitch(const Cut& cut) {
  return cut.tile_rows * cut.lanes * slice_pitch<D>(cut.lanes) + 4;
}

/// Row pieces of four: 16-byte loads of float where rows are aligned to them.
template <class T>
__device__ __forceinline__ void load_4(const T* row, int column, int width, float (&x)[4]) {
  if (width % 4 == 0) {
    if (column < width) return load<4>(row + column, x);
    x[0] = x[1] = x[2] = x[3] = 0;
    return;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) x[k] = column + k < width ? to_float(row[column + k]) : 0.0f;
}

/// A lane's columns of a row, from `column`; zero past `width`, all zero without a row.
template <class T, int D>
__device__ __forceinline__ void load_slice(const T* row, int column, int width, float (&x)[D]) {
#pragma unroll
  for (int k = 0; k < D; k += 4) {
    float piece[4] = {};
    if (row) load_4(row, column + k, width, piece);
#pragma unroll
    for (int u = 0; u < 4; ++u) x[k + u] = piece[u];
  }
}
template <class T, int D>
__device__ __forceinline__ void store_slice(T* row, int column, int width, const float (&x)[D], float factor) {
#pragma unroll
  for (int k = 0; k < D; k += 4) {
    const float piece[4] = {x[k] * factor, x[k + 1] * factor, x[k + 2] * factor, x[k + 3] * factor};
    if (width % 4 == 0) {
      if (column + k < width) store<4>(row + column + k, piece);
    } else {
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        if (column + k + u < width) row[column + k + u] = store_as<T>(piece[u]);
      }
    }
  }
}

/// The block brings `heads` neighbouring heads of rows [0, rows) of `from` into a tile; zero up to the end of a step.
template <int D, class T>
__device__ __forceinline__ void bring_tile(float* tile, const T* from, std::int64_t pitch, int rows, int heads,
                                           const Cut& cut) {
  const int pieces = cut.lanes * D / 4, row_pieces = pieces * heads;
  const int count = min(cut.tile_rows, (rows + kStep - 1) / kStep * kStep) * row_pieces;
#pragma unroll 2
  for (int k = static_cast<int>(threadIdx.x); k < count; k += kThreads) {
    const int row = k / row_pieces, head = k / pieces - row * heads, column = k % pieces * 4;
    float x[4] = {};
    if (row < rows) load_4(from + row * pitch + head * cut.width, column, cut.width, x);
    store<4>(tile + head * tile_pitch<D>(cut) + (row * cut.lanes + column / D) * slice_pitch<D>(cut.lanes) + column % D,
             x);
  }
}

// Between products with rows and sums of rows a step's scores pass through a thread's own words of shared memory: the loops over rows stay
// loops, which keeps the registers for a lane's rows and sums. `mine` is the first of them, kThreads words apart.

/// Rows of a step that are in flight at a time. With any number of lanes their places take the last registers.
template <int Lanes>
constexpr int kRowsInFlight = Lanes > 0 ? 2 : 1;

/// mine[r] = own · row r of the step, over all lanes of the item.
template <int Lanes, int D>
__device__ __forceinline__ void step_products(float* mine, const float (&own)[D], const float* rows, int lanes) {
#pragma unroll kRowsInFlight < Lanes>
  for (int r = 0; r < kStep; ++r) {
    float dot[2] = {};
#pragma unroll
    for (int k = 0; k < D; k += 4) {
      float x[4];
      load<4>(rows + r * lanes * slice_pitch<D>(lanes) + k, x);
#pragma unroll
      for (int u = 0; u < 4; ++u) dot[u % 2] += own[k + u] * x[u];
    }
    dot[0] += dot[1];
#pragma unroll 1
    for (int step = lanes / 2; step > 0; step /= 2) dot[0] += __shfl_xor_sync(kFullWarp, dot[0], step);
    mine[r * kThreads] = dot[0];
  }
}
/// sum += Σ_r mine[r] · row r of the step.
template <int Lanes, int D>
__device__ __forceinline__ void add_step(float (&sum)[D], const float* mine, const float* rows, int lanes) {
#pragma unroll kRowsInFlight < Lanes>
  for (int r = 0; r < kStep; ++r) {
    const float weight = mine[r * kThreads];
#pragma unroll
    for (int k = 0; k < D; k += 4) {
      float x[4];
      load<4>(rows + r * lanes * slice_pitch<D>(lanes) + k, x);
#pragma unroll
      for (int u = 0; u < 4; ++u) sum[k + u] += weight * x[u];
    }
  }
}
__device__ __forceinline__ void load_step(float (&x)[kStep], const float* mine) {
#pragma unroll
  for (int r = 0; r < kStep; ++r) x[r] = mine[r * kThreads];
}
__device__ __forceinline__ void store_step(float* mine, const float (&x)[kStep]) {
#pragma unroll
  for (int r = 0; r < kStep; ++r) mine[r * kThreads] = x[r];
}

/// What a block works on, and this thread's place in it.
template <class T, int D>
struct Block {
  std::int64_t first_head;
  int heads;      // of this block
  Head<T> first;  // head
  int n, padded;  // tokens; rounded up to 8: rows of one head are items `padded` apart
  std::int64_t pitch, out_pitch;
  int lane_column;  // first of this lane's columns

  __device__ Block(const AttentionInput<T>& in, const SizeClass& molecules, const Cut& cut)
      : first_head(blockIdx.x % cut.groups * cut.group),
        heads(static_cast<int>(min(static_cast<std::int64_t>(cut.group), in.heads - first_head))),
        first(in, molecules.first + blockIdx.x / cut.groups, static_cast<int>(first_head), cut.width),
        n(first.n),
        padded((n + 7) / 8 * 8),
        pitch(3 * in.width),
        out_pitch(in.width),
        lane_column(static_cast<int>(threadIdx.x) % cut.lanes * D) {}
};

/// A thread's row: `live` unless it has none in this round.
template <class T, int D>
struct Item {
  bool live;
  int head, row;  // head of the block
  HeadDraws draws;
  std::int64_t bias_at;  // of the head

  __device__ Item(const Block<T, D>& block, int item) {
    live = item < block.heads * block.padded && item % block.padded < block.n;
    head = live ? item / block.padded : 0;
    row = live ? item % block.padded : 0;
    draws = block.first.draws;
    draws.first += static_cast<std::uint32_t>(head) * static_cast<std::uint32_t>(block.n) * draws.row_blocks;
    bias_at = block.first.bias_at + static_cast<std::int64_t>(head) * block.n * block.n;
  }
};

/// Products to scores: −∞ past the last column. `bias` is the row's; null: none.
template <class T>
__device__ __forceinline__ void row_scores(float (&s)[kStep], const T* bias, int j0, int n, float scale) {
#pragma unroll
  for (int r = 0; r < kStep; ++r) {
    const int j = j0 + r;
    s[r] = j < n ? s[r] * scale + (bias ? to_float(bias[j]) : 0.0f) : -std::numeric_limits<float>::infinity();
  }
}
__device__ __forceinline__ float drop_factor(unsigned bits, int k, float scale) {
  return bits >> k & 1 ? scale : 0.0f;
}

/// The maximum with a step's scores; what is subtracted from them; what sums so far are multiplied by.
struct NextMaximum {
  float base, correction;
  __device__ __forceinline__ NextMaximum(float& largest, const float (&s)[kStep]) {
    const float before = largest;
#pragma unroll
    for (int r = 0; r < kStep; ++r) largest = fmaxf(largest, s[r]);
    // A row that is hidden so far adds nothing; one that stays hidden ends as 0 / 0.
    base = largest == -std::numeric_limits<float>::infinity() ? 0.0f : largest;
    correction = expf(before - base);
  }
};

/// Lanes of an item: 1, 2, or 0 for what `given` says.
template <class T, int D, int Lanes>
__global__ void __launch_bounds__(kThreads, D <= 24 ? 4 : 3)
    forward_kernel(const AttentionForward<T> a, const SizeClass molecules, const Cut given) {
  GPU_DYNAMIC_SHARED(shared);
  const Cut cut = given.with_lanes<Lanes>();
  const Block<T, D> block(a.in, molecules, cut);
  float* keys = reinterpret_cast<float*>(shared);
  float* values = keys + cut.group * tile_pitch<D>(cut);
  float* mine = values + cut.group * tile_pitch<D>(cut) + threadIdx.x;
  const T* q = a.in.qkv + block.first.token * block.pitch + block.first.column;
  const int n = block.n, items = block.heads * block.padded, per_round = cut.items();
  const int row_step = cut.lanes * slice_pitch<D>(cut.lanes);
  const float scale = a.in.scale;

  const int first_round = static_cast<int>(blockIdx.y) * per_round;
#pragma unroll 1
  for (int round = first_round; round < items; round += static_cast<int>(gridDim.y) * per_round) {
    const Item<T, D> item(block, round + static_cast<int>(threadIdx.x) / cut.lanes);
    float own[D], out[D] = {}, sum = 0, largest = -std::numeric_limits<float>::infinity();
    load_slice<T, D>(item.live ? q + item.row * block.pitch + item.head * cut.width : nullptr, block.lane_column,
                     cut.width, own);
    const T* bias =
        a.in.bias && item.live ? a.in.bias + item.bias_at + static_cast<std::int64_t>(item.row) * n : nullptr;
    const int slice = item.head * tile_pitch<D>(cut) + block.lane_column / D * slice_pitch<D>(cut.lanes);
#pragma unroll 1
    for (int j0 = 0; j0 < n; j0 += cut.tile_rows) {
      if (n > cut.tile_rows || round == first_round) {
        __syncthreads();  // the tile before has been read
        bring_tile<D>(keys, q + a.in.width + j0 * block.pitch, block.pitch, n - j0, block.heads, cut);
        bring_tile<D>(values, q + 2 * a.in.width + j0 * block.pitch, block.pitch, n - j0, block.heads, cut);
        __syncthreads();
      }
#pragma unroll 1
      for (int j = 0; j < cut.tile_rows && j0 + j < n; j += kStep) {
        float s[kStep];
        step_products<Lanes>(mine, own, keys + slice + j * row_step, cut.lanes);
        load_step(s, mine);
        row_scores(s, bias, j0 + j, n, scale);
        const NextMaximum next(largest, s);
        sum *= next.correction;
#pragma unroll
        for (int k = 0; k < D; ++k) out[k] *= next.correction;
        const unsigned bits = item.draws.active ? item.draws.keep_bits(item.row, (j0 + j) / 8) : 0xFF;
#pragma unroll
        for (int r = 0; r < kStep; ++r) {
          const float p = expf(s[r] - next.base);
          sum += p;
          s[r] = p * drop_factor(bits, r, 1.0f);
        }
        store_step(mine, s);
        add_step<Lanes>(out, mine, values + slice + j * row_step, cut.lanes);
      }
    }
    if (item.live) {
      T* to = a.out + (block.first.token + item.row) * block.out_pitch + block.first.column + item.head * cut.width;
      store_slice<T, D>(to, block.lane_column, cut.width, out, item.draws.scale / sum);
    }
  }
}

template <class T, int D, int Lanes>
__global__ void __launch_bounds__(kThreads, D <= 16 ? 3 : 2)
    backward_kernel(const AttentionBackward<T> a, const SizeClass molecules, const Cut given, float* scratch,
                    const int statistics_rows) {
  GPU_DYNAMIC_SHARED(shared);
  const Cut cut = given.with_lanes<Lanes>();
  const Block<T, D> block(a.in, molecules, cut);
  const int n = block.n, items = block.heads * block.padded, per_round = cut.items();
  const int row_step = cut.lanes * slice_pitch<D>(cut.lanes), draw_columns = per_round / 8 + 1;
  float* first_tile = reinterpret_cast<float*>(shared);              // keys, then queries
  float* second_tile = first_tile + cut.group * tile_pitch<D>(cut);  // values, then dout
  float* mine = second_tile + cut.group * tile_pitch<D>(cut) + threadIdx.x;
  float* mine_too = mine + kStep * kThreads;
  float* near = mine_too + kStep * kThreads - threadIdx.x;  // statistics [heads, statistics_rows]
  auto* kept = reinterpret_cast<std::uint8_t*>(near + 3 * cut.group * statistics_rows);  // [tile_rows, draw_columns]
  const T* q = a.in.qkv + block.first.token * block.pitch + block.first.column;
  const T* dout = a.dout + block.first.token * block.out_pitch + block.first.column;
  T* dq = a.dqkv + block.first.token * block.pitch + block.first.column;
  const float scale = a.in.scale, drop_scale = block.first.draws.scale;
  const auto statistics_of = [&](int head) {
    return scratch ? StatisticsRows{scratch + (block.first.token * a.in.heads + block.first_head + head) * 3,
                                    3 * a.in.heads}
                   : StatisticsRows{near + 3 * head * statistics_rows, 3};
  };

#pragma unroll 1
  for (int round = 0; round < items; round += per_round) {
    const Item<T, D> item(block, round + static_cast<int>(threadIdx.x) / cut.lanes);
    float own_q[D], own_dout[D], sum_dq[D] = {}, sum = 0;
    load_slice<T, D>(item.live ? q + item.row * block.pitch + item.head * cut.width : nullptr, block.lane_column,
                     cut.width, own_q);
    load_slice<T, D>(item.live ? dout + item.row * block.out_pitch + item.head * cut.width : nullptr, block.lane_column,
                     cut.width, own_dout);
    const std::int64_t bias_row = item.bias_at + static_cast<std::int64_t>(item.row) * n;
    const T* bias = a.in.bias && item.live ? a.in.bias + bias_row : nullptr;
    float* dbias = a.dbias && item.live && block.lane_column == 0 ? a.dbias + bias_row : nullptr;
    const int slice = item.head * tile_pitch<D>(cut) + block.lane_column / D * slice_pitch<D>(cut.lanes);
    RowStatistics row{-std::numeric_limits<float>::infinity(), 0, 0};
    // First for the row's statistics, then, with them, for dq and dbias.
#pragma unroll 1
    for (int pass = 0; pass < 2; ++pass) {
#pragma unroll 1
      for (int j0 = 0; j0 < n; j0 += cut.tile_rows) {
        if (n > cut.tile_rows || (round == 0 && pass == 0)) {
          __syncthreads();  // the tile before has been read
          bring_tile<D>(first_tile, q + a.in.width + j0 * block.pitch, block.pitch, n - j0, block.heads, cut);
          bring_tile<D>(second_tile, q + 2 * a.in.width + j0 * block.pitch, block.pitch, n - j0, block.heads, cut);
          __syncthreads();
        }
#pragma unroll 1
        for (int j = 0; j < cut.tile_rows && j0 + j < n; j += kStep) {
          float s[kStep], dp[kStep];
          step_products<Lanes>(mine, own_q, first_tile + slice + j * row_step, cut.lanes);
          step_products<Lanes>(mine_too, own_dout, second_tile + slice + j * row_step, cut.lanes);
          load_step(s, mine);
          load_step(dp, mine_too);
          row_scores(s, bias, j0 + j, n, scale);
          const unsigned bits = item.draws.active ? item.draws.keep_bits(item.row, (j0 + j) / 8) : 0xFF;
          if (pass == 0) {
            const NextMaximum next(row.largest, s);
            sum *= next.correction;
            row.delta *= next.correction;
#pragma unroll
            for (int r = 0; r < kStep; ++r) {
              const float p = expf(s[r] - next.base);
              sum += p;
              row.delta += p * dp[r] * drop_factor(bits, r, drop_scale);
            }
            continue;
          }
#pragma unroll
          for (int r = 0; r < kStep; ++r) {
            const float p = expf(s[r] - row.largest) * row.inverse;
            s[r] = p * (dp[r] * drop_factor(bits, r, drop_scale) - row.delta);
            if (dbias && j0 + j + r < n) dbias[j0 + j + r] += s[r];
          }
          store_step(mine, s);
          add_step<Lanes>(sum_dq, mine, first_tile + slice + j * row_step, cut.lanes);
        }
      }
      if (pass == 0) {
        row.inverse = 1.0f / sum;
        row.delta *= row.inverse;
      }
    }
    if (item.live) {
      if (block.lane_column == 0) statistics_of(item.head).put(item.row, row);
      store_slice<T, D>(dq + item.row * block.pitch + item.head * cut.width, block.lane_column, cut.width, sum_dq,
                        scale);
    }
  }

#pragma unroll 1
  for (int round = 0; round < items; round += per_round) {
    const Item<T, D> item(block, round + static_cast<int>(threadIdx.x) / cut.lanes);
    float own_k[D], own_v[D], dk[D] = {}, dv[D] = {};
    const T* k = item.live ? q + a.in.width + item.row * block.pitch + item.head * cut.width : nullptr;
    load_slice<T, D>(k, block.lane_column, cut.width, own_k);
    load_slice<T, D>(k ? k + a.in.width : nullptr, block.lane_column, cut.width, own_v);
    const T* bias = a.in.bias && item.live ? a.in.bias + item.bias_at + item.row : nullptr;
    const int slice = item.head * tile_pitch<D>(cut) + block.lane_column / D * slice_pitch<D>(cut.lanes);
    const int my_draws = (round + static_cast<int>(threadIdx.x) / cut.lanes) / 8 - round / 8;
    const StatisticsRows statistics = statistics_of(item.head);
#pragma unroll 1
    for (int i0 = 0; i0 < n; i0 += cut.tile_rows) {
      __syncthreads();
      bring_tile<D>(first_tile, q + i0 * block.pitch, block.pitch, n - i0, block.heads, cut);
      bring_tile<D>(second_tile, dout + i0 * block.out_pitch, block.out_pitch, n - i0, block.heads, cut);
      if (block.first.draws.active) {
        const int rows = min(cut.tile_rows, n - i0);
#pragma unroll 1
        for (int x = static_cast<int>(threadIdx.x); x < rows * draw_columns; x += kThreads) {
          const Item<T, D> of(block, round / 8 * 8 + x % draw_columns * 8);
          if (of.live) kept[x] = static_cast<std::uint8_t>(of.draws.keep_bits(i0 + x / draw_columns, of.row / 8));
        }
      }
      __syncthreads();
#pragma unroll 1
      for (int i = 0; i < cut.tile_rows && i0 + i < n; i += kStep) {
        float s[kStep], dp[kStep];
        step_products<Lanes>(mine, own_k, first_tile + slice + i * row_step, cut.lanes);
        step_products<Lanes>(mine_too, own_v, second_tile + slice + i * row_step, cut.lanes);
        load_step(s, mine);
        load_step(dp, mine_too);
#pragma unroll
        for (int r = 0; r < kStep; ++r) {
          const int row = i0 + i + r;
          const bool live = item.live && row < n;
          const RowStatistics of = live ? statistics.get(row) : RowStatistics{0, 0, 0};
          const float b = bias && live ? to_float(bias[static_cast<std::int64_t>(row) * n]) : 0.0f;
          const unsigned bits = live && item.draws.active ? kept[(i + r) * draw_columns + my_draws] : 0xFF;
          const float p = live ? expf(s[r] * scale + b - of.largest) * of.inverse : 0.0f;
          const float factor = drop_factor(bits, item.row % 8, drop_scale);
          s[r] = p * factor;
          dp[r] = p * (dp[r] * factor - of.delta);
        }
        store_step(mine, s);
        store_step(mine_too, dp);
        add_step<Lanes>(dv, mine, second_tile + slice + i * row_step, cut.lanes);
        add_step<Lanes>(dk, mine_too, first_tile + slice + i * row_step, cut.lanes);
      }
    }
    if (item.live) {
      T* to = dq + a.in.width + item.row * block.pitch + item.head * cut.width;
      store_slice<T, D>(to, block.lane_column, cut.width, dk, scale);
      store_slice<T, D>(to + a.in.width, block.lane_column, cut.width, dv, 1.0f);
    }
  }
}

/// Heads of a block so that its items fill the threads, and its tiles leave room for several blocks on a multiprocessor.
template <int D>
Cut cut_for(const SizeClass& molecules, std::int64_t heads, std::int64_t head_width) {
  Cut cut{};
  cut.width = static_cast<int>(head_width);
  for (cut.lanes = 1; cut.lanes * D < head_width; cut.lanes *= 2) {
  }
  if (cut.lanes > 32) throw GpuError("attention on a GPU: a head's width is at most " + std::to_string(32 * D));
  cut.tile_rows = cut.lanes <= 2 ? kTileRows : kStep;
  const std::int64_t group = molecules.tokens <= 32 ? 8 / cut.lanes : molecules.tokens <= 64 ? 2 / cut.lanes : 1;
  cut.group = static_cast<int>(std::min(std::max<std::int64_t>(group, 1), heads));
  cut.groups = (heads + cut.group - 1) / cut.group;
  return cut;
}
/// Two tiles, and what the threads keep of `steps` steps.
template <int D>
std::size_t tile_bytes(const Cut& cut, int steps) {
  return static_cast<std::size_t>(2 * cut.group * tile_pitch<D>(cut) + steps * kStep * kThreads) * sizeof(float);
}

template <class T, int D, int Lanes>
void forward_of(Gpu& gpu, const AttentionForward<T>& a) {
  for_each_class(a.in.packed, [&](const SizeClass& molecules) {
    const Cut cut = cut_for<D>(molecules, a.in.heads, a.in.width / a.in.heads);
    const unsigned rounds = blocks_for((molecules.tokens + 7) / 8 * 8 * cut.group, cut.items());
    const dim3 grid(blocks_for(molecules.count * cut.groups, 1),
                    molecules.tokens <= kTileRows ? 1 : std::min(rounds, 65535u));
    launch(gpu, forward_kernel<T, D, Lanes>, grid, dim3(kThreads), tile_bytes<D>(cut, 1), a, molecules, cut);
  });
}

template <class T, int D, int Lanes>
void backward_of(Gpu& gpu, const AttentionBackward<T>& a) {
  float* scratch = statistics_scratch(gpu, a.in.packed, a.in.heads);
  for_each_class(a.in.packed, [&](const SizeClass& molecules) {
    const Cut cut = cut_for<D>(molecules, a.in.heads, a.in.width / a.in.heads);
    const bool far = molecules.tokens > kRowsInSharedMemory;
    const int rows = far ? 0 : static_cast<int>(molecules.tokens);
    const std::size_t bytes = tile_bytes<D>(cut, 2) + static_cast<std::size_t>(3 * cut.group * rows) * sizeof(float) +
                              static_cast<std::size_t>(cut.tile_rows * (cut.items() / 8 + 1));
    launch(gpu, backward_kernel<T, D, Lanes>, dim3(blocks_for(molecules.count * cut.groups, 1)), dim3(kThreads), bytes,
           a, molecules, cut, far ? scratch : nullptr, rows);
  });
}

/// f(columns of a lane, lanes): the variant for a head width.
template <class T, class F>
void with_variant(std::int64_t d, F&& f) {
  using std::integral_constant;
  if constexpr (std::is_same_v<T, float>) {
    if (d <= 16) return f(integral_constant<int, 16>(), integral_constant<int, 1>());
    if (d <= 24) return f(integral_constant<int, 24>(), integral_constant<int, 1>());
    if (d <= 32) return f(integral_constant<int, 32>(), integral_constant<int, 1>());
    if (d <= 64) return f(integral_constant<int, 32>(), integral_constant<int, 2>());
  }
  f(integral_constant<int, 32>(), integral_constant<int, 0>());
}

}  // namespace

template <class T>
void forward_simt(Gpu& gpu, const AttentionForward<T>& a) {
  with_variant<T>(a.in.width / a.in.heads, [&](auto columns, auto lanes) { forward_of<T, columns, lanes>(gpu, a); });
}
template <class T>
void backward_simt(Gpu& gpu, const AttentionBackward<T>& a) {
  with_variant<T>(a.in.width / a.in.heads, [&](auto columns, auto lanes) { backward_of<T, columns, lanes>(gpu, a); });
}

template void forward_simt(Gpu&, const AttentionForward<float>&);
template void forward_simt(Gpu&, const AttentionForward<bf16>&);
template void backward_simt(Gpu&, const AttentionBackward<float>&);
template void backward_simt(Gpu&, const AttentionBackward<bf16>&);

}  // namespace moleblend::attention_gpu
