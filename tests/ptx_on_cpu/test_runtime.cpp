// What nvcc's objects call: fat binaries, launches, their errors.

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "launch.h"

extern "C" {
void** __cudaRegisterFatBinary(void* fat_binary);
void __cudaRegisterFatBinaryEnd(void** binary);
void __cudaRegisterFunction(void** binary, const char* host_function, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*);
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host_function);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                               cudaStream_t stream);
}

namespace ptx_on_cpu::testing {
namespace {

/// A fat binary as nvcc lays it out: machine code that is passed over, then PTX.
struct FatBinary {
  explicit FatBinary(const std::string& ptx) {
    const auto put = [this](auto... values) {
      ((data.resize(data.size() + sizeof(values)),
        std::memcpy(&data[data.size() - sizeof(values)], &values, sizeof(values))),
       ...);
    };
    const std::string code(24, 'x');
    put(std::uint32_t{0xBA55ED50}, std::uint16_t{1}, std::uint16_t{16},
        std::uint64_t{32 + code.size() + 32 + ptx.size()});
    put(std::uint16_t{2}, std::uint16_t{0x101}, std::uint32_t{32}, std::uint64_t{code.size()}, std::uint64_t{0},
        std::uint64_t{0});
    data += code;
    put(std::uint16_t{1}, std::uint16_t{0x101}, std::uint32_t{32}, std::uint64_t{ptx.size()}, std::uint64_t{0},
        std::uint64_t{0});
    data += ptx;
    wrapper.data = data.data();
  }
  std::string data;
  struct {
    std::uint32_t magic = 0x466243B1, version = 1;
    const void* data = nullptr;
    void* other = nullptr;
  } wrapper;
};

/// Kernels `fill` (writes its thread's index) and `stray` (writes to the address 0), and what the host knows them by.
struct Program {
  Program() {
    static FatBinary fat(
        ".version 8.0\n.target sm_90\n.address_size 64\n.extern .shared .align 16 .b8 room[];\n"
        ".visible .entry fill(.param .u64 fill_out)\n{\n.reg .b32 %r<4>;\n.reg .b64 %rd<4>;\nld.param.u64 %rd1, "
        "[fill_out];\n"
        "mov.u32 %r1, %tid.x;\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd2, %rd1, %rd2;\nst.global.u32 [%rd2], "
        "%r1;\nret;\n}\n"
        ".visible .entry stray()\n{\n.reg .b64 %rd<4>;\nmov.u64 %rd1, 0;\nst.global.u32 [%rd1], 1;\nret;\n}\n");
    void** binary = __cudaRegisterFatBinary(&fat.wrapper);
    const auto add = [&](const char* host, const char* name) {
      __cudaRegisterFunction(binary, host, nullptr, name, -1, nullptr, nullptr, nullptr, nullptr, nullptr);
    };
    add(&fill, "fill");
    add(&stray, "stray");
    add(&missing, "missing");
    __cudaRegisterFatBinaryEnd(binary);
  }
  char fill = 0, stray = 0, missing = 0, unknown = 0;
};
Program& program() {
  static Program one;
  return one;
}

cudaError_t launch(const void* function, unsigned threads, std::size_t shared_bytes, void** arguments) {
  return cudaLaunchKernel(function, dim3(1), dim3(threads), arguments, shared_bytes, nullptr);
}

TEST(Runtime, RunsWhatWasRegistered) {
  void* out = nullptr;
  ASSERT_EQ(cudaMalloc(&out, 64 * 4), cudaSuccess);
  void* arguments[] = {&out};
  const long before = cuda_on_cpu::queued(cuda_on_cpu::Queued::kernel);
  EXPECT_EQ(launch(&program().fill, 64, 0, arguments), cudaSuccess);
  EXPECT_EQ(cuda_on_cpu::queued(cuda_on_cpu::Queued::kernel), before + 1);
  EXPECT_EQ(static_cast<std::uint32_t*>(out)[63], 63u);
  std::memset(out, 0, 256);
  cudaKernel_t kernel = nullptr;
  EXPECT_EQ(__cudaGetKernel(&kernel, &program().fill), cudaSuccess);
  EXPECT_EQ(__cudaLaunchKernel(kernel, dim3(1), dim3(64), arguments, 0, nullptr), cudaSuccess);
  EXPECT_EQ(static_cast<std::uint32_t*>(out)[63], 63u);
  cudaFree(out);
}

TEST(Runtime, SaysWhyALaunchFailed) {
  EXPECT_EQ(launch(&program().stray, 1, 0, nullptr), cudaErrorLaunchFailure);
  EXPECT_NE(std::string(cudaGetErrorString(cudaErrorLaunchFailure)).find("outside of allocated memory"),
            std::string::npos);
  EXPECT_NE(std::string(cudaGetErrorString(cudaErrorLaunchFailure)).find("stray"), std::string::npos);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(launch(&program().unknown, 1, 0, nullptr), cudaErrorInvalidDeviceFunction);
  EXPECT_EQ(launch(&program().missing, 1, 0, nullptr), cudaErrorLaunchFailure);
  EXPECT_EQ(launch(&program().stray, 2048, 0, nullptr), cudaErrorInvalidConfiguration);
  cudaGetLastError();
}

TEST(Runtime, MuchSharedMemoryMustBeAskedFor) {
  void* out = nullptr;
  ASSERT_EQ(cudaMalloc(&out, 128), cudaSuccess);
  void* arguments[] = {&out};
  const void* const fill = &program().fill;
  EXPECT_EQ(launch(fill, 32, 48 * 1024, arguments), cudaSuccess);
  EXPECT_EQ(launch(fill, 32, 48 * 1024 + 4, arguments), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(fill, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024), cudaSuccess);
  EXPECT_EQ(launch(fill, 32, 64 * 1024, arguments), cudaSuccess);
  EXPECT_NE(cudaFuncSetAttribute(fill, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 20), cudaSuccess);
  EXPECT_EQ(launch(fill, 32, 1 << 20, arguments), cudaErrorInvalidConfiguration);
  cudaGetLastError();
  cudaFree(out);
}

TEST(Runtime, CompressedCodeIsRefused) {
  FatBinary fat("\x01\x02\x03");
  EXPECT_THROW(__cudaRegisterFatBinary(&fat.wrapper), std::runtime_error);
}

}  // namespace
}  // namespace ptx_on_cpu::testing
