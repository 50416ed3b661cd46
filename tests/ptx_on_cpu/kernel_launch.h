#pragma once
// Running a decoded kernel.

#include <cstddef>

#include "machine.h"

namespace ptx_on_cpu {

/// Runs all blocks and adds to counts(). `arguments`: a pointer to each parameter's value, as cudaLaunchKernel has them. Throws
/// LaunchFailure. Blocks are spread over host threads where there are enough (CUDA_ON_CPU_WORKERS: how many).
void launch(const Kernel& kernel, Dim grid, Dim block, std::size_t dynamic_shared, void* const* arguments);

}  // namespace ptx_on_cpu
