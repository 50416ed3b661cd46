#pragma once
// Σ of a gradient over the ranks in the memory of their GPUs, by NCCL.

#include <span>

#include "engine/ranks/gpu/nccl_group.h"
#include "engine/ranks/gradient_sum.h"
#include "kernels/common/gpus.h"

namespace moleblend {

/// Buckets are summed on a stream of their own while the backward pass goes on on the Gpu's. Which bits a sum has depends on NCCL's choice
/// of a way, which is the same in every run on the same machines.
class NcclGradientSum final : public GradientSum {
 public:
  NcclGradientSum(Gpu& gpu, const NcclLibrary& nccl, Ranks& ranks, std::span<float> gradient,
                  std::int64_t bucket = kGradientBucket);

  void ready(std::int64_t begin) override;
  /// Waits for the sum, so that a rank that is gone is noticed before anything waits for the GPU.
  void finish() override;

 private:
  const std::span<float> gradient_;
  Buckets buckets_;
  GpuBranch branch_;
  NcclGroup group_;  // last: ends what the branch may be waiting for
};

}  // namespace moleblend
