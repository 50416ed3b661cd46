// The part of the CUDA runtime that nvcc's objects call: their fat binaries are registered before main, their kernels decoded when they are
// first launched.

#include <cuda_runtime.h>

#include <cstring>
#include <map>
#include <mutex>

#include "decoder.h"
#include "kernel_launch.h"
#include "launch.h"
#include "registered.h"

namespace ptx_on_cpu {
namespace {

struct Registered {
  std::string_view text;  // of the object's PTX
  std::unique_ptr<Module> module;
};

/// A kernel as the host knows it.
struct Function {
  Registered* binary;
  std::string name;  // mangled
  std::unique_ptr<Kernel> kernel;
  std::size_t most_dynamic_shared = 48 * 1024;
};

struct Registry {
  std::recursive_mutex mutex;
  std::vector<std::unique_ptr<Registered>> binaries;
  std::map<const void*, Function> functions;
};
// Objects register themselves before main, in any order.
Registry& registry() {
  static auto& all = *new Registry;
  return all;
}

// Layout of what nvcc embeds, as its objects show: a wrapper that points to a header, after which come entries, each with a header of its
// own and then the PTX as text.
struct Wrapper {
  std::uint32_t magic, version;
  const std::byte* data;
  const void* other;
};
struct Header {
  std::uint32_t magic;
  std::uint16_t version, header_bytes;
  std::uint64_t bytes;  // of the entries
};
struct Entry {
  std::uint16_t kind, version;
  std::uint32_t header_bytes;
  std::uint64_t bytes;
};
constexpr std::uint32_t kWrapperMagic = 0x466243B1, kHeaderMagic = 0xBA55ED50;
constexpr std::uint16_t kPtx = 1;

std::string_view ptx_of(const void* fat_binary) {
  Wrapper wrapper;
  std::memcpy(&wrapper, fat_binary, sizeof(wrapper));
  Header header;
  std::memcpy(&header, wrapper.data, sizeof(header));
  if (wrapper.magic != kWrapperMagic || header.magic != kHeaderMagic) throw PtxError("this is no fat binary");
  for (std::uint64_t at = 0; at < header.bytes;) {
    const std::byte* const begin = wrapper.data + header.header_bytes + at;
    Entry entry;
    std::memcpy(&entry, begin, sizeof(entry));
    if (entry.kind == kPtx) {
      const std::string_view text(reinterpret_cast<const char*>(begin + entry.header_bytes), entry.bytes);
      if (text.find(".version") == std::string_view::npos) throw PtxError("the PTX of a fat binary is compressed");
      return text.substr(0, text.find('\0'));
    }
    at += entry.header_bytes + entry.bytes;
  }
  throw PtxError("a fat binary without PTX");
}

Kernel& kernel_of(Function& f) {
  if (!f.kernel) {
    if (!f.binary->module) f.binary->module = std::make_unique<Module>(std::string(f.binary->text));
    const auto entry = f.binary->module->entries().find(f.name);
    if (entry == f.binary->module->entries().end()) throw PtxError("no kernel " + f.name);
    f.kernel = Decoder::decode(*f.binary->module, entry->second);
  }
  return *f.kernel;
}

cudaError_t launch_function(const void* host_function, dim3 grid, dim3 block, void** arguments,
                            std::size_t shared_bytes) {
  try {
    Function* f = nullptr;
    Kernel* kernel = nullptr;
    {
      const std::lock_guard lock(registry().mutex);
      const auto found = registry().functions.find(host_function);
      if (found == registry().functions.end())
        return cuda_on_cpu::report(cudaErrorInvalidDeviceFunction, "no such kernel");
      f = &found->second;
      kernel = &kernel_of(*f);
    }
    if (!cuda_on_cpu::possible(grid, block, shared_bytes + kernel->static_shared))
      return cuda_on_cpu::report(cudaErrorInvalidConfiguration, "bad launch configuration");
    if (shared_bytes > f->most_dynamic_shared)
      return cuda_on_cpu::report(cudaErrorInvalidValue,
                                 "more shared memory than cudaFuncSetAttribute allowed " + f->name);
    cuda_on_cpu::count(cuda_on_cpu::Queued::kernel);
    launch(*kernel, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes, arguments);
    return cudaSuccess;
  } catch (const std::exception& error) {
    return cuda_on_cpu::report(cudaErrorLaunchFailure, error.what());
  }
}

struct Configuration {
  dim3 grid, block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};
thread_local std::vector<Configuration> configurations;

}  // namespace

std::vector<std::string> decode_all() {
  const std::lock_guard lock(registry().mutex);
  std::vector<std::string> names;
  for (auto& [host, f] : registry().functions) {
    kernel_of(f);
    names.push_back(f.name);
  }
  return names;
}

}  // namespace ptx_on_cpu

extern "C" {

using ptx_on_cpu::registry;

void** __cudaRegisterFatBinary(void* fat_binary) {
  const std::lock_guard lock(registry().mutex);
  auto binary = std::make_unique<ptx_on_cpu::Registered>();
  binary->text = ptx_on_cpu::ptx_of(fat_binary);
  registry().binaries.push_back(std::move(binary));
  return reinterpret_cast<void**>(registry().binaries.back().get());
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}  // at the end of the program
char __cudaInitModule(void**) {
  return 1;
}

void __cudaRegisterFunction(void** binary, const char* host_function, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  const std::lock_guard lock(registry().mutex);
  ptx_on_cpu::Function& f = registry().functions[host_function];
  f.binary = reinterpret_cast<ptx_on_cpu::Registered*>(binary);
  f.name = name;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host_function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host_function));
  return cudaSuccess;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared_bytes, CUstream_st* stream) {
  ptx_on_cpu::configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared_bytes, void* stream) {
  const auto last = ptx_on_cpu::configurations.back();
  ptx_on_cpu::configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared_bytes = last.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = last.stream;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                             cudaStream_t) {
  return ptx_on_cpu::launch_function(function, grid, block, arguments, shared_bytes);
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                               cudaStream_t stream) {
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, arguments, shared_bytes, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  return cudaLaunchKernel(function, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes,
                          config->stream);
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().functions.find(function);
  if (found == registry().functions.end()) return cuda_on_cpu::report(cudaErrorInvalidDeviceFunction, "no such kernel");
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<std::size_t>(value) > cuda_on_cpu::shared_limit())
    return cuda_on_cpu::report(cudaErrorInvalidValue, "more shared memory than a block can have");
  found->second.most_dynamic_shared = static_cast<std::size_t>(value);
  return cudaSuccess;
}
}
