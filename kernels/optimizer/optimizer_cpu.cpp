#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#include "kernels/optimizer/optimizer.h"

namespace moleblend {
namespace {

constexpr std::int64_t kNormBlock = 4096, kAdamBlock = 64;

/// Σ g² of at most a block, in sixteen running sums: a fixed order that the compiler can keep in vectors.
template <class T>
double sum_of_squares(const T* g, std::int64_t count) {
  double lane[16] = {};
  std::int64_t k = 0;
  for (; k + 16 <= count; k += 16)
    for (int l = 0; l < 16; ++l) lane[l] += static_cast<double>(g[k + l]) * static_cast<double>(g[k + l]);
  for (int l = 0; k < count; ++k, ++l) lane[l] += static_cast<double>(g[k]) * static_cast<double>(g[k]);
  double sum = 0;
  for (const double part : lane) sum += part;
  return sum;
}

/// Whether all three are +0 throughout.
template <class T>
bool all_zero(const T* x, const T* y, const T* z, std::int64_t count) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  Bits any = 0;
  for (std::int64_t k = 0; k < count; ++k)
    any |= std::bit_cast<Bits>(x[k]) | std::bit_cast<Bits>(y[k]) | std::bit_cast<Bits>(z[k]);
  return any == 0;
}

/// What all elements of an update have in common.
template <class T>
struct Rule {
  T rate, scale, decay, beta1, rest1, beta2, rest2, epsilon;
};

/// The update of a run of elements. A function of its own, with the rule by value: in the parallel region's body, which has it by
/// reference, the loop would not be vectorised.
template <class T>
void update(Rule<T> r, std::int64_t count, const T* __restrict gradient, T* __restrict m, T* __restrict v,
            T* __restrict parameter) {
  for (std::int64_t k = 0; k < count; ++k) {
    const T g = r.scale * gradient[k];
    m[k] = r.beta1 * m[k] + r.rest1 * g;
    v[k] = r.beta2 * v[k] + r.rest2 * g * g;
    const T decayed = parameter[k] - r.decay * parameter[k];
    parameter[k] = decayed - r.rate * m[k] / (std::sqrt(v[k]) + r.epsilon);
  }
}

}  // namespace

template <class T>
void global_norm(Cpu& cpu, std::int64_t count, const T* gradient, double* norm) {
  const std::int64_t blocks = (count + kNormBlock - 1) / kNormBlock;
  double* partial = cpu.shared<double>(static_cast<std::size_t>(blocks));
  cpu.parallel([&](int thread) {
    const Range part = even_part(blocks, cpu.threads(), thread);
    for (std::int64_t b = part.begin; b < part.end; ++b) {
      partial[b] = sum_of_squares(gradient + b * kNormBlock, std::min(kNormBlock, count - b * kNormBlock));
    }
  });
  double sum = 0;
  for (std::int64_t b = 0; b < blocks; ++b) sum += partial[b];
  *norm = std::sqrt(sum);
}

template <class T>
void adam(Cpu& cpu, const Adam<T>& a) {
  if (!std::isfinite(*a.norm)) return;
  const Rule<T> rule{.rate = static_cast<T>(a.corrected_rate()),
                     .scale = static_cast<T>(clip_factor(*a.norm, a.clip_norm)),
                     .decay = static_cast<T>(a.learning_rate * a.weight_decay),
                     .beta1 = static_cast<T>(a.beta1),
                     .rest1 = static_cast<T>(1 - a.beta1),
                     .beta2 = static_cast<T>(a.beta2),
                     .rest2 = static_cast<T>(1 - a.beta2),
                     .epsilon = static_cast<T>(a.epsilon)};
  const bool skips = rule.decay == T(0);  // then an element whose gradient and moments are zero stays as it is
  cpu.parallel([&](int thread) {
    // Cuts on cache lines: no line is written by two threads, and only the buffer's end is not a whole vector.
    const Range part = even_part(a.count, cpu.threads(), thread, kAdamBlock);
    for (std::int64_t k = part.begin; k < part.end; k += kAdamBlock) {
      const std::int64_t count = std::min(kAdamBlock, part.end - k);
      // Rows of tables that no molecule has reached yet, a third of a small model: 12 bytes an element are moved instead of 28.
      if (skips && all_zero(a.gradient + k, a.m + k, a.v + k, count)) continue;
      update(rule, count, a.gradient + k, a.m + k, a.v + k, a.parameter + k);
    }
    if (a.shadow)
      for (std::int64_t k = part.begin; k < part.end; ++k) a.shadow[k] = to_bf16(static_cast<float>(a.parameter[k]));
  });
}

template void global_norm(Cpu&, std::int64_t, const float*, double*);
template void global_norm(Cpu&, std::int64_t, const double*, double*);
template void adam(Cpu&, const Adam<float>&);
template void adam(Cpu&, const Adam<double>&);

}  // namespace moleblend
