// Cross-entropy of the SPD classes and of the hops' bond classes.

#include <array>
#include <cmath>

#include "kernels/pair_head/bilinear_pass.h"

namespace moleblend {
namespace {

using namespace simd;

/// Cross-entropy over `classes` of a row of pairs, all lanes at once: logits [classes, stride], `target` [stride] the class, or −1 for
/// pairs that do not count. With `gradient`, logits ← scale · (softmax − [class = target]), zero where nothing counts.
///
/// Σ log s_j of the softmax sums is taken as the logarithm of their product: each lies between 1 and 24, so a float holds the product of
/// several, a double that of many, and one logarithm serves a row.
template <class T>
void cross_entropy_row(std::int64_t classes, std::int64_t stride, const T* target, T scale, bool gradient, T* logits,
                       PairLossResult& result) {
  constexpr int w = kLanes<T>;
  constexpr std::int64_t kTogether = 8;  // vectors whose lanes are gathered before they are looked at one by one
  double product = 1, loss = 0;
  for (std::int64_t first = 0; first < stride; first += kTogether * w) {
    Vector<T> below = {}, products = all(T(1));  // of the lanes that count: Σ (largest − target's logit), Π s
    Mask<T> count = {}, correct = {};            // minus how many
    for (std::int64_t j = first; j < std::min(stride, first + kTogether * w); j += w) {
      const Vector<T> wanted = load(target + j);
      const Mask<T> counts = wanted >= T(0);
      T* column = logits + j;
      Vector<T> largest = load(column), best{}, of_target = largest;
      for (std::int64_t k = 1; k < classes; ++k) {
        const Vector<T> x = load(column + k * stride), index = all(static_cast<T>(k));
        const Mask<T> more = x > largest;  // strictly: of equal logits the first class is the prediction
        largest = more ? x : largest;
        best = more ? index : best;
        of_target = wanted == index ? x : of_target;
      }
      Vector<T> sum{};
      for (std::int64_t k = 0; k < classes; ++k) {
        const Vector<T> e = exp_nonpositive<T>(load(column + k * stride) - largest);
        sum += e;
        if (gradient) store(column + k * stride, e);
      }
      if (gradient) {
        const Vector<T> factor = scale / sum;
        for (std::int64_t k = 0; k < classes; ++k) {
          const Vector<T> one = wanted == static_cast<T>(k) ? all(scale) : Vector<T>{};
          store(column + k * stride, counts ? load(column + k * stride) * factor - one : Vector<T>{});
        }
      }
      below += counts ? largest - of_target : Vector<T>{};
      products *= counts ? sum : all(T(1));
      count += counts;
      correct += counts & (best == wanted);
    }
    for (int lane = 0; lane < w; ++lane) {
      loss += static_cast<double>(below[lane]);
      product *= static_cast<double>(products[lane]);
      result.count -= count[lane];
      result.correct -= correct[lane];
    }
    if (!(product < 1e200)) {
      loss += std::log(product);
      product = 1;
    }
  }
  result.loss += loss + std::log(product);
}

/// Classes of SPD as a loss of bilinear_pass.h.
template <class T>
struct SpdRows {
  const Packed& packed;
  const std::uint16_t* spd;
  T scale;

  void begin(std::int64_t, PairLossResult&) const {}
  bool any(std::int64_t b, std::int64_t i, std::int64_t) const {
    const std::int64_t n = packed.atoms_of(b);
    const std::uint16_t* row = spd + packed.pair_offset[b] + i * n;
    return std::any_of(row, row + n, [](int s) { return spd_class(s) >= 0; });
  }
  void row(std::int64_t b, std::int64_t i, std::int64_t, std::int64_t stride, bool gradient, T* outputs, T* room,
           PairLossResult& result) const {
    const std::int64_t n = packed.atoms_of(b);
    const std::uint16_t* s = spd + packed.pair_offset[b] + i * n;
    for (std::int64_t j = 0; j < stride; ++j) room[j] = static_cast<T>(j < n ? spd_class(s[j]) : -1);
    cross_entropy_row(kSpdClasses, stride, room, scale, gradient, outputs, result);
  }
};

constexpr auto kEdgeClassOfCode = [] {
  std::array<std::int8_t, kBondCodes + 1> table{};
  for (int code = 0; code <= kBondCodes; ++code)
    table[static_cast<std::size_t>(code)] = static_cast<std::int8_t>(edge_class(static_cast<std::uint8_t>(code)));
  return table;
}();

/// Classes of hop `block` of each path.
template <class T>
struct EdgeRows {
  const Packed& packed;
  const std::uint8_t* path;
  T scale;

  void begin(std::int64_t, PairLossResult&) const {}
  const std::uint8_t* codes(std::int64_t b, std::int64_t i, std::int64_t block) const {
    return path + (packed.pair_offset[b] + i * packed.atoms_of(b)) * kPathHops + block;
  }
  bool any(std::int64_t b, std::int64_t i, std::int64_t block) const {
    const std::uint8_t* code = codes(b, i, block);
    const std::int64_t n = packed.atoms_of(b);
    for (std::int64_t j = 0; j < n; ++j)
      if (kEdgeClassOfCode[code[j * kPathHops]] >= 0) return true;
    return false;
  }
  void row(std::int64_t b, std::int64_t i, std::int64_t block, std::int64_t stride, bool gradient, T* outputs, T* room,
           PairLossResult& result) const {
    const std::uint8_t* code = codes(b, i, block);
    const std::int64_t n = packed.atoms_of(b);
    for (std::int64_t j = 0; j < stride; ++j)
      room[j] = static_cast<T>(j < n ? kEdgeClassOfCode[code[j * kPathHops]] : -1);
    cross_entropy_row(kEdgeClasses, stride, room, scale, gradient, outputs, result);
  }
};

}  // namespace

template <class T>
void spd_loss(Cpu& cpu, const SpdLoss<T>& a) {
  *a.result =
      pair_head::run(cpu, a.packed, a.head, 1, a.scale, a.logits, SpdRows<T>{a.packed, a.spd, static_cast<T>(a.scale)});
}

template <class T>
void edge_loss(Cpu& cpu, const EdgeLoss<T>& a) {
  *a.result = pair_head::run(cpu, a.packed, a.head, kPathHops, a.scale, a.logits,
                             EdgeRows<T>{a.packed, a.path, static_cast<T>(a.scale)});
}

template void spd_loss(Cpu&, const SpdLoss<float>&);
template void spd_loss(Cpu&, const SpdLoss<double>&);
template void edge_loss(Cpu&, const EdgeLoss<float>&);
template void edge_loss(Cpu&, const EdgeLoss<double>&);

}  // namespace moleblend
