#pragma once
// Σ of a gradient over the ranks where no library adds it up in the GPUs' memory: through the hosts'.

#include <cstdint>
#include <span>
#include <vector>

#include "engine/ranks/gradient_sum.h"
#include "kernels/common/gpu.h"

namespace moleblend {

/// Nothing is hidden behind the backward pass: all goes to the host and back when it has ended.
class StagedGradientSum final : public GradientSum {
 public:
  StagedGradientSum(Gpu& gpu, Ranks& ranks, std::span<float> gradient)
      : gpu_(gpu), ranks_(ranks), gradient_(gradient), host_(gradient.size()) {}

  void ready(std::int64_t) override {}
  void finish() override {
    const auto count = static_cast<std::int64_t>(host_.size());
    gpu_.download(host_.data(), gradient_.data(), count);
    ranks_.sum(std::span(host_));
    gpu_.upload(gradient_.data(), host_.data(), count);
  }

 private:
  Gpu& gpu_;
  Ranks& ranks_;
  const std::span<float> gradient_;
  std::vector<float> host_;
};

}  // namespace moleblend
