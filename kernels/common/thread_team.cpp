#include "kernels/common/thread_team.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// oneDNN comes with an OpenMP run-time library in some builds (Debian's), and with none in others.
extern "C" [[gnu::weak]] void omp_set_num_threads(int threads);

namespace moleblend {

namespace {

// To sleep and be woken are two system calls and, in a virtual machine, tens of microseconds; most waits between and in regions are
// shorter than this. 200 steps of the small model on two virtual cores, medians of three runs in turns: 25.6 s with 8 microseconds, 19.0 with
// 100, 18.0 with 500. 150 steps beside two busy programs: 104 s with 8, 39 with 130, as who sleeps must wait for a turn; beside
// one, 30 and 33.
constexpr std::chrono::microseconds kWatch{100};
constexpr int kPausesALook = 16;  // a pause is 40 to 140 cycles

/// A product that a thread of the team asks oneDNN for is that thread's own: oneDNN would start OpenMP threads for each.
void keep_libraries_to_this_thread() {
  if (omp_set_num_threads) omp_set_num_threads(1);
}

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/// Waits until `value` is no longer `old`.
void await_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point until = Clock::now() + kWatch;
  do {
    for (int k = 0; k < kPausesALook; ++k) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause();
    }
  } while (Clock::now() < until);
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

void await_zero(const std::atomic<std::uint32_t>& value) {
  for (std::uint32_t left = value.load(std::memory_order_acquire); left != 0;
       left = value.load(std::memory_order_acquire))
    await_change(value, left);
}

void watch_a_little() {
  for (int k = 0; k < kPausesALook; ++k) pause();
}

ThreadTeam::ThreadTeam(int threads) {
  keep_libraries_to_this_thread();
  for (int thread = 1; thread < threads; ++thread) others_.emplace_back([this, thread] { serve(thread); });
}

ThreadTeam::~ThreadTeam() {
  stop_ = true;
  region_.fetch_add(1, std::memory_order_release);
  region_.notify_all();
}

void ThreadTeam::run(void (*work)(void*, int), void* context) {
  const auto others = static_cast<std::uint32_t>(others_.size());
  if (others > 0) {
    work_ = work;
    context_ = context;
    working_.store(others, std::memory_order_relaxed);
    region_.fetch_add(1, std::memory_order_release);
    region_.notify_all();
  }
  work(context, 0);
  await_zero(working_);
}

void ThreadTeam::serve(int thread) {
  keep_libraries_to_this_thread();
  for (std::uint32_t seen = 0;;) {
    await_change(region_, seen);
    ++seen;
    if (stop_) return;
    work_(context_, thread);
    if (working_.fetch_sub(1, std::memory_order_acq_rel) == 1) working_.notify_one();
  }
}

}  // namespace moleblend
