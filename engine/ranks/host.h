#pragma once
// Ranks and the machines that they are on.

#include <string>

#include "engine/ranks/ranks.h"

namespace moleblend {

/// For people.
std::string host_name();
/// The same for all processes of one machine, in whatever containers, and for none of another.
std::string machine_id();
/// Called by all ranks: how many with lower numbers are on this one's machine. Each takes the GPU of this number.
int rank_on_host(Ranks& ranks);

}  // namespace moleblend
