#pragma once
// 1 − cosine of a predicted to a given direction, the loss of displacements and of the denoising head.

#include <cmath>

#include "kernels/common/precision.h"

namespace moleblend {

inline constexpr double kCosineEpsilon = 1e-8;  // least norm in a cosine

struct CosineLoss {
  double cosine;
  double gradient[3];  // of 1 − cosine in the prediction
};

/// cos = p · t / (max(|p|, ε) max(|t|, ε)). A norm held at the clamp has no gradient of its own. NaN comes through.
MOLEBLEND_HD inline CosineLoss cosine_loss(const double* p, const double* t) {
  const auto norm = [](const double* v) { return std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]); };
  const double length = norm(p), target_length = norm(t);
  const bool clamped = length < kCosineEpsilon;
  const double by = clamped ? kCosineEpsilon : length;
  const double target_by = target_length < kCosineEpsilon ? kCosineEpsilon : target_length;
  CosineLoss loss;
  loss.cosine = (p[0] * t[0] + p[1] * t[1] + p[2] * t[2]) / (by * target_by);
  for (int c = 0; c < 3; ++c) {
    loss.gradient[c] = (clamped ? 0 : loss.cosine * p[c] / (by * by)) - t[c] / (by * target_by);
  }
  return loss;
}

}  // namespace moleblend
