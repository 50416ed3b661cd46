#include <algorithm>

#include "kernels/activation/activation.h"
#include "kernels/linear/linear.h"
#include "kernels/relation_bias/encodings_cpu.h"
#include "kernels/relation_bias/relation_bias.h"

namespace moleblend {
namespace {

using namespace relation;

/// One thread's forward pass: row after row the look-ups go straight to the bias, while pairs that show their distance collect in a
/// tile, which the MLP then adds to the bias. Every value is summed in an order that does not depend on the tiles' bounds.
template <class T>
class ForwardRows {
 public:
  ForwardRows(const RelationBiasForward<T>& a, const Encodings<T>& encodings, Carver& scratch, std::int64_t largest)
      : a_(a), in_(a.in), e_(encodings) {
    const std::int64_t capacity = kTilePairs + largest;
    row_ = scratch.take<T>((largest + 1) * in_.heads);
    pairs_ = scratch.take<DistancePair<T>>(capacity);
    g_ = scratch.take<T>(capacity * in_.kernels);
    hidden_ = scratch.take<T>(capacity * in_.kernels);
    out_ = scratch.take<T>(capacity * in_.heads);
  }

  void row(std::int64_t b, std::int64_t token) {
    const std::int64_t n = in_.packed.atoms_of(b), tokens = n + 1;
    T* bias = a_.bias + in_.heads * in_.packed.token_pair_offset[b] + token * tokens;
    if (token == 0) {
      for (std::int64_t h = 0; h < in_.heads; ++h)
        std::fill_n(bias + h * tokens * tokens, tokens, in_.tables.graph_token[h]);
      return;
    }
    const std::int64_t first = in_.packed.atom_offset[b], i = first + token - 1;
    const std::int64_t first_pair = in_.packed.pair_offset[b] + (token - 1) * n;
    const bool shows_gaussians = a_.gaussian_sum && (in_.atom_visible[i] & kShowGaussians);
    T* sum = a_.gaussian_sum ? a_.gaussian_sum + i * in_.kernels : nullptr;
    if (sum) std::fill_n(sum, in_.kernels, T(0));
    std::copy_n(in_.tables.graph_token, in_.heads, row_);
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int64_t pair = first_pair + j;
      look_up(pair, row_ + (j + 1) * in_.heads);
      const bool shows_distance = in_.pair_visible[pair] & kShowDistance;
      if (!shows_distance && !shows_gaussians) continue;
      const Argument<T> argument = relation::argument(in_, i, first + j);
      if (shows_distance) {
        pairs_[size_++] = {bias + j + 1 - a_.bias, tokens * tokens, i, first + j, argument};
      } else {
        gaussians(e_, in_.tables.gaussian_mean, in_.kernels, argument.u, g_ + size_ * in_.kernels);
        add(g_ + size_ * in_.kernels, sum);
      }
    }
    for (std::int64_t h = 0; h < in_.heads; ++h) {
      T* __restrict out = bias + h * tokens * tokens;
      for (std::int64_t j = 0; j < tokens; ++j) out[j] = row_[j * in_.heads + h];
    }
    if (size_ >= kTilePairs) flush();
  }

  /// The tile's pairs through Gaussians and MLP.
  void flush() {
    const std::int64_t heads = in_.heads, kernels = in_.kernels;
    for (std::int64_t p = 0; p < size_; ++p) {
      T* g = g_ + p * kernels;
      gaussians(e_, in_.tables.gaussian_mean, kernels, pairs_[p].argument.u, g);
      const std::int64_t i = pairs_[p].row_atom;
      if (a_.gaussian_sum && (in_.atom_visible[i] & kShowGaussians)) add(g, a_.gaussian_sum + i * kernels);
    }
    tile_product<T>(false, false, size_, kernels, kernels, g_, kernels, e_.w1_transposed, kernels, T(0), hidden_,
                    kernels);
    const T* __restrict b1 = in_.tables.distance_b1;
    for (std::int64_t p = 0; p < size_; ++p) {
      T* __restrict hidden = hidden_ + p * kernels;
      for (std::int64_t k = 0; k < kernels; ++k) hidden[k] = gelu(hidden[k] + b1[k]);
    }
    tile_product<T>(false, false, size_, heads, kernels, hidden_, kernels, e_.w2_transposed, heads, T(0), out_, heads);
    for (std::int64_t p = 0; p < size_; ++p) {
      T* bias = a_.bias + pairs_[p].bias_at;
      for (std::int64_t h = 0; h < heads; ++h)
        bias[h * pairs_[p].head_stride] += out_[p * heads + h] + in_.tables.distance_b2[h];
    }
    size_ = 0;
  }

 private:
  /// out [H] = the look-ups that the pair shows: SPD and path edges.
  void look_up(std::int64_t pair, T* __restrict out) const {
    const std::int64_t heads = in_.heads;
    const unsigned visible = in_.pair_visible[pair];
    const int spd = in_.spd[pair];
    if (visible & kShowSpd) {
      std::copy_n(in_.tables.spd_table + (spd + 1) * heads, heads, out);
    } else {
      std::fill_n(out, heads, T(0));
    }
    if (const int hops = hops_of(spd); (visible & kShowEdge) && hops > 0) {
      const T weight = T(1) / static_cast<T>(hops);
      for (int d = 0; d < hops; ++d) {
        const T* hop = e_.hop + (d * kHopRows + in_.path[pair * kPathHops + d]) * heads;
        for (std::int64_t h = 0; h < heads; ++h) out[h] += weight * hop[h];
      }
    }
  }

  void add(const T* __restrict g, T* __restrict sum) const {
    for (std::int64_t k = 0; k < in_.kernels; ++k) sum[k] += g[k];
  }

  const RelationBiasForward<T>& a_;
  const RelationBiasInput<T>& in_;
  const Encodings<T>& e_;
  std::int64_t size_ = 0;   // pairs in the tile
  T* row_;                  // [n + 1, H] a row's look-ups
  DistancePair<T>* pairs_;  // the tile
  T *g_, *hidden_,
      *out_;  // [capacity, K], [capacity, K], [capacity, H]; g's row after the tile serves pairs outside it
};

}  // namespace

template <class T>
void relation_bias_forward(Cpu& cpu, const RelationBiasForward<T>& a) {
  Carver count;
  Encodings<T>::carve(count, a.in.heads, a.in.kernels);
  Carver shared(cpu.shared<std::byte>(count.bytes()));
  Encodings<T> encodings = Encodings<T>::carve(shared, a.in.heads, a.in.kernels);
  encodings.build(a.in);
  const std::int64_t largest = a.in.packed.largest;
  cpu.parallel([&](int thread) {
    Carver needed;
    ForwardRows<T>(a, encodings, needed, largest);
    Carver scratch(cpu.scratch<std::byte>(thread, needed.bytes()));
    ForwardRows<T> rows(a, encodings, scratch, largest);
    for_each_row(a.in.packed, cpu.threads(), thread, [&](std::int64_t b, std::int64_t token) { rows.row(b, token); });
    rows.flush();
  });
}

template void relation_bias_forward(Cpu&, const RelationBiasForward<float>&);
template void relation_bias_forward(Cpu&, const RelationBiasForward<double>&);

}  // namespace moleblend
