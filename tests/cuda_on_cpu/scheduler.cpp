// Fibers and their scheduler: which thread of a block runs next, and what happens when none can.
#include "scheduler.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>

#include "sanitizers.h"

// Saves the callee-saved registers on the stack and the stack pointer in *save, then goes on where `load` was saved.
#if defined(__x86_64__)
__attribute__((naked, noinline)) static void switch_stack(void** /*save*/, void* /*load*/) {
  asm volatile(
      "pushq %rbp\n"
      "pushq %rbx\n"
      "pushq %r12\n"
      "pushq %r13\n"
      "pushq %r14\n"
      "pushq %r15\n"
      "movq %rsp, (%rdi)\n"
      "movq %rsi, %rsp\n"
      "popq %r15\n"
      "popq %r14\n"
      "popq %r13\n"
      "popq %r12\n"
      "popq %rbx\n"
      "popq %rbp\n"
      "ret\n");
}
#else
#error "the executor of CUDA kernels switches stacks in assembler, and has it for x86-64 only"
#endif

namespace cuda_on_cpu {

constinit thread_local Scheduler* scheduler = nullptr;

namespace {

constexpr std::size_t kPage = 4096;
constexpr int kSavedRegisters = 6;  // that switch_stack pops

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "cuda_on_cpu: %s\n", what);
  std::abort();
}

// ---- order of threads
enum class Policy { forward, reverse, random };
struct Order {
  Policy policy = Policy::forward;
  std::uint64_t seed = 1;
};
Order read_order() {
  const char* name = std::getenv("CUDA_ON_CPU_ORDER");
  if (!name || !std::strcmp(name, "fwd")) return {};
  if (!std::strcmp(name, "rev")) return {Policy::reverse};
  if (!std::strncmp(name, "rand:", 5)) return {Policy::random, std::strtoull(name + 5, nullptr, 10)};
  give_up("CUDA_ON_CPU_ORDER is fwd, rev or rand:<seed>");
}
const Order order = read_order();

// ---- fibers
std::size_t stack_bytes() {
  static const std::size_t bytes = [] {
    const char* kilobytes = std::getenv("CUDA_ON_CPU_STACK_KB");
    if (kilobytes) return std::strtoull(kilobytes, nullptr, 10) * 1024;
    return (under_asan() || under_tsan() ? 128ull : 64ull) * 1024;
  }();
  return bytes;
}

char* map_memory(std::size_t bytes, void* at = nullptr) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0);
  void* p = mmap(at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (p == MAP_FAILED) give_up("no memory for fibers");
  return static_cast<char*>(p);
}

void fiber_main();

Fiber* make_fiber() {
  // A guard page below the stack: an overflow faults.
  char* memory = map_memory(kPage + stack_bytes());
  mprotect(memory, kPage, PROT_NONE);
  auto* fiber = new Fiber;
  fiber->stack = memory + kPage;
  fiber->stack_bytes = stack_bytes();
  return fiber;
}

// Puts on the empty stack what switch_stack finds there: registers, where to return, and above it the end of the chain of frames.
void start_anew(Fiber* fiber) {
  unpoison(fiber->stack, fiber->stack_bytes);
  void** top = reinterpret_cast<void**>(fiber->stack + fiber->stack_bytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&fiber_main);
  for (int k = 0; k < kSavedRegisters; ++k) *--top = nullptr;
  fiber->stack_pointer = top;
  fiber->fake_stack = nullptr;
}

Fiber* free_fiber(Scheduler& s) {
  if (s.free_fibers.empty()) {
    s.fibers.push_back(make_fiber());
    s.free_fibers.push_back(s.fibers.back());
  }
  Fiber* fiber = s.free_fibers.back();
  s.free_fibers.pop_back();
  start_anew(fiber);
  return fiber;
}

void switch_fiber(Fiber* to, bool ending) {
  Scheduler& s = *scheduler;
  Fiber* from = s.running;
  s.running = to;
  leave_stack(ending ? nullptr : &from->fake_stack, to->stack, to->stack_bytes);
  switch_stack(&from->stack_pointer, to->stack_pointer);
  enter_stack(from->fake_stack);
}

void switch_to_thread(ThreadState* thread, bool ending) {
  Scheduler& s = *scheduler;
  if (thread->state == State::fresh && !under_tsan()) thread->fiber = free_fiber(s);
  thread->state = State::running;
  s.current = thread;
  switch_tsan_fiber(thread->fiber->tsan_fiber);
  switch_fiber(thread->fiber, ending);
}

void switch_to_host(bool ending) {
  switch_tsan_fiber(scheduler->tsan_host);
  switch_fiber(&scheduler->host, ending);
}

void note_deadlock() {
  scheduler->error = nullptr;
  scheduler->failed = true;
}

void end_thread(ThreadState* thread) {
  if (copies_pending(*thread)) fail("thread exits with cp.async copies never waited for", kNowhere);
  thread->state = State::done;
  --scheduler->block.alive;
  thread->warp->alive &= ~(1u << thread->lane);
  thread_left_block();
  thread_left_warp(*thread->warp);
}

