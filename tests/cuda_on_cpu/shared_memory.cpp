// Shared memory of the running block: an arena with the dynamic part first, then the variables, each followed by a red zone that
// AddressSanitizer guards. It starts as NaN.
#include <cstring>

#include "sanitizers.h"
#include "scheduler.h"

namespace cuda_on_cpu {
namespace {

constexpr std::size_t kRedZone = 64;
constexpr int kNaNByte = 0xFF;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// The sanitizers would take memset here, on a fiber, for a store by the kernel.
void fill_unseen(char* p, std::size_t bytes) {
  for (volatile char* at = p; at != p + bytes; ++at) *at = static_cast<char>(kNaNByte);
}

}  // namespace

void reset_shared_memory(Scheduler& s) {
  unpoison(s.arena, kSharedArena);
  std::memset(s.arena, kNaNByte, s.dynamic_bytes);
  poison(s.arena + s.dynamic_bytes, kSharedArena - s.dynamic_bytes);
  s.variables_end = round_up(s.dynamic_bytes + kRedZone, 256);
  s.variables_bytes = 0;
  s.block.variable_count = 0;
}

void* dyn_smem() {
  return scheduler->arena;
}

void* shared_var(const void* key, std::size_t bytes, std::size_t align) {
  Scheduler& s = *scheduler;
  for (int k = 0; k < s.block.variable_count; ++k) {
    if (s.block.variables[k].key == key) return s.block.variables[k].memory;
  }
  if (s.block.variable_count == kMaxSharedVariables) fail("more than 64 GPU_SHARED arrays", kNowhere);
  s.variables_bytes += round_up(bytes, align);
  if (s.variables_bytes > kStaticSharedLimit) fail("static shared memory above 48 KiB", kNowhere);
  const std::size_t begin = round_up(s.variables_end, align);
  if (begin + bytes > kSharedArena) fail("shared memory exhausted", kNowhere);
  s.variables_end = begin + bytes + kRedZone;
  char* memory = s.arena + begin;
  unpoison(memory, bytes);
  fill_unseen(memory, bytes);
  s.block.variables[s.block.variable_count++] = {key, memory};
  return memory;
}

}  // namespace cuda_on_cpu
