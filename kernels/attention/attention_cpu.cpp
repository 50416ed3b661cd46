#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/attention/probabilities.h"
#include "kernels/common/small_product.h"

namespace moleblend {
namespace {

using namespace simd;

/// Calls f(molecule, head) for this thread's share of all heads, cut by cost. A head costs its n² scores and, per
/// token, about as much as 16 of them for reading and transposing.
template <class F>
void for_each_head(const Packed& packed, std::int64_t heads, int threads, int thread, F&& f) {
  const auto start = [&](std::int64_t b) { return packed.token_pair_offset[b] + 16 * packed.token_offset(b); };
  const std::int64_t total = heads * start(packed.molecules);
  const std::int64_t begin = total * thread / threads, end = total * (thread + 1) / threads;
  std::int64_t b = 0;
  for (std::int64_t after = packed.molecules; b < after;) {  // the first molecule whose end lies past `begin`
    const std::int64_t middle = (b + after) / 2;
    if (heads * start(middle + 1) <= begin)
      b = middle + 1;
    else
      after = middle;
  }
  for (; b < packed.molecules && heads * start(b) < end; ++b) {
    const std::int64_t cost = start(b + 1) - start(b);
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t at = heads * start(b) + h * cost;
      if (at >= begin && at < end) f(b, h);
    }
  }
}

/// The memory of a molecule, fetched while the one before it is worked on. A head's rows are pieces of a line or two, far apart, which
/// processors don't foresee; but all heads of a molecule together read and write whole arrays. So with every head an even share of them is
/// asked for, in one run: in four runs a head, between its parts, forward took half as long again, and with several heads' shares at once
/// backward took longer.
template <class T>
class NextMolecule {
 public:
  /// Of the molecule after b, the share of head h. `columns` of its token rows and `scores` arrays of a value a pair will be named.
  NextMolecule(const AttentionInput<T>& in, std::int64_t b, std::int64_t h, std::int64_t columns, int scores) {
    if (b + 1 == in.packed.molecules) return;
    const std::int64_t n = in.packed.atoms_of(b + 1) + 1, all = n * columns + scores * in.heads * n * n;
    if (all * static_cast<std::int64_t>(sizeof(T)) > kMost) return;
    tokens_ = {in.packed.token_offset(b + 1), n};
    scores_ = {in.heads * in.packed.token_pair_offset[b + 1], in.heads * n * n};
    begin_ = all * h / in.heads;
    end_ = all * (h + 1) / in.heads;
  }
  void fetch_rows(const T* rows, std::int64_t columns) {
    fetch(rows, tokens_.first * columns, tokens_.count * columns);
  }
  /// None if null.
  void fetch_scores(const T* scores) {
    if (scores) fetch(scores, scores_.first, scores_.count);
  }

 private:
  static constexpr std::int64_t kMost = std::int64_t{1} << 20;  // bytes: more would not stay in a second-level cache
  struct Part {
    std::int64_t first, count;
  };

  void fetch(const T* array, std::int64_t first, std::int64_t count) {
    constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
    const std::int64_t last = std::min(end_, count);
    for (std::int64_t k = std::max<std::int64_t>(begin_, 0); k < last; k += kLine)
      __builtin_prefetch(array + first + k);
    begin_ -= count;
    end_ -= count;
  }

  Part tokens_{}, scores_{};
  std::int64_t begin_ = 0, end_ = 0;  // the share, as places in what is named next
};

/// Scratch that the largest molecule needs: elements of a tile of scores, and of a head's transposed keys or values.
struct ScratchSizes {
  std::int64_t tile = 0, transposed = 0;
  ScratchSizes(const Packed& packed, std::int64_t d) {
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      const std::int64_t n = packed.atoms_of(b) + 1;
      tile = std::max(tile, piece(tile_rows(n) * padded(n)));
      transposed = std::max(transposed, piece(d * padded(n)));
    }
  }
};

/// One head of one molecule: where its rows lie, and its tiles of probabilities.
template <class T>
struct Head {
  const AttentionInput<T>& in;
  std::int64_t b, h;
  std::int64_t n = in.packed.atoms_of(b) + 1;
  std::int64_t token = in.packed.token_offset(b);
  std::int64_t d = in.width / in.heads;
  std::int64_t ld = 3 * in.width;
  std::int64_t stride = padded(n);
  std::int64_t block = in.heads * in.packed.token_pair_offset[b] + h * n * n;  // of the bias
  const T* q = in.qkv + token * ld + h * d;
  const T* k = q + in.width;
  const T* v = k + in.width;

