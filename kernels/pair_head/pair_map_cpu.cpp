// Row and column maps of the pair heads: y = LayerNorm(gelu(x)) on blocks of 32 features.

#include <algorithm>
#include <cmath>

#include "kernels/common/vector_math.h"
#include "kernels/pair_head/pair_head.h"

namespace moleblend {
namespace {

constexpr int kWidth = static_cast<int>(kPairWidth);

/// A block's gelu, normalised.
template <class T>
struct NormalisedBlock {
  T value[kWidth];  // (gelu(x) − mean) · rstd
  T slope[kWidth];  // gelu'(x)
  T rstd;

  explicit NormalisedBlock(const T* x) {
    for (int k = 0; k < kWidth; ++k) {
      const auto [cdf, density] = normal(x[k]);
      value[k] = x[k] * cdf;
      slope[k] = cdf + x[k] * density;
    }
    const T mean = vector_sum<T>(kWidth, [&](std::int64_t k) { return value[k]; }) / T(kWidth);
    for (int k = 0; k < kWidth; ++k) value[k] -= mean;
    const T variance = vector_sum<T>(kWidth, [&](std::int64_t k) { return value[k] * value[k]; }) / T(kWidth);
    rstd = T(1) / std::sqrt(variance + T(kPairNormEpsilon));
    for (int k = 0; k < kWidth; ++k) value[k] *= rstd;
  }
};

}  // namespace

template <class T>
void pair_map_forward(Cpu& cpu, const PairMapForward<T>& a) {
  cpu.parallel([&](int thread) {
    const Range rows = even_part(a.rows, cpu.threads(), thread);
    for (std::int64_t block = rows.begin * a.maps; block < rows.end * a.maps; ++block) {
      const NormalisedBlock<T> z(a.x + block * kWidth);
      const std::int64_t map = block % a.maps * kWidth;
      for (int k = 0; k < kWidth; ++k) a.y[block * kWidth + k] = z.value[k] * a.weight[map + k] + a.bias[map + k];
    }
  });
}

template <class T>
void pair_map_backward(Cpu& cpu, const PairMapBackward<T>& a) {
  const std::int64_t parameters = a.maps * kWidth, part = (2 * parameters + 15) / 16 * 16;
  T* sums = cpu.shared<T>(static_cast<std::size_t>(part * cpu.threads()));  // each thread's dweight and dbias
  cpu.parallel([&](int thread) {
    T* dweight = sums + thread * part;
    T* dbias = dweight + parameters;
    std::fill_n(dweight, 2 * parameters, T(0));
    const Range rows = even_part(a.rows, cpu.threads(), thread);
    for (std::int64_t block = rows.begin * a.maps; block < rows.end * a.maps; ++block) {
      const NormalisedBlock<T> z(a.x + block * kWidth);
      const std::int64_t map = block % a.maps * kWidth;
      const T* dy = a.dy + block * kWidth;
      T dz[kWidth];
      for (int k = 0; k < kWidth; ++k) {
        dweight[map + k] += dy[k] * z.value[k];
        dbias[map + k] += dy[k];
        dz[k] = dy[k] * a.weight[map + k];
      }
      const T mean = vector_sum<T>(kWidth, [&](std::int64_t k) { return dz[k]; }) / T(kWidth);
      const T along = vector_sum<T>(kWidth, [&](std::int64_t k) { return dz[k] * z.value[k]; }) / T(kWidth);
      for (int k = 0; k < kWidth; ++k)
        a.dx[block * kWidth + k] = z.slope[k] * z.rstd * (dz[k] - mean - z.value[k] * along);
    }
  });
  for (int thread = 0; thread < cpu.threads(); ++thread) {
    for (std::int64_t k = 0; k < parameters; ++k) {
      a.dweight[k] += sums[thread * part + k];
      a.dbias[k] += sums[thread * part + parameters + k];
    }
  }
}

template void pair_map_forward(Cpu&, const PairMapForward<float>&);
template void pair_map_forward(Cpu&, const PairMapForward<double>&);
template void pair_map_backward(Cpu&, const PairMapBackward<float>&);
template void pair_map_backward(Cpu&, const PairMapBackward<double>&);

}  // namespace moleblend
