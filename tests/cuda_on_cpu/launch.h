#pragma once
// What the host API tells of launches.

#include <cstddef>
#include <string>

#include "runtime.h"

namespace cuda_on_cpu {

/// Most shared memory of a block, in bytes.
std::size_t shared_limit();

/// Whether a GPU could be asked for it.
bool possible(dim3 grid, dim3 block, std::size_t shared_bytes);

/// Notes what a launch of the calling host thread failed of, for last_error(). Returns `error`.
cudaError_t report(cudaError_t error, const std::string& text);
/// The same of a failure that another host thread reported.
cudaError_t note_error(cudaError_t error);
/// Error of the calling host thread, since it was last taken.
cudaError_t peek_error();
cudaError_t take_error();

/// What has been queued since the program began, by all host threads. Each is a call of the driver on a GPU.
enum class Queued { kernel, product, transfer };  // product: of cuBLASLt; transfer: a copy or a fill
long queued(Queued kind);
/// One more of them.
void count(Queued kind);

}  // namespace cuda_on_cpu
