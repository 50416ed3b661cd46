#pragma once
// Pre-emption and Ctrl-C: a run that is asked to stop ends after the step it is in, with a checkpoint.

#include <array>
#include <csignal>

namespace moleblend {

/// While it lives, the first SIGTERM, SIGINT or SIGUSR1 is noted instead of ending the program; the same signal a
/// second time ends it at once. One at a time.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// The signal that came, or 0.
  static int received();

 private:
  static constexpr std::array<int, 3> kSignals{SIGTERM, SIGINT, SIGUSR1};
  std::array<struct sigaction, kSignals.size()> former_;
};

}  // namespace moleblend
