#pragma once
// Which way gradients take from GPU to GPU.

#include <memory>
#include <span>
#include <string>

#include "engine/ranks/gradient_sum.h"
#include "kernels/common/gpu.h"

namespace moleblend {

/// What a rank says of its GPU.
struct GpuOfRank {
  std::string address;  // of the machine and of the GPU in it
  std::string nccl;     // version of NCCL; empty: none that can be used
  std::string cause;    // then why
};
/// Called by all ranks: empty where NCCL can add up, or why not, the same on all. Throws Error where ranks have versions of NCCL that don't
/// speak with each other.
std::string why_not_nccl(Ranks& ranks, const GpuOfRank& own);

/// Called by all ranks. By NCCL, or where that can't be through the memory of the hosts; `way` says which and why, as "by NCCL 2.28.9".
/// `gradient` is in the GPU's memory. Throws Error.
std::unique_ptr<GradientSum> make_gpu_gradient_sum(Gpu& gpu, Ranks& ranks, std::span<float> gradient, std::string& way);

}  // namespace moleblend
