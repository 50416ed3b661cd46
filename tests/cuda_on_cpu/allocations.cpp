#include "allocations.h"

#include <map>
#include <mutex>

namespace cuda_on_cpu {
namespace {
std::mutex mutex;
// Never destroyed: memory is freed until the very end of the program.
std::map<std::uintptr_t, std::uintptr_t>& table() {
  static auto& ends = *new std::map<std::uintptr_t, std::uintptr_t>;
  return ends;
}
}  // namespace

void note_allocation(void* p, std::size_t bytes) {
  const std::lock_guard lock(mutex);
  const auto begin = reinterpret_cast<std::uintptr_t>(p);
  table()[begin] = begin + bytes;
}

void forget_allocation(const void* p) {
  const std::lock_guard lock(mutex);
  table().erase(reinterpret_cast<std::uintptr_t>(p));
}

std::vector<Allocation> allocations() {
  const std::lock_guard lock(mutex);
  std::vector<Allocation> all;
  all.reserve(table().size());
  for (const auto& [begin, end] : table()) all.push_back({begin, end});
  return all;
}

}  // namespace cuda_on_cpu
