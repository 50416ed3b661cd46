#pragma once
// Read-outs and losses of fine-tuning (METHOD section 10). T is float or double on the CPU, float or bf16 on the GPU.
//
// Deterministic: atoms are added in their order (on the GPU in float), losses in double in an order that depends on their number alone.

#include "kernels/common/cpu.h"
#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"
#include "kernels/common/precision.h"

namespace moleblend {

enum class Readout { cls, mean, sum };

/// out [B, features] from x [T, features]: the graph token, or the mean or sum over a molecule's atoms.
template <class T>
void readout_forward(Cpu& cpu, const Packed& packed, Readout readout, std::int64_t features, const T* x, T* out);
template <class T>
void readout_forward(Gpu& gpu, const Packed& packed, Readout readout, std::int64_t features, const T* x, T* out);
/// dx [T, features] overwritten.
template <class T>
void readout_backward(Cpu& cpu, const Packed& packed, Readout readout, std::int64_t features, const T* dout, T* dx);
template <class T>
void readout_backward(Gpu& gpu, const Packed& packed, Readout readout, std::int64_t features, const T* dout, T* dx);

enum class PropertyTask { classification, regression };

/// In memory of the device.
struct PropertyLossResult {
  double loss = 0;
  std::int64_t count = 0;
};

/// classification: Σ w · binary cross-entropy of logits against labels 0/1, w = positive_weight where the label is 1, else 1. regression:
/// Σ (logit · std + mean − label)².
/// Both over labels present (not NaN); value and gradient in one pass. dlogits = scale · d(Σ)/dlogits, zero where a label is missing.
template <class T>
struct PropertyLoss {
  PropertyTask task;
  std::int64_t molecules, tasks;
  const T* logits;                // [B, tasks]
  const double* labels;           // [B, tasks], NaN = missing
  const double* mean;             // [tasks], regression only
  const double* std;              // [tasks], regression only
  const double* positive_weight;  // [tasks], classification only; or null: all 1
  double scale;                   // 1 / number of labels present in the global batch
  T* dlogits;                     // [B, tasks] overwritten; or null
  PropertyLossResult* result;     // overwritten
};
template <class T>
void property_loss(Cpu& cpu, const PropertyLoss<T>& a);
template <class T>
void property_loss(Gpu& gpu, const PropertyLoss<T>& a);

}  // namespace moleblend
