#include <algorithm>
#include <atomic>

#include "kernels/linear/linear.h"
#include "kernels/linear/panels_cpu.h"

namespace moleblend {
namespace {

using namespace panels;

/// sum[i] += Σ_p x[p, i], x [depth, count] at `ld`, count <= kRows<T>.
template <class T>
void add_column_sums(std::int64_t depth, std::int64_t count, const T* x, std::int64_t ld, T* sum) {
  T partial[kRows<T>];
  for (std::int64_t first = 0; first < depth; first += kSumRows) {
    std::fill_n(partial, count, T(0));
    for (std::int64_t p = first; p < std::min(depth, first + kSumRows); ++p) {
      for (std::int64_t i = 0; i < count; ++i) partial[i] += x[p * ld + i];
    }
    for (std::int64_t i = 0; i < count; ++i) sum[i] += partial[i];
  }
}

/// C [m, n] = op(A) [m, k] · op(B) [k, n] + start, dense, on all threads: op transposes where the flag is set.
template <class T>
struct Product {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  const T *a, *b;
  Start<T> start;
  T* c;
  T* row_sums;  // [m] += Σ_p op(A)[i, p], with transpose_a only; or null
};

/// Whether C is cut into columns for the threads, because they share those out clearly more evenly: rows are better, for then no two threads
/// pack the same part of A, and a thread that is held up leaves more of them to the others.
bool cut_by_columns(std::int64_t row_tiles, std::int64_t column_tiles, int threads) {
  const auto largest_share = [&](std::int64_t tiles) { return (tiles + threads - 1) / threads; };
  return 10 * largest_share(row_tiles) * column_tiles > 11 * row_tiles * largest_share(column_tiles);
}

/// Hands out rows of C to threads as they come. Many rows: large blocks first, small ones last, but each large enough to be worth reading all
/// of B. Few: as many equal ones for each thread, for there small ones cost more (base's weight gradients on two threads: 9 %) than a thread
/// that is held up. Which thread takes which does not change what becomes of them.
template <class P>
class Rows {
 public:
  Rows(std::int64_t count, std::int64_t tile, int threads)
      : count_(count),
        tile_(tile),
        threads_(threads),
        equal_(threads == 1 || count <= 2 * threads * kRows<P> ? row_block<P>((count + threads - 1) / threads, tile)
                                                               : 0),
        least_(round_up(std::min(count / (8 * threads) + 1, 4 * tile), tile)) {}
  /// The next block, at most kRows high; empty when all are taken.
  Range take() {
    for (std::int64_t begin = next_.load(); begin < count_;) {
      const std::int64_t left = count_ - begin;
      const std::int64_t height =
          equal_ > 0 ? equal_ : std::clamp(round_up(left / (2 * threads_) + 1, tile_), least_, kRows<P>);
      const std::int64_t end = std::min(begin + height, count_);
      if (next_.compare_exchange_weak(begin, end)) return {begin, end};
    }
    return {count_, count_};
  }

