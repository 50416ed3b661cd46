#pragma once
// The memory that kernels may touch: what cudaMalloc and cudaMallocHost gave and has not been freed.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cuda_on_cpu {

struct Allocation {
  std::uintptr_t begin, end;
};

void note_allocation(void* p, std::size_t bytes);
void forget_allocation(const void* p);
/// All that live, in the order of their addresses.
std::vector<Allocation> allocations();

}  // namespace cuda_on_cpu
