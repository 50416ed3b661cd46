#pragma once
// The clock that Open Babel reads. It gives up looking for a molecule's canonical order after some seconds by time(), and then builds
// another conformer: a loaded machine or a clock that is set would decide what a data set holds.

namespace moleblend {

/// From here on time() counts seconds of processor time in this process, which nothing but its own work moves.
void count_time_by_own_work();

}  // namespace moleblend
