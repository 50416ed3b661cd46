#include <algorithm>
#include <cmath>

#include "kernels/optimizer/optimizer.h"

namespace moleblend {
namespace {

constexpr std::int64_t kNormBlock = 4096;

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
  const T rate = static_cast<T>(a.corrected_rate()), scale = static_cast<T>(clip_factor(*a.norm, a.clip_norm));
  const T decay = static_cast<T>(a.learning_rate * a.weight_decay);
  const T beta1 = static_cast<T>(a.beta1), rest1 = static_cast<T>(1 - a.beta1);
  const T beta2 = static_cast<T>(a.beta2), rest2 = static_cast<T>(1 - a.beta2), epsilon = static_cast<T>(a.epsilon);
  cpu.parallel([&](int thread) {
    // Cuts on cache lines: no line is written by two threads, and only the buffer's end is not a whole vector.
    const Range part = even_part(a.count, cpu.threads(), thread, 64);
    T* __restrict parameter = a.parameter;
    T* __restrict m = a.m;
    T* __restrict v = a.v;
    const T* __restrict gradient = a.gradient;
    for (std::int64_t k = part.begin; k < part.end; ++k) {
      const T g = scale * gradient[k];
      m[k] = beta1 * m[k] + rest1 * g;
      v[k] = beta2 * v[k] + rest2 * g * g;
      const T decayed = parameter[k] - decay * parameter[k];
      parameter[k] = decayed - rate * m[k] / (std::sqrt(v[k]) + epsilon);
    }
    if (a.shadow)
      for (std::int64_t k = part.begin; k < part.end; ++k) a.shadow[k] = to_bf16(static_cast<float>(parameter[k]));
  });
}

template void global_norm(Cpu&, std::int64_t, const float*, double*);
template void global_norm(Cpu&, std::int64_t, const double*, double*);
template void adam(Cpu&, const Adam<float>&);
template void adam(Cpu&, const Adam<double>&);

}  // namespace moleblend
