#pragma once
// What the host API tells of launches.

#include <cstddef>

#include "runtime.h"

namespace cuda_on_cpu {

/// Most shared memory of a block, in bytes.
std::size_t shared_limit();

/// Error of the calling host thread, since it was last taken.
cudaError_t peek_error();
cudaError_t take_error();

}  // namespace cuda_on_cpu
