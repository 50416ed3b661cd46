#pragma once
// The GPUs of all ranks, as NCCL sees them.

#include <functional>
#include <memory>
#include <span>

#include "engine/ranks/gpu/nccl_library.h"
#include "engine/ranks/ranks.h"

namespace moleblend {

/// No call waits longer than the ranks' deadline: NCCL itself would wait for ever for a rank that is gone. After an Error the group is of
/// no more use. One thread.
class NcclGroup {
 public:
  /// Made by all ranks at once, each with a GPU of its own, which its thread has chosen. Throws Error.
  NcclGroup(const NcclLibrary& nccl, Ranks& ranks);

  /// Queued on the stream: Σ over ranks, in place, in the memory of the GPUs. Throws Error.
  void sum(std::span<float> values, CUstream_st* stream);
  /// Returns when done() says so. Throws Error when a rank has failed, or the deadline is over.
  void wait(const std::function<bool()>& done);

 private:
  /// What NCCL has only begun is brought to its end.
  void settle(ncclResult_t result, const char* call);
  [[noreturn]] void fail(const char* call, const std::string& why);
  [[noreturn]] void give_up(const char* call);

  const NcclLibrary& nccl_;
  Ranks& ranks_;
  // Not ended by ncclCommDestroy, which waits for ranks that may be gone: sums that were waited for are complete, and others of no more use.
  std::unique_ptr<ncclComm, decltype(&ncclCommAbort)> group_;
};

}  // namespace moleblend
