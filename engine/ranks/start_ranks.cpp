#include "engine/ranks/start_ranks.h"

#include <cstdlib>
#include <string>

#include "engine/ranks/tcp_ranks.h"
#include "io/support/plugin.h"

namespace moleblend {
namespace {

/// Open MPI's mpirun, MPICH's and Intel's, and srun with --mpi=pmix or pmi2.
bool started_by_mpi() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"})
    if (std::getenv(variable)) return true;
  return false;
}

std::unique_ptr<Ranks> start_mpi(const MpiOptions& options) {
  const auto* part =
      open_part<const MpiPart>({.file = "libmoleblend_mpi.so",
                                .getter = kMpiPartGetter,
                                .need = "a run of many ranks that mpirun or srun --mpi has started",
                                .remedy = "build moleblend where MPI is (configure with -DMOLEBLEND_MPI=on), or start "
                                          "it with srun --mpi=none or scripts/launch_local.sh --tcp"});
  return part->start(options);
}

}  // namespace

std::unique_ptr<Ranks> start_ranks(const MpiOptions& options) {
  if (started_by_mpi()) return start_mpi(options);
  if (TcpPlace place; find_tcp_place(place)) {
    place.deadline_s = options.deadline_s;
    return make_tcp_ranks(place);
  }
  return std::make_unique<SoleRank>();
}

}  // namespace moleblend
