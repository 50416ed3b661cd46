// Asynchronous copies from global to shared memory (cp.async).
#include <sys/mman.h>

#include <cstring>

#include "scheduler.h"

namespace cuda_on_cpu {
namespace {

// By the C library's functions (this file is compiled with -fno-builtin), which the sanitizers watch: these are the kernel's accesses.
void make(const AsyncCopies::Copy& copy) {
  const auto copied = static_cast<std::size_t>(copy.source_bytes);
  std::memcpy(copy.to, copy.from, copied);
  std::memset(static_cast<char*>(copy.to) + copied, 0, static_cast<std::size_t>(copy.bytes) - copied);
}

AsyncCopies& copies_of(ThreadState& thread) {
  if (!thread.async) {
    // Zero pages. An allocation on a fiber would be a CUDA thread's to ThreadSanitizer.
    void* memory = mmap(nullptr, sizeof(AsyncCopies), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for the list of asynchronous copies", kNowhere);
    thread.async = static_cast<AsyncCopies*>(memory);
  }
  return *thread.async;
}

}  // namespace

void cp_async(void* to, const void* from, int bytes, int source_bytes, Site site) {
  const auto misaligned = [bytes](const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % static_cast<unsigned>(bytes) != 0;
  };
  if (misaligned(to) || misaligned(from)) fail("cp.async address not aligned to its size", site);
  if (source_bytes < 0 || source_bytes > bytes) fail("cp.async with a source that is longer than the copy", site);
  std::memset(to, 0xFF, static_cast<std::size_t>(bytes));
  AsyncCopies& async = copies_of(*scheduler->current);
  if (async.copies == AsyncCopies::kMaxCopies) fail("more than 512 cp.async copies in flight in one thread", site);
  async.copy[async.copies++] = {to, from, bytes, source_bytes};
}

void cp_async_commit() {
  AsyncCopies& async = copies_of(*scheduler->current);
  if (async.groups == AsyncCopies::kMaxGroups)
    fail("more than 64 groups of cp.async copies in flight in one thread", kNowhere);
  async.group_end[async.groups++] = async.copies;
}

void cp_async_wait(int keep) {
  AsyncCopies& async = copies_of(*scheduler->current);
  if (async.groups <= keep) return;
  const int groups_done = async.groups - keep;
  const int copies_done = async.group_end[groups_done - 1];
  for (int k = 0; k < copies_done; ++k) make(async.copy[k]);
  for (int k = copies_done; k < async.copies; ++k) async.copy[k - copies_done] = async.copy[k];
  for (int k = groups_done; k < async.groups; ++k) async.group_end[k - groups_done] = async.group_end[k] - copies_done;
  async.copies -= copies_done;
  async.groups = keep;
}

bool copies_pending(const ThreadState& thread) {
  return thread.async && thread.async->copies > 0;
}

}  // namespace cuda_on_cpu
