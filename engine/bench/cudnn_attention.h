#pragma once
// What cuDNN would do on a GPU that is not here.

#include "engine/bench/library_attention.h"

namespace moleblend {

struct GpuDescription {
  int capability;          // 90: Hopper
  std::string properties;  // as cuDNN writes them (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION)
};

/// Has cuDNN's heuristics look for plans for forward and backward of `a`, whose pointers are not read; gives the library's name. No kernel is
/// compiled or loaded: no GPU is needed, but a libcuda.so.1 that can be opened. Throws GpuError where there is no cuDNN 9.8 or it refuses.
std::string cudnn_plans(const GpuDescription& device, const PaddedAttention& a);

}  // namespace moleblend
