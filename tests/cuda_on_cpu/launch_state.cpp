// What is known of launches after they ran: errors and counts. The executor of fibers and the machine of tests/ptx_on_cpu share it.
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "launch.h"

namespace cuda_on_cpu {
namespace {
std::mutex error_mutex;
std::string error_text;
thread_local cudaError_t error_of_thread = cudaSuccess;
std::atomic<long> queued_of_kind[3];
}  // namespace

cudaError_t report(cudaError_t error, const std::string& text) {
  const std::lock_guard lock(error_mutex);
  error_text = text;
  return error_of_thread = error;
}

cudaError_t note_error(cudaError_t error) {
  return error_of_thread = error;
}

const char* last_error() {
  return error_text.c_str();
}

cudaError_t peek_error() {
  return error_of_thread;
}

cudaError_t take_error() {
  return std::exchange(error_of_thread, cudaSuccess);
}

long queued(Queued kind) {
  return queued_of_kind[static_cast<int>(kind)];
}

void count(Queued kind) {
  ++queued_of_kind[static_cast<int>(kind)];
}

// The limits of compute capability 8.0 and 9.0.
bool possible(dim3 grid, dim3 block, std::size_t shared_bytes) {
  constexpr std::uint64_t kMostThreads = 1024;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  return threads > 0 && threads <= kMostThreads && block.z <= 64 && blocks > 0 && grid.x <= 0x7FFFFFFFu &&
         grid.y <= 65535 && grid.z <= 65535 && shared_bytes <= shared_limit();
}

std::size_t shared_limit() {
  static const std::size_t limit = [] {
    const char* kilobytes = std::getenv("CUDA_ON_CPU_SHARED_KB");
    return (kilobytes ? std::strtoull(kilobytes, nullptr, 10) : 227) * 1024;
  }();
  return limit;
}

}  // namespace cuda_on_cpu
