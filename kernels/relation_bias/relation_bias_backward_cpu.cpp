#include <algorithm>

#include "kernels/linear/linear.h"
#include "kernels/relation_bias/encodings_cpu.h"
#include "kernels/relation_bias/relation_bias.h"

namespace moleblend {
namespace {

using namespace relation;

/// One thread's sums of the gradients, in one run of memory.
template <class T>
struct Partial {
  T *begin, *end;
  T* spd;           // [512, H]
  T* hop;           // [5, 61, H] of the hop vectors, from which those of edge_table and W_hop follow
  T* graph_token;   // [H]
  T *mul, *bias;    // [1536]
  T *mean, *sigma;  // [K]
  T *w1, *b1;       // [K, K], [K]
  T *w2, *b2;       // [H, K], [H]

  static Partial carve(Carver& carver, std::int64_t heads, std::int64_t kernels) {
    Partial p;
    p.begin = p.spd = carver.take<T>(kSpdRows * heads);
    p.hop = carver.take<T>(kPathHops * kHopRows * heads);
    p.graph_token = carver.take<T>(heads);
    p.mul = carver.take<T>(kElementRows);
    p.bias = carver.take<T>(kElementRows);
    p.mean = carver.take<T>(kernels);
    p.sigma = carver.take<T>(kernels);
    p.w1 = carver.take<T>(kernels * kernels);
    p.b1 = carver.take<T>(kernels);
    p.w2 = carver.take<T>(heads * kernels);
    p.b2 = carver.take<T>(heads);
    p.end = carver.take<T>(0);
    return p;
  }
};

template <class T>
void add(std::int64_t count, const T* __restrict x, T* __restrict sum) {
  for (std::int64_t k = 0; k < count; ++k) sum[k] += x[k];
}

// Loops with several outputs are functions of their own, for their parameters' __restrict: without it they are not vectorised.

/// hidden *= dactivation, sum += hidden.
template <class T>
void multiply_and_add(std::int64_t count, const T* __restrict dactivation, T* __restrict hidden, T* __restrict sum) {
  for (std::int64_t k = 0; k < count; ++k) {
    hidden[k] *= dactivation[k];
    sum[k] += hidden[k];
  }
}

/// With z = (u − μ)/σ and c = dg g z/σ: dg ← c, dμ += c, dσ += dg g (z² − 1)/σ.
template <class T>
void gaussian_gradients(std::int64_t kernels, T u, const T* __restrict mean, const T* __restrict inverse_sigma,
                        const T* __restrict g, T* __restrict dg, T* __restrict dmean, T* __restrict dsigma) {
  for (std::int64_t k = 0; k < kernels; ++k) {
    const T z = (u - mean[k]) * inverse_sigma[k];
    const T w = dg[k] * g[k] * inverse_sigma[k];
    dg[k] = w * z;
    dmean[k] += w * z;
    dsigma[k] += w * (z * z - T(1));
  }
}

/// One thread's backward pass, row after row as in forward; Gaussians and MLP are computed again, a tile of pairs at a time.
template <class T>
class BackwardRows {
 public:
  BackwardRows(const RelationBiasBackward<T>& a, const Encodings<T>& encodings, const Partial<T>& partial,
               Carver& scratch, std::int64_t largest)
      : a_(a), in_(a.in), e_(encodings), sum_(partial) {
    const std::int64_t capacity = kTilePairs + largest;
    row_ = scratch.take<T>((largest + 1) * in_.heads);
    pairs_ = scratch.take<DistancePair<T>>(capacity);
    dout_ = scratch.take<T>(capacity * in_.heads);
    g_ = scratch.take<T>(capacity * in_.kernels);
    dg_ = scratch.take<T>(capacity * in_.kernels);
    hidden_ = scratch.take<T>(capacity * in_.kernels);
  }

  void row(std::int64_t b, std::int64_t token) {
    const std::int64_t n = in_.packed.atoms_of(b), tokens = n + 1, heads = in_.heads;
    const T* dbias = a_.dbias + heads * in_.packed.token_pair_offset[b] + token * tokens;
    for (std::int64_t h = 0; h < heads; ++h) {
      const T* source = dbias + h * tokens * tokens;
      for (std::int64_t j = 0; j < tokens; ++j) row_[j * heads + h] = source[j];
    }
    // Column 0 is the graph token's, as is all of row 0.
    for (std::int64_t j = 0; j < (token == 0 ? tokens : 1); ++j) add(heads, row_ + j * heads, sum_.graph_token);
    if (token == 0) return;

    const std::int64_t first = in_.packed.atom_offset[b], i = first + token - 1;
    const std::int64_t first_pair = in_.packed.pair_offset[b] + (token - 1) * n;
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int64_t pair = first_pair + j;
      const T* dvalue = row_ + (j + 1) * heads;
      look_up(pair, dvalue);
      const bool shows_distance = in_.pair_visible[pair] & kShowDistance;
      if (!shows_distance && !shows_gaussians(i)) continue;
      const Argument<T> argument = relation::argument(in_, i, first + j);
      if (shows_distance) {
        std::copy_n(dvalue, heads, dout_ + size_ * heads);
        pairs_[size_++] = {dbias + j + 1 - a_.dbias, tokens * tokens, i, first + j, argument};
      } else {
        T* g = g_ + size_ * in_.kernels;
        T* dg = dg_ + size_ * in_.kernels;
        gaussians(e_, in_.tables.gaussian_mean, in_.kernels, argument.u, g);
        std::copy_n(a_.dgaussian_sum + i * in_.kernels, in_.kernels, dg);
        gaussians_backward(i, first + j, argument, g, dg);
      }
    }
    if (size_ >= kTilePairs) flush();
  }

