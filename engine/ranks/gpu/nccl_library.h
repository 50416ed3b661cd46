#pragma once
// NVIDIA's NCCL, opened only by runs of many ranks on GPUs.

#include <nccl.h>

#include <string>

namespace moleblend {

struct NcclLibrary {
  decltype(&ncclGetVersion) get_version = nullptr;
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) init = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclCommGetAsyncError) get_async_error = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclGetLastError) last_error = nullptr;

  /// As "2.28.9".
  std::string version() const;
};

/// Null, and why, where there is no libnccl.so.2 that can be used.
const NcclLibrary* nccl_library(std::string& cause);

}  // namespace moleblend
