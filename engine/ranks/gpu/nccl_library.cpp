#include "engine/ranks/gpu/nccl_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace moleblend {
namespace {

struct Opened {
  NcclLibrary library;
  std::string cause;  // empty: it can be used
};

Opened open_nccl() {
  Opened o;
  constexpr const char* kName = "libnccl.so.2";
  void* file = dlopen(kName, RTLD_NOW | RTLD_LOCAL);
  if (!file) {
    const char* message = dlerror();
    o.cause = message ? message : fmt::format("{} can't be opened", kName);
    return o;
  }
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(file, name));
    if (!function && o.cause.empty()) o.cause = fmt::format("{} has no {}: it is too old", kName, name);
  };
  find(o.library.get_version, "ncclGetVersion");
  find(o.library.get_unique_id, "ncclGetUniqueId");
  find(o.library.init, "ncclCommInitRankConfig");
  find(o.library.all_reduce, "ncclAllReduce");
  find(o.library.get_async_error, "ncclCommGetAsyncError");
  find(o.library.abort, "ncclCommAbort");
  find(o.library.error_string, "ncclGetErrorString");
  find(o.library.last_error, "ncclGetLastError");
  return o;
}

}  // namespace

std::string NcclLibrary::version() const {
  int code = 0;
  get_version(&code);
  return fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100);
}

const NcclLibrary* nccl_library(std::string& cause) {
  static const Opened opened = open_nccl();
  cause = opened.cause;
  return cause.empty() ? &opened.library : nullptr;
}

}  // namespace moleblend