// Runs a thread, and after it others on the same stack as long as they are fresh, which saves the switch.
void fiber_main() {
  enter_stack(nullptr);
  for (;;) {
    Scheduler& s = *scheduler;
    ThreadState* thread = s.current;
    acquire(&s.started);
    s.entry(s.closure);
    end_thread(thread);
    release(&s.ended);
    if (s.ready.empty()) {
      if (s.block.alive > 0) note_deadlock();
      if (!under_tsan()) s.free_fibers.push_back(thread->fiber);
      switch_to_host(true);
    }
    ThreadState* next = s.ready.pop();
    if (under_tsan()) {
      // On its own stack: to ThreadSanitizer two threads would share memory.
      switch_to_thread(next, true);
    } else if (next->state == State::fresh) {
      next->fiber = thread->fiber;
      next->state = State::running;
      s.current = next;
    } else {
      s.free_fibers.push_back(thread->fiber);
      switch_to_thread(next, true);
    }
  }
}

// ---- a block under ThreadSanitizer
// Each thread is a fiber to ThreadSanitizer too. To create those takes longer than most kernels, so that they are kept: block after
// block takes the next of kFiberSets sets. Two blocks with the same set have an order that CUDA does not give them, and races between
// those two alone are not seen; with a prime number of sets they are not the same rows or heads of a regular grid.
void take_fiber_set(Scheduler& s, std::uint64_t block_index) {
  std::vector<Fiber*>& set = s.fiber_sets[s.blocks_run++ % kFiberSets];
  while (set.size() < s.threads.size()) set.push_back(make_fiber());
  for (ThreadState& thread : s.threads) {
    Fiber* fiber = thread.fiber = set[thread.linear];
    start_anew(fiber);
    if (!fiber->tsan_fiber) fiber->tsan_fiber = __tsan_create_fiber(0);
    char name[64];
    std::snprintf(name, sizeof name, "block %llu thread %u", static_cast<unsigned long long>(block_index),
                  thread.linear);
    __tsan_set_fiber_name(fiber->tsan_fiber, name);
  }
}

// Without this ThreadSanitizer would compare accesses to shared memory with those of an earlier block.
void forget_shared_memory(Scheduler& s) {
  map_memory((s.variables_end + kPage - 1) / kPage * kPage, s.arena);
}

// Threads abandoned after an error: what they did comes before what the host does next. They do not begin again where they were left.
void drop_unfinished_fibers(Scheduler& s) {
  for (ThreadState& thread : s.threads) {
    if (thread.state == State::done) continue;
    Fiber* fiber = thread.fiber;
    switch_tsan_fiber(fiber->tsan_fiber);
    release(&s.ended);
    switch_tsan_fiber(s.tsan_host);
    __tsan_destroy_fiber(fiber->tsan_fiber);
    fiber->tsan_fiber = nullptr;
    map_memory(fiber->stack_bytes, fiber->stack);
  }
}

// ---- a block
void reset_barriers(Block& block) {
  for (Barrier& barrier : block.barriers) {
    barrier.count = -1;
    barrier.arrived = 0;
    barrier.site = Site{nullptr, 0};
    barrier.waiting_count = 0;
    barrier.how_many = 0;
    barrier.all = 1;
    barrier.any = 0;
  }
}

void reset_threads(Scheduler& s) {
  for (Warp& warp : s.warps) warp.alive = 0;
  for (ThreadState& thread : s.threads) {
    thread.state = State::fresh;
    thread.warp->alive |= 1u << thread.lane;
    if (thread.async) thread.async->copies = thread.async->groups = 0;
  }
}

}  // namespace

void put_in_order(std::vector<unsigned>& indices, std::uint64_t salt) {
  if (order.policy == Policy::reverse) std::reverse(indices.begin(), indices.end());
  if (order.policy == Policy::random) {
    std::mt19937_64 random(order.seed * 0x9E3779B97F4A7C15ull + salt);
    std::shuffle(indices.begin(), indices.end(), random);
  }
}

void ReadyThreads::clear() {
  std::memset(rings_, 0, sizeof rings_);
  warps_ = 0;
}

void ReadyThreads::push(ThreadState* thread) {
  const unsigned warp = thread->linear / kWarpSize;
  Ring& ring = rings_[warp];
  ring.thread[(ring.head + ring.count) % kWarpSize] = thread;
  ++ring.count;
  warps_ |= 1u << warp;
}

unsigned ReadyThreads::next_warp() {
  switch (order.policy) {
    case Policy::forward:
      return static_cast<unsigned>(__builtin_ctz(warps_));
    case Policy::reverse:
      return kMaxWarps - 1 - static_cast<unsigned>(__builtin_clz(warps_));
    case Policy::random:
      break;
  }
  // xorshift64
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  const auto skip = static_cast<unsigned>(random_ >> 33) % static_cast<unsigned>(__builtin_popcount(warps_));
  std::uint32_t left = warps_;
  for (unsigned k = 0; k < skip; ++k) left &= left - 1;
  return static_cast<unsigned>(__builtin_ctz(left));
}

