#pragma once
// Pre-emption and Ctrl-C: a run that is asked to stop ends after the step it is in, with a checkpoint.

namespace moleblend {

/// While it lives, the first SIGTERM, SIGINT or SIGUSR1 is noted instead of ending the program; the same signal a
/// second time ends it at once. Of several at a time the first notes and the last gives back.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// The signal that came, or 0.
  static int received();
};

}  // namespace moleblend
