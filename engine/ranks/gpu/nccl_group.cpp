#include "engine/ranks/gpu/nccl_group.h"

#include <chrono>
#include <cstring>
#include <thread>

#include "io/support/error.h"

namespace moleblend {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

NcclGroup::NcclGroup(const NcclLibrary& nccl, Ranks& ranks) : nccl_(nccl), ranks_(ranks), group_(nullptr, nccl.abort) {
  ncclUniqueId id{};
  ncclResult_t made = ncclSuccess;
  if (ranks.first()) made = nccl.get_unique_id(&id);
  // To all, whether or not there is one: the others wait for it.
  const std::string of_first =
      ranks.gather(ranks.first() && made == ncclSuccess ? std::string(id.internal, sizeof id.internal) : std::string())
          .front();
  if (of_first.size() != sizeof id.internal) fail("ncclGetUniqueId", nccl.error_string(made));
  std::memcpy(id.internal, of_first.data(), of_first.size());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t group = nullptr;
  const ncclResult_t begun = nccl.init(&group, ranks.size(), id, ranks.rank(), &config);
  group_.reset(group);
  settle(begun, "ncclCommInitRankConfig");
}

void NcclGroup::sum(std::span<float> values, CUstream_st* stream) {
  settle(nccl_.all_reduce(values.data(), values.data(), values.size(), ncclFloat, ncclSum, group_.get(), stream),
         "ncclAllReduce");
}

void NcclGroup::wait(const std::function<bool()>& done) {
  const Clock::time_point begin = Clock::now();
  for (int tries = 0; !done(); ++tries) {
    std::this_thread::yield();
    if (tries % 1024 != 1023) continue;
    ncclResult_t state = ncclSuccess;
    const ncclResult_t answer = nccl_.get_async_error(group_.get(), &state);
    if (answer != ncclSuccess) state = answer;
    if (state != ncclSuccess && state != ncclInProgress) fail("the sum of gradients", nccl_.error_string(state));
    if (seconds_since(begin) > ranks_.deadline_s()) give_up("the sum of gradients");
  }
}

void NcclGroup::settle(ncclResult_t result, const char* call) {
  const Clock::time_point begin = Clock::now();
  while (result == ncclInProgress) {
    std::this_thread::yield();
    const ncclResult_t answer = nccl_.get_async_error(group_.get(), &result);
    if (answer != ncclSuccess) result = answer;
    if (result == ncclInProgress && seconds_since(begin) > ranks_.deadline_s()) give_up(call);
  }
  if (result != ncclSuccess) fail(call, nccl_.error_string(result));
}

void NcclGroup::fail(const char* call, const std::string& why) {
  const char* detail = group_ ? nccl_.last_error(group_.get()) : nullptr;
  throw Error("NCCL: {}: {}{}{}; NCCL_DEBUG=WARN tells more, and a run goes on from its last checkpoint with --resume",
              call, why, detail && *detail ? ", " : "", detail ? detail : "");
}

void NcclGroup::give_up(const char* call) {
  throw Error(
      "NCCL: {}: no answer from another rank's GPU for {:g} s; it hangs, or its machine or network has failed; go on "
      "with --resume (--rank-deadline waits longer)",
      call, ranks_.deadline_s());
}

}  // namespace moleblend