ThreadState* ReadyThreads::pop() {
  const unsigned warp = next_warp();
  Ring& ring = rings_[warp];
  ThreadState* thread = ring.thread[ring.head % kWarpSize];
  ++ring.head;
  --ring.count;
  if (ring.count == 0) warps_ &= ~(1u << warp);
  return thread;
}

void wait_in(const char* what, Site site) {
  Scheduler& s = *scheduler;
  ThreadState* me = s.current;
  me->state = State::waiting;
  me->waits_in = what;
  me->wait_site = site;
  if (s.ready.empty()) {
    note_deadlock();
    switch_to_host(false);
  }
  ThreadState* next = s.ready.pop();
  if (next == me) {
    me->state = State::running;
  } else {
    switch_to_thread(next, false);
  }
}

void wake(ThreadState* thread) {
  thread->state = State::ready;
  scheduler->ready.push(thread);
}

Thread& self() {
  return *scheduler->current;
}
BlockView& block_view() {
  return scheduler->block;
}

void fail(const char* what, Site site) {
  Scheduler* s = scheduler;
  if (!s || !s->current) {
    std::fprintf(stderr, "cuda_on_cpu: %s at %s:%d, outside of a kernel\n", what, site.file, site.line);
    std::abort();
  }
  s->error = what;
  s->error_thread = s->current->tid;
  s->error_site = site;
  s->failed = true;
  switch_to_host(false);
  std::abort();  // never reached: the fiber is abandoned
}

void Scheduler::use_this_host_thread() {
  pthread_attr_t attributes;
  void* stack = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack, &host.stack_bytes);
  pthread_attr_destroy(&attributes);
  host.stack = static_cast<char*>(stack);
}

void Scheduler::prepare(dim3 grid, dim3 block_size, std::size_t shared_bytes, Entry entry_point,
                        const void* arguments) {
  entry = entry_point;
  closure = arguments;
  dynamic_bytes = shared_bytes;
  failed = false;
  if (!arena) arena = map_memory(kSharedArena);
  tsan_host = under_tsan() ? __tsan_get_current_fiber() : nullptr;

  block.bdim = block_size;
  block.gdim = grid;
  const unsigned count = block_size.x * block_size.y * block_size.z;
  threads.resize(count);
  warps.resize((count + kWarpSize - 1) / kWarpSize);
  for (unsigned k = 0; k < count; ++k) {
    ThreadState& thread = threads[k];
    thread.linear = k;
    thread.lane = k % kWarpSize;
    thread.block = &block;
    thread.warp = &warps[k / kWarpSize];
    thread.tid = make_uint3(k % block_size.x, k / block_size.x % block_size.y, k / (block_size.x * block_size.y));
  }

  // Nothing is allocated on a fiber, where ThreadSanitizer would take it for an allocation by a CUDA thread. A thread is in one
  // collective at a time, so that there are at most as many.
  if (!collectives) {
    collectives = reinterpret_cast<Collective*>(map_memory(sizeof(Collective) * kMaxThreads));
    free_collectives.reserve(kMaxThreads);
    fibers.reserve(kMaxThreads);
    free_fibers.reserve(kMaxThreads);
  }
  free_collectives.clear();
  for (unsigned k = 0; k < count; ++k) free_collectives.push_back(collectives + k);
  for (Warp& warp : warps) warp.in_flight = 0;
}

void Scheduler::run_block(uint3 index, std::uint64_t linear_index) {
  block.bid = index;
  if (under_tsan() && variables_end > 0) forget_shared_memory(*this);
  reset_shared_memory(*this);
  reset_barriers(block);
  reset_threads(*this);
  if (under_tsan()) take_fiber_set(*this, linear_index);
  release(&started);

  std::vector<unsigned> starts(threads.size());
  std::iota(starts.begin(), starts.end(), 0u);
  put_in_order(starts, linear_index);
  ready.clear();
  ready.seed((order.seed + linear_index) * 0x9E3779B97F4A7C15ull);
  for (unsigned k : starts) ready.push(&threads[k]);
  block.alive = static_cast<int>(threads.size());

  running = &host;
  switch_to_thread(ready.pop(), false);
  current = nullptr;
  if (failed) {
    free_fibers = fibers;  // also those that were abandoned
    if (under_tsan()) drop_unfinished_fibers(*this);
  }
}

std::string Scheduler::describe() const {
  const auto triple = [](uint3 v) {
    return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
  };
  const auto place = [](Site site) { return std::string(site.file) + ":" + std::to_string(site.line); };
  if (error) {
    return std::string(error) + "\n  thread " + triple(error_thread) + " block " + triple(block.bid) + " at " +
           place(error_site);
  }
  std::string text = "deadlock in block " + triple(block.bid) + ": every live thread waits";
  int last_line = -1, shown = 0;
  for (const ThreadState& thread : threads) {
    if (thread.state != State::waiting || thread.wait_site.line == last_line || shown == 8) continue;
    last_line = thread.wait_site.line;
    ++shown;
    text += "\n  thread " + triple(thread.tid) + " at " + place(thread.wait_site) + " in " + thread.waits_in;
  }
  return text;
}

}  // namespace cuda_on_cpu
