#pragma once
// A fixed team of threads for short parallel regions, several hundred of which make a training step.

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace moleblend {

/// Waits until `value` is 0, of which the thread that makes it so notifies: watches for a tenth of a millisecond, then sleeps.
void await_zero(const std::atomic<std::uint32_t>& value);

/// One look of a thread that watches: tells the processor so, and takes about half a microsecond.
void watch_a_little();

/// The calling thread and `threads` - 1 others. Between regions the others watch for the next one for a tenth of a millisecond and then
/// sleep: a region right behind another starts at once, and a machine that other programs share loses little to waiting threads.
/// (OpenMP's run-time libraries wait for milliseconds by default, which made a step on a busy machine ten times longer.)
class ThreadTeam {
 public:
  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  /// Calls work(context, thread) once for each thread, 0 on the caller's; returns when all have returned. Not reentrant; `work` must
  /// not throw.
  void run(void (*work)(void* context, int thread), void* context);

 private:
  void serve(int thread);

  // What the team works on; written before `region_` moves on, read after.
  void (*work_)(void*, int) = nullptr;
  void* context_ = nullptr;
  bool stop_ = false;
  alignas(64) std::atomic<std::uint32_t> region_{0};   // counts the regions begun
  alignas(64) std::atomic<std::uint32_t> working_{0};  // other threads that have not finished the region
  std::vector<std::jthread> others_;
};

}  // namespace moleblend
