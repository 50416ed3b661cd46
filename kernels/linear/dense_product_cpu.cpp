#include "kernels/linear/dense_product_cpu.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include "kernels/common/carve.h"

namespace moleblend::panels {
namespace {

constexpr std::int64_t tiles(std::int64_t count, std::int64_t size) {
  return (count + size - 1) / size;
}

/// Whether C is cut into columns for the threads, because they share those out clearly more evenly: rows are better, for then no two threads
/// pack the same part of A.
bool cut_by_columns(std::int64_t row_tiles, std::int64_t column_tiles, int threads) {
  return 10 * tiles(row_tiles, threads) * column_tiles > 11 * row_tiles * tiles(column_tiles, threads);
}

/// A block of rows at one depth, whose panels of columns are taken one at a time, by the thread that packed it and by those that help. Who has
/// taken a panel may read the block until it counts that panel as finished; only then does its owner write it anew.
template <class P>
struct alignas(64) OpenBlock {
  std::atomic<std::int64_t> next;             // panel that is taken next; none is left from `panels` on
  std::atomic<std::uint32_t> unfinished = 0;  // panels
  BlockOfA<P> a = {};
  const P* packed_b = nullptr;  // of this depth
  Start<Wide<P>> start = {};
  Wide<P>* c = nullptr;  // first element of its rows
  explicit OpenBlock(std::int64_t panels) : next(panels) {}
};

/// One product: what its threads share.
template <class P>
class Work {
 public:
  using T = Wide<P>;

  Work(Cpu& cpu, const DenseProduct<T>& p) : cpu_(cpu), p_(p) {
    // Elements in 8 MiB, which stay in the third-level cache.
    constexpr std::int64_t kShared = (std::int64_t{8} << 20) / static_cast<std::int64_t>(sizeof(P));
    together_ = std::clamp<std::int64_t>(kShared / block_of_b(), 1, tiles(p.k, step_)) * step_;
    by_columns_ = cut_by_columns(tiles(p.m, tile_rows_), panels_, cpu.threads());
    height_ = row_block<P>(by_columns_ ? p.m : tiles(p.m, cpu.threads()), tile_rows_);
    const auto lay_out = [&](Carver carver) {
      packed_b_ = carver.take<P>(tiles(together_, step_) * block_of_b());
      open_ = carver.take<OpenBlock<P>>(cpu.threads());
      return carver.bytes();
    };
    lay_out(Carver(cpu.shared<std::byte>(lay_out(Carver()))));
    for (int thread = 0; thread < cpu.threads(); ++thread) std::construct_at(open_ + thread, panels_);
  }

  /// As many depths at a time as there is room for B.
  void run() {
    for (first_ = 0; first_ < p_.k; first_ += together_) {
      next_rows_ = 0;
      unfinished_rows_ = p_.m;
      not_packed_ = static_cast<std::uint32_t>(cpu_.threads());
      cpu_.parallel([&](int thread) { run_thread(thread); });
    }
  }

 private:
  void run_thread(int thread) {
    // Columns are packed by the thread that multiplies with them, if C is cut that way.
    const Range columns = even_part(p_.n, cpu_.threads(), thread, tile_columns_);
    pack_b(columns);
    P* const scratch = cpu_.scratch<P>(thread, static_cast<std::size_t>(scratch_size<P>(height_, step_)));
    if (by_columns_) return multiply_columns(columns, scratch);
    if (not_packed_.fetch_sub(1, std::memory_order_acq_rel) == 1) not_packed_.notify_all();
    for (Range rows = take_rows(); rows.begin < rows.end; rows = take_rows()) {
      multiply_rows(rows, open_[thread], scratch);
      unfinished_rows_.fetch_sub(rows.end - rows.begin, std::memory_order_relaxed);
    }
    help(thread, scratch);
  }

  void pack_b(Range columns) {
    const View<T> view = p_.transpose_b ? View<T>{p_.b, p_.k, 1} : View<T>{p_.b, 1, p_.n};
    for_each_depth([&](std::int64_t k, std::int64_t depth, P* packed) {
      pack<P>(view.from(columns.begin, k), columns.end - columns.begin, depth, tile_columns_,
              packed + columns.begin * panel_depth<P>(depth));
    });
  }

  void multiply_columns(Range columns, P* scratch) {
    if (columns.begin == columns.end) return;
    for (std::int64_t i = 0; i < p_.m; i += height_) {
      const Range rows{i, std::min(i + height_, p_.m)};
      for_each_depth([&](std::int64_t k, std::int64_t depth, const P* packed) {
        const BlockOfA<P> a = pack_a(rows, columns, k, depth, scratch);
        multiply_block<P>(a, columns.end - columns.begin, packed + columns.begin * panel_depth<P>(depth),
                          start(k).columns_from(columns.begin), p_.c + i * p_.n + columns.begin, p_.n, scratch);
      });
    }
  }

