#pragma once
// Molecules a second over a number of steps.

#include <cstdint>

namespace moleblend {

/// Work and time of a number of steps.
struct Pace {
  double molecules = 0, seconds = 0;
  void add(std::int64_t m, double s) { molecules += static_cast<double>(m), seconds += s; }
  /// Gives what came before less weight.
  void fade(double factor) { molecules *= factor, seconds *= factor; }
  double rate() const { return molecules / seconds; }
};

}  // namespace moleblend
