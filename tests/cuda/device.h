#pragma once
// What the tests of CUDA operations use. The same tests run twice: with kernels compiled for the CPU executor (always), and with kernels
// compiled by nvcc (where there is a GPU).
//
// The rule for errors: the fp64 CPU version of the operation, on inputs rounded to the tested type, is the truth.
//   float: a tolerance with its reason.
//   bf16: at most 2 times (gradients: 3 times) the error of a plain bf16 version: see expect_within_plain_bf16.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/common/gpu.h"
#include "kernels/common/packed.h"
#include "tests/kernels/check.h"

namespace moleblend::testing {

/// What a test is to do: under ThreadSanitizer, which follows every access of every CUDA thread, less of it that reaches the same kernels
/// and, in each, all that threads do for each other.
#ifdef MOLEBLEND_THREAD_SANITIZED
constexpr bool kThreadSanitized = true;
#else
constexpr bool kThreadSanitized = false;
#endif
/// The lists live as long as the expression in which this is called.
template <class T>
constexpr std::initializer_list<T> sized(std::initializer_list<T> usual, std::initializer_list<T> thread_sanitized) {
  return kThreadSanitized ? thread_sanitized : usual;
}

/// A device of each test's own: the executor, or a GPU. Where there is none, no test runs (main.cpp).
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override { gpu_.reset(); }
  Gpu& gpu() { return *gpu_; }

 private:
  std::unique_ptr<Gpu> gpu_;
};

/// An array in device memory. In the executor it is a heap block of exactly this size, so that AddressSanitizer sees every step outside.
template <class T>
class DeviceVector {
 public:
  DeviceVector(Gpu& gpu, std::size_t count) : gpu_(&gpu), count_(count) {
    data_ = static_cast<T*>(allocate(count * sizeof(T)));
  }
  DeviceVector(Gpu& gpu, const std::vector<T>& from) : DeviceVector(gpu, from.size()) {
    gpu.upload(data_, from.data(), static_cast<std::int64_t>(count_));
  }
  DeviceVector(DeviceVector&& o) noexcept : gpu_(o.gpu_), data_(o.data_), count_(o.count_) { o.data_ = nullptr; }
  DeviceVector(const DeviceVector&) = delete;
  ~DeviceVector() { release(data_); }

  T* data() const { return data_; }
  std::size_t size() const { return count_; }
  std::vector<T> host() const {
    std::vector<T> v(count_);
    gpu_->download(v.data(), data_, static_cast<std::int64_t>(count_));
    return v;
  }

 private:
  static void* allocate(std::size_t bytes);
  static void release(void* p);
  Gpu* gpu_;
  T* data_ = nullptr;
  std::size_t count_;
};

/// Device memory that holds NaN: what an operation must overwrite.
template <class T>
DeviceVector<T> unset(Gpu& gpu, std::size_t count) {
  std::vector<T> v(count);
  if (count > 0) std::memset(static_cast<void*>(v.data()), 0xFF, count * sizeof(T));
  return DeviceVector<T>(gpu, v);
}

/// A packed batch's offsets in device memory, with what GPU kernels ask for.
class DevicePacked {
 public:
  DevicePacked(Gpu& gpu, const Packed& host);
  Packed packed() const { return packed_; }

 private:
  DeviceVector<std::int64_t> atom_, pair_, token_pair_;
  DeviceVector<std::int32_t> token_molecule_, by_size_;
  Packed packed_;
};

// Rounding to the tested type and back.
template <class T>
std::vector<T> stored(const std::vector<double>& v) {
  std::vector<T> r(v.size());
  std::transform(v.begin(), v.end(), r.begin(), [](double x) { return narrow<T>(static_cast<Wide<T>>(x)); });
  return r;
}
template <class T>
std::vector<double> as_double(const std::vector<T>& v) {
  std::vector<double> r(v.size());
  std::transform(v.begin(), v.end(), r.begin(), [](T x) { return static_cast<double>(to_float(x)); });
  return r;
}
/// What the operation is really given: the values after rounding, for the fp64 version.
template <class T>
std::vector<double> rounded(const std::vector<double>& v) {
  return as_double(stored<T>(v));
}

/// To bf16 and back: what a plain bf16 version does to each array.
inline double in_bf16(double x) {
  return to_float(to_bf16(static_cast<float>(x)));
}

/// Root mean square of (a − b); NaN in either comes through.
double rms_difference(const std::vector<double>& a, const std::vector<double>& b);

/// The rule for bf16 (see above): rms error of `ours` is at most `factor` times that of `plain`, both against `truth`, and no single
/// error is beyond 8 · factor times the largest of plain's. `plain` is the operation as a straightforward bf16 program has it: every
/// intermediate array that would be stored between its parts is rounded to bf16. Fails on NaN.
void expect_within_plain_bf16(const std::vector<double>& ours, const std::vector<double>& plain,
                              const std::vector<double>& truth, double factor, const char* what);

/// Two runs of f give the same bytes.
template <class F>
void expect_same_bytes_twice(F&& f, const char* what) {
  const auto first = f(), second = f();
  ASSERT_EQ(first.size(), second.size()) << what;
  EXPECT_EQ(std::memcmp(first.data(), second.data(), first.size() * sizeof(first[0])), 0)
      << what << ": two runs differ";
}

}  // namespace moleblend::testing
