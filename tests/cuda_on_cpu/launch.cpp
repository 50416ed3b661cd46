// A launch: its blocks spread over host threads.
#include "launch.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "host_threads.h"
#include "sanitizers.h"
#include "scheduler.h"

namespace cuda_on_cpu {
namespace {

std::vector<unsigned> block_order(std::uint64_t blocks) {
  constexpr std::uint64_t kMost = 1u << 20;  // larger grids run in the order of their indices
  std::vector<unsigned> indices;
  if (blocks <= kMost) {
    indices.resize(blocks);
    std::iota(indices.begin(), indices.end(), 0u);
    put_in_order(indices, 77);
  }
  return indices;
}

struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes;
  Entry entry;
  const void* closure;
  std::uint64_t blocks;
  std::vector<unsigned> order;
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> failed{false};

  void work(Scheduler& mine) {
    Scheduler* outer = scheduler;
    if (outer) fail("a kernel launches a kernel", kNowhere);
    scheduler = &mine;
    mine.prepare(grid, block, shared_bytes, entry, closure);
    while (!failed) {
      const std::uint64_t k = next++;
      if (k >= blocks) break;
      const std::uint64_t index = order.empty() ? k : order[k];
      mine.run_block(make_uint3(static_cast<unsigned>(index % grid.x), static_cast<unsigned>(index / grid.x % grid.y),
                                static_cast<unsigned>(index / (std::uint64_t{grid.x} * grid.y))),
                     index);
      if (mine.failed) {
        failed = true;
        report(cudaErrorLaunchFailure, mine.describe());
      }
    }
    acquire(&mine.ended);  // not after each block: blocks of one launch have no order
    scheduler = nullptr;
  }
};

Scheduler& scheduler_of_caller() {
  static thread_local Scheduler* const mine = [] {
    auto* s = new Scheduler;
    s->use_this_host_thread();
    return s;
  }();
  return *mine;
}

}  // namespace

cudaError_t launch_raw(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t, Entry entry,
                       const void* closure) {
  if (!possible(grid, block, shared_bytes)) return report(cudaErrorInvalidConfiguration, "bad launch configuration");
  count(Queued::kernel);
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  Launch launch{grid, block, shared_bytes, entry, closure, blocks, block_order(blocks)};
  static Pool<Scheduler>& pool = *new Pool<Scheduler>;
  std::vector<std::thread> others;
  for (unsigned k = 1; k < host_threads(blocks, std::uint64_t{block.x} * block.y * block.z); ++k) {
    others.emplace_back([&] {
      Scheduler* s = pool.take();
      s->use_this_host_thread();
      launch.work(*s);
      pool.give_back(s);
    });
  }
  launch.work(scheduler_of_caller());
  for (std::thread& other : others) other.join();
  if (launch.failed) note_error(cudaErrorLaunchFailure);  // it may have been noted by another thread
  return launch.failed ? cudaErrorLaunchFailure : cudaSuccess;
}

}  // namespace cuda_on_cpu
