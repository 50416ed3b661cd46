#pragma once
// How this process finds out that it is one of many.

#include <memory>

#include "engine/ranks/mpi_part.h"

namespace moleblend {

/// The ranks that mpirun or srun has started, this one among them; a process started alone gets a run of one. Throws Error where it was
/// started as one of many and can't reach the others.
std::unique_ptr<Ranks> start_ranks(const MpiOptions& options);

}  // namespace moleblend
