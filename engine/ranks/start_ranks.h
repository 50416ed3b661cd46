#pragma once
// How this process finds out that it is one of many.

#include <memory>

#include "engine/ranks/mpi_part.h"

namespace moleblend {

/// The ranks among which this process is. Started by mpirun, or by srun with --mpi: MPI's. By srun without it, or with RANK, WORLD_SIZE,
/// MASTER_ADDR and MASTER_PORT in its environment, as torchrun has it: over TCP. Alone: a run of one. Throws Error where it was started as
/// one of many and can't reach the others.
std::unique_ptr<Ranks> start_ranks(const MpiOptions& options);

}  // namespace moleblend