  Range take_rows() {
    const std::int64_t begin = next_rows_.fetch_add(height_, std::memory_order_relaxed);
    return {std::min(begin, p_.m), std::min(begin + height_, p_.m)};
  }

  void multiply_rows(Range rows, OpenBlock<P>& block, P* scratch) {
    for_each_depth([&](std::int64_t k, std::int64_t depth, const P* packed) {
      block.a = pack_a(rows, {0, p_.n}, k, depth, scratch);
      block.packed_b = packed;
      block.start = start(k);
      block.c = p_.c + rows.begin * p_.n;
      block.unfinished.store(static_cast<std::uint32_t>(panels_), std::memory_order_relaxed);
      await_zero(not_packed_);
      block.next.store(0, std::memory_order_release);
      while (multiply_a_panel(block, scratch)) {
      }
      await_zero(block.unfinished);
    });
  }

  /// False where none is left.
  bool multiply_a_panel(OpenBlock<P>& block, P* scratch) {
    if (block.next.load(std::memory_order_relaxed) >= panels_) return false;
    const std::int64_t panel = block.next.fetch_add(1, std::memory_order_acq_rel);
    if (panel >= panels_) return false;
    const std::int64_t j = panel * tile_columns_;
    multiply_block<P>(block.a, std::min(tile_columns_, p_.n - j), block.packed_b + j * panel_depth<P>(block.a.depth),
                      block.start.columns_from(j), block.c + j, p_.n, scratch, panel + 1 < panels_);
    if (block.unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) block.unfinished.notify_one();
    return true;
  }

  /// Until all rows are finished, or nothing was found for as long as packing a block may take: who holds one may itself be waiting for a
  /// processor.
  void help(int thread, P* scratch) {
    constexpr int kLooks = 400;
    for (int looks = 0; looks < kLooks && unfinished_rows_.load(std::memory_order_relaxed) > 0; ++looks) {
      for (int other = 1; other < cpu_.threads(); ++other) {
        while (multiply_a_panel(open_[(thread + other) % cpu_.threads()], scratch)) looks = 0;
      }
      watch_a_little();
    }
  }

  BlockOfA<P> pack_a(Range rows, Range columns, std::int64_t k, std::int64_t depth, P* scratch) const {
    const View<T> view = p_.transpose_a ? View<T>{p_.a, 1, p_.m} : View<T>{p_.a, p_.k, 1};
    return block_of_a<P>(rows.end - rows.begin, columns.end - columns.begin, depth, view.from(rows.begin, k), scratch,
                         p_.row_sums && columns.begin == 0 ? p_.row_sums + rows.begin : nullptr);
  }
  Start<T> start(std::int64_t k) const { return k == 0 ? p_.start : Start<T>{T(1), nullptr}; }

  /// Calls f(k, depth, packed) for each depth of those at hand; `packed` are its panels of B.
  template <class F>
  void for_each_depth(F&& f) const {
    for (std::int64_t k = first_; k < std::min(first_ + together_, p_.k); k += step_)
      f(k, std::min(step_, p_.k - k), packed_b_ + (k - first_) / step_ * block_of_b());
  }
  /// Elements of the panels of B of one depth.
  std::int64_t block_of_b() const { return panels_ * tile_columns_ * step_; }

  Cpu& cpu_;
  const DenseProduct<T>& p_;
  const std::int64_t tile_rows_ = kernel<P>().rows, tile_columns_ = kernel<P>().columns;
  const std::int64_t panels_ = tiles(p_.n, tile_columns_);
  const std::int64_t step_ = depth_block<P>(p_.k);
  std::int64_t together_, height_;  // depths that B is packed of at a time, rows of a block
  bool by_columns_;
  P* packed_b_;
  OpenBlock<P>* open_;  // [threads]
  std::int64_t first_ = 0;
  alignas(64) std::atomic<std::int64_t> next_rows_ = 0;
  std::atomic<std::int64_t> unfinished_rows_ = 0;
  std::atomic<std::uint32_t> not_packed_ = 0;  // threads that have not packed their part of B
};

}  // namespace

template <class P>
void multiply_dense(Cpu& cpu, const DenseProduct<Wide<P>>& p) {
  // Without depth only gradients of weights are asked for, and to them nothing is added.
  if (p.m > 0 && p.n > 0 && p.k > 0) Work<P>(cpu, p).run();
}

template void multiply_dense<float>(Cpu&, const DenseProduct<float>&);
template void multiply_dense<double>(Cpu&, const DenseProduct<double>&);
template void multiply_dense<bf16>(Cpu&, const DenseProduct<float>&);

}  // namespace moleblend::panels
