#include "engine/ranks/start_ranks.h"

#include <cstdlib>
#include <string>

#include "io/support/error.h"
#include "io/support/plugin.h"

namespace moleblend {
namespace {

int number_in(const char* variable) {
  const char* text = std::getenv(variable);
  return text ? std::atoi(text) : 0;
}

}  // namespace

std::unique_ptr<Ranks> start_ranks(const MpiOptions& options) {
  // Open MPI's mpirun, MPICH's and Intel's, and srun with --mpi=pmix or pmi2.
  bool by_mpi = false;
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"})
    by_mpi = by_mpi || std::getenv(variable) != nullptr;
  if (!by_mpi) {
    const int tasks = number_in("SLURM_STEP_NUM_TASKS");
    if (tasks > 1)
      throw Error(
          "srun has started {} tasks that know nothing of each other; use `srun --mpi=pmix` (see `srun --mpi=list`)",
          tasks);
    return std::make_unique<SoleRank>();
  }
  const auto* part =
      open_part<const MpiPart>({.file = "libmoleblend_mpi.so",
                                .getter = kMpiPartGetter,
                                .need = "a run of many ranks",
                                .remedy = "build moleblend where MPI is (configure with -DMOLEBLEND_MPI=on)"});
  return part->start(options);
}

}  // namespace moleblend