  /// Probabilities of rows [first, first + rows) into `p`, and times dropout into `dropped` (which may be `p`);
  /// `factor` is room for the dropout factors. Neither of the latter is touched without dropout.
  void probabilities(std::int64_t first, std::int64_t rows, const T* k_transposed, T* factor, T* p, T* dropped) const {
    small_product(rows, stride, d, {q + first * ld, ld, 1}, k_transposed, stride, p, stride);
    const bool drop = in.dropout.active();
    if (drop) {
      dropout_factors(in.molecule_key[b], Draw::attention_dropout, in.layer,
                      static_cast<std::uint64_t>((h * n + first) * stride), rows * stride, in.dropout, factor);
    }
    const T* bias = in.bias ? in.bias + block + first * n : nullptr;
    const T* bias_end = in.bias ? in.bias + in.heads * in.packed.token_pairs() : nullptr;
    softmax_rows<T>({rows, n, stride, in.scale, bias, n, bias_end, p, drop ? factor : nullptr, dropped});
  }
};

}  // namespace

template <class T>
void attention_forward(Cpu& cpu, const AttentionForward<T>& a) {
  const AttentionInput<T>& in = a.in;
  const std::int64_t d = in.width / in.heads;
  const auto [tile, transposed] = ScratchSizes(in.packed, d);
  cpu.parallel([&, tile = tile, transposed = transposed](int thread) {
    T* k_transposed = cpu.scratch<T>(thread, static_cast<std::size_t>(transposed + 2 * tile));
    T* p = k_transposed + transposed;
    T* factor = p + tile;
    for_each_head(in.packed, in.heads, cpu.threads(), thread, [&](std::int64_t b, std::int64_t h) {
      const Head<T> head{in, b, h};
      NextMolecule<T> next(in, b, h, 4 * in.width, in.bias ? 1 : 0);
      next.fetch_rows(in.qkv, 3 * in.width);
      next.fetch_rows(a.out, in.width);
      next.fetch_scores(in.bias);
      transpose_padded(head.n, d, head.k, head.ld, k_transposed);
      const std::int64_t step = tile_rows(head.n);
      for (std::int64_t i = 0; i < head.n; i += step) {
        const std::int64_t rows = std::min(step, head.n - i);
        head.probabilities(i, rows, k_transposed, factor, p, p);
        small_product(rows, d, head.n, {p, head.stride, 1}, head.v, head.ld,
                      a.out + (head.token + i) * in.width + h * d, in.width);
      }
    });
  });
}

template <class T>
void attention_backward(Cpu& cpu, const AttentionBackward<T>& a) {
  const AttentionInput<T>& in = a.in;
  const std::int64_t d = in.width / in.heads;
  const auto [tile, transposed] = ScratchSizes(in.packed, d);
  cpu.parallel([&, tile = tile, transposed = transposed](int thread) {
    T* k_transposed = cpu.scratch<T>(thread, static_cast<std::size_t>(2 * transposed + 4 * tile));
    T* v_transposed = k_transposed + transposed;
    T* p = v_transposed + transposed;
    T* factor = p + tile;
    T* dp = factor + tile;
    T* with_dropout = in.dropout.active() ? dp + tile : p;
    for_each_head(in.packed, in.heads, cpu.threads(), thread, [&](std::int64_t b, std::int64_t h) {
      const Head<T> head{in, b, h};
      const std::int64_t n = head.n, ld = head.ld, stride = head.stride;
      NextMolecule<T> next(in, b, h, 7 * in.width, (in.bias ? 1 : 0) + (a.dbias ? 1 : 0));
      next.fetch_rows(in.qkv, 3 * in.width);
      next.fetch_rows(a.dout, in.width);
      next.fetch_rows(a.dqkv, 3 * in.width);
      next.fetch_scores(in.bias);
      next.fetch_scores(a.dbias);
      transpose_padded(n, d, head.k, ld, k_transposed);
      transpose_padded(n, d, head.v, ld, v_transposed);
      T* dq = a.dqkv + (head.q - in.qkv);
      T* dk = dq + in.width;
      T* dv = dk + in.width;
      const std::int64_t step = tile_rows(n);
      for (std::int64_t i = 0; i < n; i += step) {
        const std::int64_t rows = std::min(step, n - i);
        const T* dout = a.dout + (head.token + i) * in.width + h * d;
        head.probabilities(i, rows, k_transposed, factor, p, with_dropout);
        small_product(n, d, rows, {with_dropout, 1, stride}, dout, in.width, dv, ld, i > 0);
        small_product(rows, stride, d, {dout, in.width, 1}, v_transposed, stride, dp, stride);
        T* dbias = a.dbias ? a.dbias + head.block : nullptr;
        score_gradient_rows<T>({rows, n, stride, in.scale, p, in.dropout.active() ? factor : nullptr, dp,
                                dbias ? dbias + i * n : nullptr, n, dbias ? dbias + n * n : nullptr});
        small_product(rows, d, n, {dp, stride, 1}, head.k, ld, dq + i * ld, ld);
        small_product(n, d, rows, {dp, 1, stride}, head.q + i * ld, ld, dk, ld, i > 0);
      }
    });
  });
}

template void attention_forward(Cpu&, const AttentionForward<float>&);
template void attention_forward(Cpu&, const AttentionForward<double>&);
template void attention_backward(Cpu&, const AttentionBackward<float>&);
template void attention_backward(Cpu&, const AttentionBackward<double>&);

}  // namespace moleblend
