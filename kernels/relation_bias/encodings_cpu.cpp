#include "kernels/relation_bias/encodings_cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/linear/linear.h"

namespace moleblend::relation {
namespace {

/// out [columns, rows] = the transpose of x [rows, columns].
template <class T>
void transpose(std::int64_t rows, std::int64_t columns, const T* __restrict x, T* __restrict out) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) out[c * rows + r] = x[r * columns + c];
  }
}

}  // namespace

template <class T>
Encodings<T> Encodings<T>::carve(Carver& carver, std::int64_t heads, std::int64_t kernels) {
  Encodings e;
  e.bond_mean = carver.take<T>(kHopRows * heads);
  e.hop = carver.take<T>(kPathHops * kHopRows * heads);
  e.inverse_sigma = carver.take<T>(kernels);
  e.height = carver.take<T>(kernels);
  e.w1_transposed = carver.take<T>(kernels * kernels);
  e.w2_transposed = carver.take<T>(kernels * heads);
  return e;
}

template <class T>
void Encodings<T>::build(const RelationBiasInput<T>& in) {
  const std::int64_t heads = in.heads, kernels = in.kernels;
  std::fill_n(bond_mean, heads, T(0));
  for (int code = 1; code < kHopRows; ++code) {
    const auto bond = static_cast<std::uint8_t>(code);
    const T* type = in.tables.edge_table + edge_row(bond, 0) * heads;
    const T* stereo = in.tables.edge_table + edge_row(bond, 1) * heads;
    const T* conjugated = in.tables.edge_table + edge_row(bond, 2) * heads;
    for (std::int64_t h = 0; h < heads; ++h) bond_mean[code * heads + h] = (type[h] + stereo[h] + conjugated[h]) / T(3);
  }
  for (std::int64_t d = 0; d < kPathHops; ++d) {
    tile_product<T>(false, false, kHopRows, heads, heads, bond_mean, heads, in.tables.edge_hop + d * heads * heads,
                    heads, T(0), hop + d * kHopRows * heads, heads);
  }
  for (std::int64_t k = 0; k < kernels; ++k) {
    // π as the reference has it.
    const double sigma = std::abs(static_cast<double>(in.tables.gaussian_std[k])) + 0.01;
    inverse_sigma[k] = static_cast<T>(1 / sigma);
    height[k] = static_cast<T>(1 / (std::sqrt(2 * 3.14159) * sigma));
  }
  transpose(kernels, kernels, in.tables.distance_w1, w1_transposed);
  transpose(heads, kernels, in.tables.distance_w2, w2_transposed);
}

RowCut row_cut(const Packed& packed, int parts, int part) {
  if (part == 0) return {0, 0};
  if (part == parts) return {packed.molecules, 0};
  const std::int64_t target = packed.pairs() * part / parts;
  const std::int64_t* end = packed.pair_offset + packed.molecules + 1;
  const std::int64_t b = std::upper_bound(packed.pair_offset, end, target) - packed.pair_offset - 1;
  if (b >= packed.molecules) return {packed.molecules, 0};
  return {b, (target - packed.pair_offset[b]) / packed.atoms_of(b)};
}

template struct Encodings<float>;
template struct Encodings<double>;

}  // namespace moleblend::relation
