#pragma once
// A stand-in for NCCL where "GPUs" are threads of one process and their memory is the host's: what the program calls of it, with its habit
// of answering "in progress" first, and with faults to order. It has NCCL's file name, so that whoever opens libnccl.so.2 gets it.

#include <nccl.h>

#include <cstddef>
#include <vector>

namespace moleblend::testing {

/// Lengths of the sums that the first rank has asked for since the last call.
std::vector<std::size_t> fake_nccl_lengths();
/// From now on every group's state is this; ncclSuccess ends it.
void fake_nccl_break(ncclResult_t state);

}  // namespace moleblend::testing
