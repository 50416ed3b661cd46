#pragma once
// Smooth L1, the loss of predicted distances.

#include <cmath>

#include "kernels/common/precision.h"

namespace moleblend {

inline constexpr double kSmoothL1Threshold = 1;  // ångström

struct SmoothL1 {
  double size;      // |predicted − true|
  double loss;      // ½ error² / threshold within the threshold, size − ½ threshold beyond it
  double gradient;  // of the loss in the prediction
};

/// NaN comes through.
MOLEBLEND_HD inline SmoothL1 smooth_l1(double predicted, double expected) {
  const double error = predicted - expected, size = std::abs(error);
  const bool near = size < kSmoothL1Threshold;
  return {size, near ? 0.5 * error * error / kSmoothL1Threshold : size - 0.5 * kSmoothL1Threshold,
          near ? error / kSmoothL1Threshold : error / size};
}

}  // namespace moleblend
