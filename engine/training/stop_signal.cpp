#include "engine/training/stop_signal.h"

#include <array>
#include <csignal>
#include <mutex>

namespace moleblend {
namespace {
constexpr std::array kSignals{SIGTERM, SIGINT, SIGUSR1};
volatile std::sig_atomic_t noted = 0;
extern "C" void note(int signal) {
  noted = signal;
}

std::mutex mutex;
int holders = 0;
std::array<struct sigaction, kSignals.size()> former;
}  // namespace

StopSignal::StopSignal() {
  const std::lock_guard lock(mutex);
  if (holders++ > 0) return;
  noted = 0;
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags =
      SA_RESTART | SA_RESETHAND;  // no interrupted reads or writes; the default action at the second signal
  for (std::size_t k = 0; k < kSignals.size(); ++k) sigaction(kSignals[k], &action, &former[k]);
}

StopSignal::~StopSignal() {
  const std::lock_guard lock(mutex);
  if (--holders > 0) return;
  for (std::size_t k = 0; k < kSignals.size(); ++k) sigaction(kSignals[k], &former[k], nullptr);
}

int StopSignal::received() {
  return noted;
}

}  // namespace moleblend
