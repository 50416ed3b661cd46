#pragma once
// How a launch is spread over host threads.

#include <cstdint>
#include <mutex>
#include <vector>

namespace cuda_on_cpu {

/// Host threads for a launch: as many as CUDA_ON_CPU_WORKERS says, or as there are, and no more than blocks; 1 for a small launch and under
/// ThreadSanitizer.
unsigned host_threads(std::uint64_t blocks, std::uint64_t threads_of_block);

/// What host threads work in that come and go with each launch. It stays to the end of the program: a large part of a launch's cost would
/// be its new memory.
template <class T>
class Pool {
 public:
  T* take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return new T;
    T* one = free_.back();
    free_.pop_back();
    return one;
  }
  void give_back(T* one) {
    const std::lock_guard lock(mutex_);
    free_.push_back(one);
  }

 private:
  std::mutex mutex_;
  std::vector<T*> free_;
};

}  // namespace cuda_on_cpu