 private:
  const std::int64_t count_, tile_;
  const int threads_;
  const std::int64_t equal_, least_;  // equal: the height of all; 0: they become smaller
  std::atomic<std::int64_t> next_ = 0;
};

/// The panels of B are packed by all threads for all, as many depths at a time as fit into kShared; then each thread multiplies rows of A
/// with them. P is what panels hold.
template <class P, class T = Wide<P>>
void product(Cpu& cpu, const Product<T>& p) {
  // Elements in 8 MiB, which stay in the third-level cache.
  constexpr std::int64_t kShared = (std::int64_t{8} << 20) / static_cast<std::int64_t>(sizeof(P));
  const View<T> rows_of_a = p.transpose_a ? View<T>{p.a, 1, p.m} : View<T>{p.a, p.k, 1};
  const View<T> columns_of_b = p.transpose_b ? View<T>{p.b, p.k, 1} : View<T>{p.b, 1, p.n};
  const std::int64_t tile_rows = kernel<P>().rows, tile_columns = kernel<P>().columns;
  if (p.m == 0 || p.n == 0 || p.k == 0)
    return;  // without depth only weights are asked for, and to them nothing is added
  const std::int64_t step = depth_block<P>(p.k), block = round_up(p.n, tile_columns) * step;
  const std::int64_t together = std::clamp<std::int64_t>(kShared / block, 1, (p.k + step - 1) / step) * step;
  P* const packed_b = cpu.shared<P>(static_cast<std::size_t>(together / step * block));
  const auto tiles = [](std::int64_t count, std::int64_t size) { return (count + size - 1) / size; };
  const bool by_columns = cut_by_columns(tiles(p.m, tile_rows), tiles(p.n, tile_columns), cpu.threads());
  for (std::int64_t first = 0; first < p.k; first += together) {
    const std::int64_t last = std::min(first + together, p.k);
    // Calls f(k, depth, packed) for each depth block of [first, last).
    const auto for_each_depth = [&](auto&& f) {
      for (std::int64_t k = first; k < last; k += step)
        f(k, std::min(step, p.k - k), packed_b + (k - first) / step * block);
    };
    cpu.parallel([&](int thread) {
      const auto [begin, end] = even_part(p.n, cpu.threads(), thread, tile_columns);
      for_each_depth([&, begin = begin, end = end](std::int64_t k, std::int64_t depth, P* packed) {
        pack<P>(columns_of_b.from(begin, k), end - begin, depth, tile_columns, packed + begin * panel_depth<P>(depth));
      });
    });
    Rows<P> rows(p.m, tile_rows, cpu.threads());
    cpu.parallel([&](int thread) {
      P* const scratch = cpu.scratch<P>(thread, static_cast<std::size_t>(scratch_size<P>(kRows<P>, step)));
      const auto multiply_rows = [&](Range part, Range columns) {
        const std::int64_t i = part.begin, j = columns.begin;
        for_each_depth([&](std::int64_t k, std::int64_t depth, const P* packed) {
          const Start<T> start = k == 0 ? p.start.columns_from(j) : Start<T>{T(1), nullptr};
          multiply_block<P>(part.end - i, columns.end - j, depth, rows_of_a.from(i, k),
                            packed + j * panel_depth<P>(depth), start, p.c + i * p.n + j, p.n, scratch,
                            p.row_sums && j == 0 ? p.row_sums + i : nullptr);
        });
      };
      if (by_columns) {
        const Range columns = even_part(p.n, cpu.threads(), thread, tile_columns);
        const std::int64_t most = row_block<P>(p.m, tile_rows);
        for (std::int64_t i = 0; i < p.m && columns.begin < columns.end; i += most)
          multiply_rows({i, std::min(i + most, p.m)}, columns);
      } else {
        for (Range part = rows.take(); part.begin < part.end; part = rows.take()) multiply_rows(part, {0, p.n});
      }
    });
  }
}

/// In the precision that the device multiplies in.
template <class T>
void multiply(Cpu& cpu, const Product<T>& p) {
  if constexpr (std::is_same_v<T, float>)
    if (cpu.bf16_products()) return product<bf16>(cpu, p);
  product<T>(cpu, p);
}

}  // namespace

template <class T>
void linear_forward(Cpu& cpu, const LinearForward<T>& a) {
  multiply<T>(cpu, {.transpose_a = false,
                    .transpose_b = true,
                    .m = a.rows,
                    .n = a.out,
                    .k = a.in,
                    .a = a.x,
                    .b = a.weight,
                    .start = {T(0), a.bias},
                    .c = a.y,
                    .row_sums = nullptr});
}

template <class T>
void linear_backward(Cpu& cpu, const LinearBackward<T>& a) {
  if (a.dx) {
    multiply<T>(cpu, {.transpose_a = false,
                      .transpose_b = false,
                      .m = a.rows,
                      .n = a.in,
                      .k = a.out,
                      .a = a.dy,
                      .b = a.weight,
                      .start = {a.add_to_dx ? T(1) : T(0), nullptr},
                      .c = a.dx,
                      .row_sums = nullptr});
  }
  if (a.dweight) {
    multiply<T>(cpu, {.transpose_a = true,
                      .transpose_b = false,
                      .m = a.out,
                      .n = a.in,
                      .k = a.rows,
                      .a = a.dy,
                      .b = a.x,
                      .start = {T(1), nullptr},
                      .c = a.dweight,
                      .row_sums = a.dbias});
  } else if (a.dbias) {
    cpu.parallel([&](int thread) {
      const auto [begin, end] = even_part(a.out, cpu.threads(), thread, kRows<T>);
      for (std::int64_t j = begin; j < end; j += kRows<T>)
        add_column_sums(a.rows, std::min(kRows<T>, end - j), a.dy + j, a.out, a.dbias + j);
    });
  }
}

template void linear_forward(Cpu&, const LinearForward<float>&);
template void linear_forward(Cpu&, const LinearForward<double>&);
template void linear_backward(Cpu&, const LinearBackward<float>&);
template void linear_backward(Cpu&, const LinearBackward<double>&);

}  // namespace moleblend
