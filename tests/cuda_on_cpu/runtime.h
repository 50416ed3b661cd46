#pragma once
// The executor: runs CUDA kernels that the host compiler compiled. Every thread of a block is a fiber; a fiber runs until it meets the
// others, in a barrier or a warp-wide operation, so that a block is one host thread's work and a grid is spread over host threads.
//
// What it finds that a GPU may not show: threads that meet at different barriers, deadlocks, shuffles from lanes that are not there,
// copies never waited for, results that depend on the order of threads; together with AddressSanitizer every access outside of shared or
// device memory, with UndefinedBehaviorSanitizer misaligned vectors, with ThreadSanitizer races between threads and between blocks.
// What it does not show: PTX, the rounding of fast-math functions and tensor cores, occupancy, bank conflicts, several streams.
//
// Memory is uninitialised as 0xFF bytes, which are NaN in every floating-point type.
//
// Environment variables:
//   CUDA_ON_CPU_ORDER     the order in which threads and blocks run: fwd (default: the lowest warp as far as it goes), rev (the highest),
//                         rand:<seed> (any, the same for the same seed)
//   CUDA_ON_CPU_SHARED_KB most shared memory of a block; default: 227, as of compute capability 9.0
//   CUDA_ON_CPU_WORKERS   host threads a launch is spread over; default: all. Always 1 under ThreadSanitizer.
//   CUDA_ON_CPU_STACK_KB  stack of a fiber; default 64, with a sanitizer 128. An overflow faults.
//
// This header is what cuda_on_cpu.h is written with. The executor itself is compiled without sanitizers: it tells them of its fibers, of
// the order that barriers make and of the bounds of shared memory.

#include <cuda_runtime.h>
#include <device_launch_parameters.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace cuda_on_cpu {

struct Block;
struct Warp;
/// One CUDA thread, as its kernel sees it.
struct Thread {
  uint3 tid;
  unsigned linear, lane;
  Block* block;
  Warp* warp;
};
struct BlockView {
  uint3 bid;
  dim3 bdim, gdim;
};

/// Where in a kernel something was called.
struct Site {
  const char* file;
  int line;
};

__attribute__((pure)) Thread& self();
__attribute__((pure)) BlockView& block_view();

/// Ends the launch with an error: `what`, with the thread, the block and the place.
[[noreturn]] void fail(const char* what, Site site);
/// What the last failed launch failed of.
const char* last_error();

// ---- barriers of a block ------------------------------------------------------------------------
/// Barrier `id` of `count` threads; below 0: of all threads of the block that live.
void sync_block(unsigned id, int count, Site site);
/// Barrier 0 with a reduction over the block: of how many threads `predicate` holds (operation 0), whether of all (1) or of any (2).
int sync_block_reduce(int predicate, int operation, Site site);

// ---- warp-wide operations -----------------------------------------------------------------------
// Lanes of a mask arrive with up to 64 bytes each; when all that live have, each reads what it needs and leaves. The bytes are touched by
// the executor only, so that ThreadSanitizer does not take them for the kernel's memory.
struct Collective;
enum Op : unsigned { kShfl = 1, kBallot, kReduce, kMatch, kMma, kLdmatrix, kSyncwarp, kMovmatrix };
constexpr int kSlotBytes = 64;
using CombineFn = void (*)(Collective&);  // run once, by the last lane to arrive

Collective* warp_arrive(unsigned mask, unsigned op, const void* in, int bytes, CombineFn combine, Site site);
/// False: the lane is not among those that arrived.
bool warp_read(const Collective* collective, int lane, void* to, int bytes);
/// The lanes that arrived.
unsigned warp_present(const Collective* collective);
void warp_leave(Collective* collective);

unsigned ballot(unsigned mask, int predicate, Site site, unsigned* active);
/// __syncwarp: the one warp-wide operation that orders memory.
void sync_warp(unsigned mask, Site site);
/// d [16, 8] += a [16, 16] · b [16, 8], fragments as in the PTX manual.
void mma_m16n8k16_bf16(float* d, const std::uint32_t* a, std::uint32_t b0, std::uint32_t b1, Site site);

// ---- shared memory ------------------------------------------------------------------------------
void* dyn_smem();
/// The running block's variable `key`, made when its first thread asks; red zones for AddressSanitizer lie between variables.
void* shared_var(const void* key, std::size_t bytes, std::size_t align);
/// `Tag` is the type of a lambda, another one for every declaration.
template <class T, class Tag>
T& shared_ref(Tag) {
  static const char key = 0;
  return *static_cast<T*>(shared_var(&key, sizeof(T), alignof(T) < 16 ? 16 : alignof(T)));
}

// ---- asynchronous copies ------------------------------------------------------------------------
/// Of `bytes` bytes, those past `source_bytes` zero. The copy is made when it is waited for, and until then `to` reads as NaN: the
/// latest that hardware may be.
void cp_async(void* to, const void* from, int bytes, int source_bytes, Site site);
void cp_async_commit();
void cp_async_wait(int keep);

// ---- launches -----------------------------------------------------------------------------------
using Entry = void (*)(const void* closure);
cudaError_t launch_raw(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream, Entry entry,
                       const void* closure);

template <class F>
cudaError_t launch_fn(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream, F f) {
  return launch_raw(
      grid, block, shared_bytes, stream, [](const void* p) { (*static_cast<const F*>(p))(); }, &f);
}
/// Runs kernel(args…), and returns when it has run. The arguments convert to the kernel's own parameter types.
template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                   A&&... args) {
  return [&](std::decay_t<P>... p) {
    return launch_fn(grid, block, shared_bytes, stream, [=] { kernel(p...); });
  }(std::forward<A>(args)...);
}

}  // namespace cuda_on_cpu
