#include "kernel_launch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string_view>
#include <thread>

#include "host_threads.h"

namespace ptx_on_cpu {
namespace {

Counts sum_of(const Kernel& kernel, const std::vector<InstructionCounts>& of_instructions) {
  Counts c;
  for (std::size_t k = 0; k < kernel.code.size(); ++k) {
    const InstructionCounts& one = of_instructions[k];
    const Class kind = kernel.code[k].kind;
    c.instructions[static_cast<std::size_t>(kind)] += one.runs;
    c.lanes += one.lanes;
    switch (kind) {
      case Class::global_load:
        c.load_sectors += one.sectors;
        c.load_bytes += one.bytes;
        c.shared_load_wavefronts += one.wavefronts;  // of generic addresses
        break;
      case Class::global_store:
      case Class::atomic:
        c.store_sectors += one.sectors;
        c.store_bytes += one.bytes;
        c.shared_store_wavefronts += one.wavefronts;
        break;
      case Class::async_copy:
        c.copy_sectors += one.sectors;
        c.copy_bytes += one.bytes;
        c.copy_wavefronts += one.wavefronts;
        break;
      case Class::ldmatrix:
        c.ldmatrix_wavefronts += one.wavefronts;
        break;
      case Class::shared_store:
        c.shared_store_wavefronts += one.wavefronts;
        break;
      default:
        c.shared_load_wavefronts += one.wavefronts;
    }
  }
  return c;
}

struct Launch {
  LaunchState state;
  std::uint64_t blocks;
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string failure;
  Counts counts;

  void work(Block& room) {
    room.prepare(state);
    const Dim grid = state.grid;
    try {
      while (!failed) {
        const std::uint64_t turn = next++;
        if (turn >= blocks) break;
        const std::uint64_t k = state.reversed ? blocks - 1 - turn : turn;
        room.run({static_cast<std::uint32_t>(k % grid.x), static_cast<std::uint32_t>(k / grid.x % grid.y),
                  static_cast<std::uint32_t>(k / (std::uint64_t{grid.x} * grid.y))});
      }
    } catch (const LaunchFailure& error) {
      const std::lock_guard lock(mutex);
      if (!failed) failure = error.what();
      failed = true;
    }
    const Counts mine = sum_of(*state.kernel, room.counts);
    const std::lock_guard lock(mutex);
    counts += mine;
  }
};

}  // namespace

void launch(const Kernel& kernel, Dim grid, Dim block, std::size_t dynamic_shared, void* const* arguments) {
  Launch all;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  all.blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  if (threads > kernel.most_threads)
    throw LaunchFailure(std::to_string(threads) + " threads in a block of " + kernel.name + ", compiled for at most " +
                        std::to_string(kernel.most_threads));
  const std::uint64_t shared_end =
      dynamic_shared > 0 ? kernel.dynamic_begin + dynamic_shared : kSharedBegin + kernel.static_shared;
  const char* order = std::getenv("CUDA_ON_CPU_ORDER");
  const bool reversed = order && std::string_view(order) == "rev";
  all.state = {&kernel, grid, block, shared_end, {}, cuda_on_cpu::allocations(), reversed};
  all.state.parameters.resize(kernel.parameter_bytes);
  for (std::size_t k = 0; k < kernel.parameters.size(); ++k)
    std::memcpy(all.state.parameters.data() + kernel.parameters[k].offset, arguments[k], kernel.parameters[k].bytes);

  static auto& rooms = *new cuda_on_cpu::Pool<Block>;
  const auto work = [&] {
    Block* room = rooms.take();
    all.work(*room);
    rooms.give_back(room);
  };
  std::vector<std::thread> others;
  for (unsigned k = 1; k < cuda_on_cpu::host_threads(all.blocks, threads); ++k) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  if (all.failed) throw LaunchFailure(all.failure);
  all.counts.launches = 1;
  all.counts.blocks = all.blocks;
  all.counts.warps = all.blocks * ((threads + kLanes - 1) / kLanes);
  add_counts(kernel.name, all.counts);
}

}  // namespace ptx_on_cpu
