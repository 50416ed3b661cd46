#pragma once
// Ranks that find each other over TCP, where no MPI brings them together: GPUs then add up gradients by NCCL, and little else goes this way.

#include <cstdint>
#include <memory>
#include <string>

#include "engine/ranks/ranks.h"

namespace moleblend {

struct TcpPlace {
  int rank = 0, size = 1;
  std::string host;        // of rank 0: a name or an address
  std::uint16_t port = 0;  // on which rank 0 listens
  std::string job;         // the same for all ranks of a run, and for no other run
  double deadline_s = 600;
};

/// Meets the others: rank 0 is called by all, and tells each where the rest are; every two have a connection of their own. Callers that do
/// not say the right words are hung up on. Throws Error where a rank does not come by the deadline, or is another program's.
std::unique_ptr<Ranks> make_tcp_ranks(const TcpPlace& place);

/// What SLURM and launchers in the manner of torchrun tell their processes, or none where they have told nothing.
/// Throws Error where it can't be understood.
bool find_tcp_place(TcpPlace& place);

/// The first of a list of hosts as SLURM writes it: "node07" of "node[07-12,20],login1".
std::string first_host(const std::string& list);

}  // namespace moleblend
