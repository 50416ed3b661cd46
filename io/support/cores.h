#pragma once
// How many processors there are to use.

namespace moleblend {

/// Cores that this process may use, at least 1: inside a container or a job of a batch system fewer than the machine has.
int available_cores();

}  // namespace moleblend
