#include "engine/training/stop_signal.h"

namespace moleblend {
namespace {
volatile std::sig_atomic_t noted = 0;
extern "C" void note(int signal) {
  noted = signal;
}
}  // namespace

StopSignal::StopSignal() {
  noted = 0;
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags =
      SA_RESTART | SA_RESETHAND;  // no interrupted reads or writes; the default action at the second signal
  for (std::size_t k = 0; k < kSignals.size(); ++k) sigaction(kSignals[k], &action, &former_[k]);
}

StopSignal::~StopSignal() {
  for (std::size_t k = 0; k < kSignals.size(); ++k) sigaction(kSignals[k], &former_[k], nullptr);
}

int StopSignal::received() {
  return noted;
}

}  // namespace moleblend
