#include "engine/ranks/gpu/nccl_gradient_sum.h"

namespace moleblend {

NcclGradientSum::NcclGradientSum(Gpu& gpu, const NcclLibrary& nccl, Ranks& ranks, std::span<float> gradient,
                                 std::int64_t bucket)
    : gradient_(gradient),
      buckets_(static_cast<std::int64_t>(gradient.size()), bucket),
      branch_(gpu),
      group_(nccl, ranks) {}

void NcclGradientSum::ready(std::int64_t begin) {
  buckets_.ready(begin);
  if (!buckets_.has_next()) return;
  branch_.follow();
  while (buckets_.has_next()) {
    const auto [begin_of, end] = buckets_.front();
    group_.sum(gradient_.subspan(static_cast<std::size_t>(begin_of), static_cast<std::size_t>(end - begin_of)),
               branch_.stream());
    buckets_.pop();
  }
}

void NcclGradientSum::finish() {
  ready(0);
  branch_.merge();
  group_.wait([this] { return branch_.done(); });
  buckets_.restart();
}

}  // namespace moleblend