  /// The tile's pairs back through MLP and Gaussians.
  void flush() {
    const std::int64_t heads = in_.heads, kernels = in_.kernels;
    for (std::int64_t p = 0; p < size_; ++p) {
      gaussians(e_, in_.tables.gaussian_mean, kernels, pairs_[p].argument.u, g_ + p * kernels);
    }
    tile_product<T>(false, false, size_, kernels, kernels, g_, kernels, e_.w1_transposed, kernels, T(0), hidden_,
                    kernels);
    // dg_ holds gelu(h) until W₂'s gradient is taken, hidden_ gelu'(h) until it is used.
    const T* __restrict b1 = in_.tables.distance_b1;
    for (std::int64_t p = 0; p < size_; ++p) {
      T* __restrict hidden = hidden_ + p * kernels;
      T* __restrict activation = dg_ + p * kernels;
      for (std::int64_t k = 0; k < kernels; ++k) {
        const T h = hidden[k] + b1[k];
        const Normal<T> at = normal(h);
        activation[k] = h * at.cdf;
        hidden[k] = at.cdf + h * at.density;
      }
    }
    tile_product<T>(true, false, heads, kernels, size_, dout_, heads, dg_, kernels, T(1), sum_.w2, kernels);
    tile_product<T>(false, false, size_, kernels, heads, dout_, heads, in_.tables.distance_w2, kernels, T(0), dg_,
                    kernels);
    for (std::int64_t p = 0; p < size_; ++p) {
      add(heads, dout_ + p * heads, sum_.b2);
      multiply_and_add(kernels, dg_ + p * kernels, hidden_ + p * kernels, sum_.b1);
    }
    tile_product<T>(true, false, kernels, kernels, size_, hidden_, kernels, g_, kernels, T(1), sum_.w1, kernels);
    tile_product<T>(false, false, size_, kernels, kernels, hidden_, kernels, in_.tables.distance_w1, kernels, T(0), dg_,
                    kernels);
    for (std::int64_t p = 0; p < size_; ++p) {
      const DistancePair<T>& pair = pairs_[p];
      T* dg = dg_ + p * kernels;
      if (shows_gaussians(pair.row_atom)) add(kernels, a_.dgaussian_sum + pair.row_atom * kernels, dg);
      gaussians_backward(pair.row_atom, pair.column_atom, pair.argument, g_ + p * kernels, dg);
    }
    size_ = 0;
  }

 private:
  bool shows_gaussians(std::int64_t i) const { return a_.dgaussian_sum && (in_.atom_visible[i] & kShowGaussians); }

  /// Gradient of the SPD row and of the hop vectors that the pair shows.
  void look_up(std::int64_t pair, const T* dvalue) const {
    const std::int64_t heads = in_.heads;
    const unsigned visible = in_.pair_visible[pair];
    const int spd = in_.spd[pair];
    if (visible & kShowSpd) add(heads, dvalue, sum_.spd + (spd + 1) * heads);
    if (const int hops = hops_of(spd); (visible & kShowEdge) && hops > 0) {
      const T weight = T(1) / static_cast<T>(hops);
      for (int d = 0; d < hops; ++d) {
        T* __restrict hop = sum_.hop + (d * kHopRows + in_.path[pair * kPathHops + d]) * heads;
        for (std::int64_t h = 0; h < heads; ++h) hop[h] += weight * dvalue[h];
      }
    }
  }

  /// From dg [K] of a pair (used up) to means, widths and the element tables; du = −Σ c (see gaussian_gradients).
  void gaussians_backward(std::int64_t i, std::int64_t j, const Argument<T>& at, const T* g, T* dg) const {
    gaussian_gradients(in_.kernels, at.u, in_.tables.gaussian_mean, e_.inverse_sigma, g, dg, sum_.mean, sum_.sigma);
    const T du = -vector_sum<T>(in_.kernels, [&](std::int64_t k) { return dg[k]; });
    const std::int64_t row = row_element(in_.atom_codes[i * kAtomFeatures]),
                       column = column_element(in_.atom_codes[j * kAtomFeatures]);
    sum_.mul[row] += du * at.r;
    sum_.mul[column] += du * at.r;
    sum_.bias[row] += du;
    sum_.bias[column] += du;
  }

