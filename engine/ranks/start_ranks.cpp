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
  constexpr const char* kLibrary = "libmoleblend_mpi.so";
  const Plugin plugin = open_plugin(kLibrary, kMpiPartGetter);
  if (!plugin.symbol) {
    throw Error(
        "a run of many ranks needs {}, which can't be opened: {}; build moleblend where MPI is (configure with "
        "-DMOLEBLEND_MPI=on)",
        kLibrary, plugin.cause);
  }
  const MpiPart* part = reinterpret_cast<MpiPartGetter*>(plugin.symbol)(MOLEBLEND_VERSION);
  if (!part)
    throw Error("{} belongs to another version of moleblend than this one ({}); reinstall moleblend", kLibrary,
                MOLEBLEND_VERSION);
  return part->start(options);
}

}  // namespace moleblend
