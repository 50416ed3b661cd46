#pragma once
// Σ of a gradient over the ranks where no library adds it up in the device's memory: through the host's.

#include <cstdint>
#include <span>
#include <vector>

#include "engine/ranks/gradient_sum.h"

namespace moleblend {

/// Nothing is hidden behind the backward pass: all goes to the host and back when it has ended.
template <class Device, class T>
class StagedGradientSum final : public GradientSum {
 public:
  StagedGradientSum(Device& device, Ranks& ranks, std::span<T> gradient)
      : device_(device), ranks_(ranks), gradient_(gradient), host_(gradient.size()) {}

  void ready(std::int64_t) override {}
  void finish() override {
    const auto count = static_cast<std::int64_t>(host_.size());
    device_.download(host_.data(), gradient_.data(), count);
    ranks_.sum(std::span(host_));
    device_.upload(gradient_.data(), host_.data(), count);
  }

 private:
  Device& device_;
  Ranks& ranks_;
  const std::span<T> gradient_;
  std::vector<T> host_;
};

}  // namespace moleblend
