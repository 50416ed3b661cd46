#include "io/prepare/reader_clock.h"

#include <time.h>

#include <atomic>

namespace {
std::atomic<bool> by_own_work = false;
}

namespace moleblend {

void count_time_by_own_work() {
  by_own_work = true;
}

}  // namespace moleblend

/// In place of the C library's, for all of the program and every library that it loads.
extern "C" time_t time(time_t* out) noexcept {
  timespec now{};
  if (::clock_gettime(by_own_work ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_REALTIME, &now) != 0) return -1;
  if (out != nullptr) *out = now.tv_sec;
  return now.tv_sec;
}
