#pragma once
// Global norm, clipping and Adam over flat buffers (METHOD section 8).

#include "kernels/common/cpu.h"

namespace moleblend {

/// √Σ g², summed in double over fixed blocks in order: the same bits for every number of threads. NaN and infinity come through.
template <class T>
double global_norm(Cpu& cpu, std::int64_t count, const T* gradient);

/// min(1, max_norm / (norm + 1e-6)); 1 if max_norm <= 0 (no clipping).
double clip_factor(double norm, double max_norm);

/// Adam with fairseq's bias correction: m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²;
/// p ← p − lr · wd · p;  p ← p − lr · √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε), with g = gradient_scale · gradient.
template <class T>
struct Adam {
  std::int64_t count;
  T* parameter;       // [count]
  const T* gradient;  // [count]
  T* m;               // [count]
  T* v;               // [count]
  double gradient_scale;
  double learning_rate;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  std::int64_t step;  // t >= 1: number of this update
};
template <class T>
void adam(Cpu& cpu, const Adam<T>& a);

}  // namespace moleblend
