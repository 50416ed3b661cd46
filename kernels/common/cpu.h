#pragma once
// The CPU as a device: a number of threads, and scratch memory for operations.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/common/thread_team.h"

namespace moleblend {

/// A growing block of 64-byte aligned memory, reused from step to step.
class ScratchBlock {
 public:
  /// At least `bytes` bytes, 64-byte aligned, contents undefined. The former contents are lost when the block grows.
  void* reserve(std::size_t bytes);

 private:
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> memory_;
  std::size_t size_ = 0;
};

/// Whether this processor has vectors of 64 bytes (AVX-512 F, BW, DQ and VL).
bool has_avx512();
/// Whether this processor multiplies bf16 (AVX512-BF16).
bool has_bf16_products();

class Cpu;

/// Where time goes: a mark says what the device works on from then on.
class CpuMarks {
 public:
  explicit CpuMarks(Cpu&) {}
  void mark(int part) { marks_.push_back({part, Clock::now()}); }
  /// Adds to seconds[part] what was spent on each part up to now, and begins anew with the last one.
  void collect(std::span<double> seconds);

 private:
  using Clock = std::chrono::steady_clock;
  struct Mark {
    int part;
    Clock::time_point time;
  };
  std::vector<Mark> marks_;
};

/// Device context handed to every CPU operation as its first argument. Not thread-safe: one operation at a time.
///
/// Determinism: for the same number of threads every operation gives the same bits. Work is cut into one contiguous part
/// a thread by cost known beforehand, and sums over parts are added in the order of the threads.
class Cpu {
 public:
  using Block = ScratchBlock;
  using Marks = CpuMarks;

  /// What one is made of. `threads` >= 1. With `bf16_products`, where has_bf16_products() only, linear maps of floats round their operands to
  /// bf16 and sum in float; all else stays as it is.
  struct Place {
    int threads;
    bool bf16_products;
    Place(int count, bool bf16 = false) : threads(count), bf16_products(bf16) {}
  };
  explicit Cpu(Place place);

  int threads() const { return threads_; }
  bool bf16_products() const { return bf16_products_; }
  /// As "cpu, 8 threads".
  std::string name() const;
  /// Of a network whose activations are T.
  template <class T>
  const char* precision() const {
    return sizeof(T) == 8 ? "fp64" : bf16_products_ ? "bf16 products" : "fp32";
  }

  /// Calls f(thread) once for each thread in [0, threads()), in parallel; returns when all have returned. f must not throw.
  template <class F>
  void parallel(F&& f) {
    using Work = std::remove_reference_t<F>;
    team_->run([](void* work, int thread) { (*static_cast<Work*>(work))(thread); },
               const_cast<std::remove_const_t<Work>*>(&f));
  }

  // What a GPU does between its memory and the host's (see Gpu) is copying here, and nothing is queued.
  void wait() {}
  template <class T>
  void zero(T* memory, std::int64_t count);
  template <class T>
  void upload(T* to, const T* from, std::int64_t count) {
    std::copy_n(from, count, to);
  }
  template <class T>
  void download(T* to, const T* from, std::int64_t count) {
    std::copy_n(from, count, to);
  }
  /// Within the device's memory.
  template <class T>
  void copy(T* to, const T* from, std::int64_t count);

  /// Scratch of one thread (call it inside parallel()) or, with `shared()`, of the whole operation. Valid until the next
  /// call with the same thread. It grows at the first steps and then stays: no allocation in a steady loop.
  template <class T>
  T* scratch(int thread, std::size_t count) {
    return static_cast<T*>(per_thread_[static_cast<std::size_t>(thread)].reserve(count * sizeof(T)));
  }
  template <class T>
  T* shared(std::size_t count) {
    return static_cast<T*>(shared_.reserve(count * sizeof(T)));
  }

 private:
  int threads_;
  bool bf16_products_;
  std::unique_ptr<ThreadTeam> team_;
  std::vector<ScratchBlock> per_thread_;
  ScratchBlock shared_;
};

struct Range {
  std::int64_t begin, end;
};

/// Part `part` of `parts` of [0, count), cut evenly; cuts fall on multiples of `multiple`.
Range even_part(std::int64_t count, int parts, int part, std::int64_t multiple = 1);

template <class T>
void Cpu::zero(T* memory, std::int64_t count) {
  parallel([&](int thread) {
    const Range part = even_part(count, threads_, thread, 64);
    std::fill(memory + part.begin, memory + part.end, T{});
  });
}

template <class T>
void Cpu::copy(T* to, const T* from, std::int64_t count) {
  parallel([&](int thread) {
    const Range part = even_part(count, threads_, thread, 64);
    std::copy(from + part.begin, from + part.end, to + part.begin);
  });
}

/// Part `part` of `parts` of the items [0, count), cut by cost: `offset` has count + 1 entries, the running sum of the
/// items' costs (for example the pair offsets of a batch).
Range cost_part(const std::int64_t* offset, std::int64_t count, int parts, int part);

}  // namespace moleblend
