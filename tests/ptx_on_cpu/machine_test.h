#pragma once
// What the machine's own tests share: PTX written in a test, run on inputs and outputs in device memory.

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "decoder.h"
#include "kernel_launch.h"

namespace ptx_on_cpu::testing {

constexpr const char* kHead = ".version 8.0\n.target sm_90\n.address_size 64\n";

/// Device memory of n values, with nothing allocated right after it.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::vector<T> values) : count_(values.size()) {
    void* p = nullptr;
    EXPECT_EQ(cudaMalloc(&p, count_ * sizeof(T)), cudaSuccess);
    data_ = static_cast<T*>(p);
    std::copy(values.begin(), values.end(), data_);
  }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }
  T* data() const { return data_; }
  T operator[](std::size_t k) const { return data_[k]; }
  std::vector<T> values() const { return {data_, data_ + count_}; }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

/// A kernel `k(in, out)` with registers of every kind; before `body` it has set %rd1 = in, %rd2 = out, %r1 = the thread's index,
/// %rd3 = out + 8 · index, %rd4 = in + 8 · index.
struct TestKernel {
  explicit TestKernel(const std::string& body, const std::string& before = "", const std::string& directives = "")
      : module(std::string(kHead) + before + ".visible .entry k(.param .u64 k_in, .param .u64 k_out)\n" + directives +
               "{\n"
               ".reg .pred %p<16>;\n.reg .b16 %rs<32>;\n.reg .b32 %r<64>;\n.reg .f32 %f<64>;\n.reg .b64 %rd<64>;\n"
               ".reg .f64 %fd<32>;\n"
               "ld.param.u64 %rd1, [k_in];\nld.param.u64 %rd2, [k_out];\nmov.u32 %r1, %tid.x;\n"
               "mul.wide.u32 %rd3, %r1, 8;\nadd.s64 %rd4, %rd1, %rd3;\nadd.s64 %rd3, %rd2, %rd3;\n" +
               body + "\nret;\n}\n") {
    kernel = Decoder::decode(module, module.entries().at("k"));
  }
  void run(const void* in, void* out, unsigned threads = 32, unsigned blocks = 1,
           std::size_t dynamic_shared = 0) const {
    void* arguments[] = {&in, &out};
    launch(*kernel, {blocks, 1, 1}, {threads, 1, 1}, dynamic_shared, arguments);
  }
  Module module;
  std::unique_ptr<Kernel> kernel;
};

/// One value of each thread, from a kernel that leaves it in the 32-bit register %r0.
inline std::vector<std::uint32_t> words(const std::string& body, unsigned threads = 32, std::size_t dynamic_shared = 0,
                                        const std::string& before = "", const std::vector<std::uint64_t>& in = {0}) {
  const TestKernel kernel(body + "\ncvt.u64.u32 %rd0, %r0;\nst.global.u64 [%rd3], %rd0;", before);
  DeviceArray<std::uint64_t> input(in), output(std::vector<std::uint64_t>(threads, ~std::uint64_t{0}));
  kernel.run(input.data(), output.data(), threads, 1, dynamic_shared);
  std::vector<std::uint32_t> r;
  for (const std::uint64_t x : output.values()) r.push_back(static_cast<std::uint32_t>(x));
  return r;
}

/// The message with which the kernel's launch fails; empty: it does not.
inline std::string failure_of(const std::string& body, unsigned threads = 32, std::size_t dynamic_shared = 0,
                              const std::string& before = "") {
  try {
    words(body, threads, dynamic_shared, before);
  } catch (const LaunchFailure& error) {
    return error.what();
  }
  return {};
}

/// The message with which the PTX is refused; empty: it is not.
inline std::string refusal_of(const std::string& body, const std::string& before = "") {
  try {
    const TestKernel kernel(body, before);
  } catch (const PtxError& error) {
    return error.what();
  }
  return {};
}

/// What kernel `k` was counted for since clear_counts().
inline Counts counted() {
  const auto one = counts().find("k");
  return one == counts().end() ? Counts{} : one->second;
}

}  // namespace ptx_on_cpu::testing
