// Preloaded into a program, its wall clock jumps: every reading is years from the one before, forwards and back. Clocks that only run
// forward are left as they are: no setting of a machine's time moves those.

#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

#include <atomic>

namespace {

time_t jump() {
  static std::atomic<unsigned> readings{0};
  constexpr time_t kYear = 365 * 86400;
  return readings++ % 2 == 0 ? 5 * kYear : -5 * kYear;
}

bool is_wall_clock(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* now) noexcept {
  using Function = int (*)(clockid_t, timespec*);
  static const auto real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "clock_gettime"));
  const int status = real(clock, now);
  if (status == 0 && is_wall_clock(clock)) now->tv_sec += jump();
  return status;
}

int gettimeofday(timeval* __restrict now, void* __restrict zone) noexcept {
  using Function = int (*)(timeval*, void*);
  static const auto real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "gettimeofday"));
  const int status = real(now, zone);
  if (status == 0) now->tv_sec += jump();
  return status;
}

time_t time(time_t* now) noexcept {
  timespec reading;
  if (clock_gettime(CLOCK_REALTIME, &reading) != 0) return -1;
  if (now != nullptr) *now = reading.tv_sec;
  return reading.tv_sec;
}
}