  const RelationBiasBackward<T>& a_;
  const RelationBiasInput<T>& in_;
  const Encodings<T>& e_;
  const Partial<T>& sum_;
  std::int64_t size_ = 0;   // pairs in the tile
  T* row_;                  // [n + 1, H] a row of dbias
  DistancePair<T>* pairs_;  // the tile
  T* dout_;                 // [capacity, H] gradient of the MLP's output
  T *g_, *dg_;              // [capacity, K]; the row after the tile serves pairs that need the Gaussians alone
  T* hidden_;               // [capacity, K]
};

/// gradients += the sums over threads, those of the hop vectors carried on to edge_table and W_hop. `bond_gradient` [61, H] is scratch.
template <class T>
void add_to_gradients(const RelationBiasInput<T>& in, const Encodings<T>& e, const Partial<T>& sum, T* bond_gradient,
                      const RelationTables<T>& out) {
  const std::int64_t heads = in.heads, kernels = in.kernels;
  add(kSpdRows * heads, sum.spd, out.spd_table);
  add(heads, sum.graph_token, out.graph_token);
  if (kernels > 0) {
    add(kElementRows, sum.mul, out.gaussian_mul);
    add(kElementRows, sum.bias, out.gaussian_bias);
    add(kernels, sum.mean, out.gaussian_mean);
    for (std::int64_t k = 0; k < kernels; ++k) {
      const T std = in.tables.gaussian_std[k];
      out.gaussian_std[k] += std > T(0) ? sum.sigma[k] : std < T(0) ? -sum.sigma[k] : T(0);
    }
    add(kernels * kernels, sum.w1, out.distance_w1);
    add(kernels, sum.b1, out.distance_b1);
    add(heads * kernels, sum.w2, out.distance_w2);
    add(heads, sum.b2, out.distance_b2);
  }

  for (std::int64_t d = 0; d < kPathHops; ++d) {
    const T* dhop = sum.hop + d * kHopRows * heads;
    tile_product<T>(true, false, heads, heads, kHopRows, e.bond_mean, heads, dhop, heads, T(1),
                    out.edge_hop + d * heads * heads, heads);
    tile_product<T>(false, true, kHopRows, heads, heads, dhop, heads, in.tables.edge_hop + d * heads * heads, heads,
                    d == 0 ? T(0) : T(1), bond_gradient, heads);
  }
  for (int code = 1; code < kHopRows; ++code) {
    const auto bond = static_cast<std::uint8_t>(code);
    for (int f = 0; f < kBondFeatures; ++f) {
      const int row = edge_row(bond, f);
      for (std::int64_t h = 0; h < heads; ++h)
        out.edge_table[row * heads + h] += bond_gradient[code * heads + h] / T(3);
    }
  }
}

}  // namespace

template <class T>
void relation_bias_backward(Cpu& cpu, const RelationBiasBackward<T>& a) {
  const std::int64_t heads = a.in.heads, kernels = a.in.kernels;
  Carver one_partial;
  Partial<T>::carve(one_partial, heads, kernels);
  Carver count;
  Encodings<T>::carve(count, heads, kernels);
  count.take<T>(kHopRows * heads);
  Carver shared(cpu.shared<std::byte>(count.bytes() + one_partial.bytes() * static_cast<std::size_t>(cpu.threads())));
  Encodings<T> encodings = Encodings<T>::carve(shared, heads, kernels);
  T* bond_gradient = shared.take<T>(kHopRows * heads);
  // The threads' sums follow each other at equal distances.
  const Partial<T> total = Partial<T>::carve(shared, heads, kernels);
  const std::int64_t length = total.end - total.begin;
  T* const partials = total.begin;

  encodings.build(a.in);
  const std::int64_t largest = a.in.packed.largest;
  cpu.parallel([&](int thread) {
    Carver own(partials + thread * length);
    const Partial<T> partial = Partial<T>::carve(own, heads, kernels);
    std::fill(partial.begin, partial.end, T(0));
    Carver needed;
    BackwardRows<T>(a, encodings, partial, needed, largest);
    Carver scratch(cpu.scratch<std::byte>(thread, needed.bytes()));
    BackwardRows<T> rows(a, encodings, partial, scratch, largest);
    for_each_row(a.in.packed, cpu.threads(), thread, [&](std::int64_t b, std::int64_t token) { rows.row(b, token); });
    rows.flush();
  });
  for (int thread = 1; thread < cpu.threads(); ++thread) add(length, partials + thread * length, partials);
  add_to_gradients(a.in, encodings, total, bond_gradient, a.gradients);
}

template void relation_bias_backward(Cpu&, const RelationBiasBackward<float>&);
template void relation_bias_backward(Cpu&, const RelationBiasBackward<double>&);

}  // namespace moleblend
