#pragma once
// State of the executor. Each host thread that works on a launch has a Scheduler, which runs one block at a time.

#include <string>
#include <vector>

#include "runtime.h"

namespace cuda_on_cpu {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxWarps = kMaxThreads / kWarpSize;
constexpr std::size_t kStaticSharedLimit = 48 * 1024;
constexpr std::size_t kSharedArena = 512 * 1024;  // dynamic shared memory, then variables, with red zones
constexpr int kMaxSharedVariables = 64;
constexpr int kFiberSets = 5;
constexpr Site kNowhere{"?", 0};

struct Fiber {
  void* stack_pointer = nullptr;  // while it does not run
  char* stack = nullptr;          // its lowest address
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tsan_fiber = nullptr;  // ThreadSanitizer's
};

/// Asynchronous copies of one thread, oldest first.
struct AsyncCopies {
  struct Copy {
    void* to;
    const void* from;
    int bytes, source_bytes;
  };
  static constexpr int kMaxCopies = 512, kMaxGroups = 64;
  Copy copy[kMaxCopies];
  int copies;
  int group_end[kMaxGroups];
  int groups;
};

enum class State : unsigned char { fresh, ready, running, waiting, done };

struct ThreadState : Thread {
  State state;
  Fiber* fiber;
  Site wait_site;
  const char* waits_in;
  AsyncCopies* async = nullptr;
};

struct Collective {
  alignas(16) std::uint32_t in[kWarpSize][kSlotBytes / 4];
  alignas(16) std::uint32_t out[kWarpSize][kSlotBytes / 4];
  unsigned mask, arrived, left, op;
  CombineFn combine;
  Site site;
  bool has(int lane) const { return (arrived >> lane) & 1u; }
};

struct Warp {
  unsigned alive = 0;
  unsigned in_flight = 0;
  Collective* collective[kWarpSize];  // sub-warps may have one each
  char order = 0;                     // its address: what ThreadSanitizer is told of __syncwarp
};

struct Barrier {
  int count = -1;  // threads; below 0: all that live
  int arrived = 0;
  Site site{nullptr, 0};  // where the first arrived
  int how_many = 0, all = 1, any = 0;
  int result[3] = {0, 0, 0};
  int waiting_count = 0;
  ThreadState* waiting[kMaxThreads];
  unsigned generation = 0;
  char order[2];  // their addresses, in turns: what ThreadSanitizer is told
};

struct Block : BlockView {
  Barrier barriers[16];
  int alive = 0;
  struct SharedVariable {
    const void* key;
    char* memory;
  };
  SharedVariable variables[kMaxSharedVariables];
  int variable_count = 0;
};

/// Threads that can go on, a ring for every warp.
class ReadyThreads {
 public:
  void clear();
  bool empty() const { return warps_ == 0; }
  void push(ThreadState* thread);
  /// Of a warp that the order of threads chooses; within a warp the first that came.
  ThreadState* pop();
  void seed(std::uint64_t seed) { random_ = seed | 1; }

 private:
  struct Ring {
    ThreadState* thread[kWarpSize];
    unsigned char head, count;
  };
  unsigned next_warp();

  Ring rings_[kMaxWarps];
  std::uint32_t warps_ = 0;  // those with a ready thread
  std::uint64_t random_ = 1;
};

struct Scheduler {
  // of the launch
  Entry entry = nullptr;
  const void* closure = nullptr;
  std::size_t dynamic_bytes = 0;

  // of the block
  Block block;
  std::vector<ThreadState> threads;
  std::vector<Warp> warps;
  ReadyThreads ready;
  ThreadState* current = nullptr;
  char* arena = nullptr;            // kSharedArena bytes
  std::size_t variables_end = 0;    // in the arena
  std::size_t variables_bytes = 0;  // without red zones

  // An error is only noted where it is found, on a fiber; its text is made by the host thread.
  bool failed = false;
  const char* error = nullptr;  // null: a deadlock
  uint3 error_thread{};
  Site error_site{};

  // Kept from launch to launch.
  Fiber host;
  Fiber* running = nullptr;
  std::vector<Fiber*> fibers, free_fibers;
  Collective* collectives = nullptr;  // kMaxThreads of them
  std::vector<Collective*> free_collectives;
  void* tsan_host = nullptr;
  std::vector<Fiber*> fiber_sets[kFiberSets];  // under ThreadSanitizer, instead of fibers
  std::uint64_t blocks_run = 0;
  char started = 0,
       ended = 0;  // their addresses: ThreadSanitizer's order between the host thread and a block's threads

  /// The stack to come back to. A Scheduler may serve another host thread with each launch.
  void use_this_host_thread();
  /// Before blocks of a launch, on the host thread that will run them.
  void prepare(dim3 grid, dim3 block_size, std::size_t shared_bytes, Entry entry_point, const void* arguments);
  /// Runs one block to its end, or to an error.
  void run_block(uint3 index, std::uint64_t linear_index);
  /// The text of the error.
  std::string describe() const;
};

/// Of this host thread; null outside of a launch.
extern constinit thread_local Scheduler* scheduler;

/// Puts the running thread aside until wake() is called for it, and runs others.
void wait_in(const char* what, Site site);
void wake(ThreadState* thread);

// What a thread's end lets go on.
void thread_left_block();
void thread_left_warp(Warp& warp);
bool copies_pending(const ThreadState& thread);

/// New shared memory for a block.
void reset_shared_memory(Scheduler& s);

/// `indices` in the order that CUDA_ON_CPU_ORDER asks for.
void put_in_order(std::vector<unsigned>& indices, std::uint64_t salt);

}  // namespace cuda_on_cpu
