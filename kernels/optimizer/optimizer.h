#pragma once
// Global norm, clipping and Adam over flat buffers (METHOD section 8). The norm stays in memory of the device between the two, so
// that nobody waits for it.

#include <cmath>

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/precision.h"

namespace moleblend {

/// *norm = √Σ g², summed in double over fixed blocks in order: the same bits for every number of threads, and on every GPU (T = float
/// there). The two devices cut other blocks, so that they differ in the last bits of a double. NaN and infinity come through.
template <class T>
void global_norm(Cpu& cpu, std::int64_t count, const T* gradient, double* norm);
template <class T>
void global_norm(Gpu& gpu, std::int64_t count, const T* gradient, double* norm);

/// min(1, max_norm / (norm + 1e-6)); 1 if max_norm <= 0 (no clipping).
MOLEBLEND_HD inline double clip_factor(double norm, double max_norm) {
  if (max_norm <= 0) return 1;
  const double factor = max_norm / (norm + 1e-6);
  return factor > 1 ? 1 : factor;  // NaN stays NaN
}

/// Adam with fairseq's bias correction: m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²;
/// p ← p − lr · wd · p;  p ← p − lr · √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε), with g = clip_factor(norm, clip_norm) · gradient.
/// A norm that is not finite changes nothing.
///
/// Devices (GPU: T = float) do the same operations, but an fma may stand for a product and the addition after it on one and not on the
/// other: m and v differ by at most two units in the last place of their terms, the parameter by two of its own and eight of the update's.
template <class T>
struct Adam {
  std::int64_t count;
  T* parameter;        // [count]
  const T* gradient;   // [count]
  T* m;                // [count]
  T* v;                // [count]
  bf16* shadow;        // [count] the new parameters rounded; or null
  const double* norm;  // of the whole gradient, in memory of the device
  double clip_norm;
  double learning_rate;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  std::int64_t step;  // t >= 1: number of this update

  /// The learning rate with the bias correction.
  double corrected_rate() const {
    const double t = static_cast<double>(step);
    return learning_rate * std::sqrt(1 - std::pow(beta2, t)) / (1 - std::pow(beta1, t));
  }
};
template <class T>
void adam(Cpu& cpu, const Adam<T>& a);
template <class T>
void adam(Gpu& gpu, const Adam<T>& a);

}  // namespace moleblend
