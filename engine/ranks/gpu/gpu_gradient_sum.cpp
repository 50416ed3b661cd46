#include "engine/ranks/gpu/gpu_gradient_sum.h"

#include <fmt/format.h>

#include <map>

#include "engine/ranks/agreement.h"
#include "engine/ranks/gpu/staged_gradient_sum.h"
#include "engine/ranks/host.h"
#include "io/support/error.h"
#include "kernels/common/gpus.h"
#ifdef MOLEBLEND_WITH_NCCL
#include "engine/ranks/gpu/nccl_gradient_sum.h"
#endif

namespace moleblend {

std::string why_not_nccl(Ranks& ranks, const GpuOfRank& own) {
  const std::vector<std::string> addresses = ranks.gather(own.address), versions = ranks.gather(own.nccl),
                                 causes = ranks.gather(own.cause);
  for (std::size_t r = 0; r < versions.size(); ++r)
    if (versions[r].empty()) return fmt::format("rank {} has no NCCL: {}", r, causes[r]);
  std::map<std::string, std::size_t> owner;
  for (std::size_t r = 0; r < addresses.size(); ++r) {
    const auto [other, fresh] = owner.emplace(addresses[r], r);
    if (!fresh) return fmt::format("ranks {} and {} share a GPU", other->second, r);
  }
  check_same(ranks, "the version of NCCL", own.nccl, "use one libnccl.so.2 on all machines");
  return {};
}

std::unique_ptr<GradientSum> make_gpu_gradient_sum(Gpu& gpu, Ranks& ranks, std::span<float> gradient,
                                                   std::string& way) {
  GpuOfRank own{.address = fmt::format("{} of {}", gpu_address(), machine_id()), .nccl = {}, .cause = {}};
#ifdef MOLEBLEND_WITH_NCCL
  const NcclLibrary* nccl = nccl_library(own.cause);
  if (nccl) own.nccl = nccl->version();
#else
  own.cause = "moleblend was built without nccl.h";
#endif
  const std::string why_not = why_not_nccl(ranks, own);
#ifdef MOLEBLEND_WITH_NCCL
  if (why_not.empty()) {
    way = "by NCCL " + own.nccl;
    return std::make_unique<NcclGradientSum>(gpu, *nccl, ranks, gradient);
  }
#endif
  way = fmt::format("through the hosts' memory, which is slow, because {}", why_not);
  return std::make_unique<StagedGradientSum>(gpu, ranks, gradient);
}

}  // namespace moleblend
