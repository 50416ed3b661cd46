#pragma once
// Errors of launches, as the host API hands them on.

#include "runtime.h"

namespace cuda_on_cpu {

/// Of the calling host thread, since it was last taken.
cudaError_t peek_error();
cudaError_t take_error();

}  // namespace cuda_on_cpu
