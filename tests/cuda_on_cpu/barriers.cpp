// __syncthreads, its reductions, and named barriers.
#include <cstring>

#include "sanitizers.h"
#include "scheduler.h"

namespace cuda_on_cpu {
namespace {

bool full(const Barrier& barrier) {
  const int count = barrier.count < 0 ? scheduler->block.alive : barrier.count;
  return barrier.arrived > 0 && barrier.arrived >= count;
}

void open(Barrier& barrier) {
  barrier.result[0] = barrier.how_many;
  barrier.result[1] = barrier.all;
  barrier.result[2] = barrier.any;
  barrier.how_many = 0;
  barrier.all = 1;
  barrier.any = 0;
  barrier.arrived = 0;
  barrier.count = -1;
  barrier.site = Site{nullptr, 0};
  ++barrier.generation;
  for (int k = 0; k < barrier.waiting_count; ++k) wake(barrier.waiting[k]);
  barrier.waiting_count = 0;
}

bool same(Site a, Site b) {
  return a.line == b.line && (a.file == b.file || !std::strcmp(a.file, b.file));
}

int arrive(unsigned id, int count, int predicate, int operation, Site site) {
  if (id >= std::size(scheduler->block.barriers)) fail("there are 16 barriers, 0 to 15", site);
  Barrier& barrier = scheduler->block.barriers[id];
  if (barrier.arrived == 0) {
    barrier.count = count;
    barrier.site = site;
  } else if (barrier.count != count) {
    fail("threads disagree on a named barrier's thread count", site);
  } else if (id == 0 && !same(barrier.site, site)) {
    fail("threads of one block meet at different barrier statements (divergent __syncthreads)", site);
  }
  ++barrier.arrived;
  if (predicate) {
    ++barrier.how_many;
    barrier.any = 1;
  } else {
    barrier.all = 0;
  }

  // Two addresses in turns: a thread that comes to the next barrier early must not be ordered before those that still leave this one.
  char* order = &barrier.order[barrier.generation & 1];
  release(order);
  if (full(barrier)) {
    open(barrier);
  } else {
    barrier.waiting[barrier.waiting_count++] = scheduler->current;
    wait_in("a barrier", site);
  }
  acquire(order);
  return barrier.result[operation];
}

}  // namespace

void sync_block(unsigned id, int count, Site site) {
  arrive(id, count, 0, 0, site);
}

int sync_block_reduce(int predicate, int operation, Site site) {
  return arrive(0, -1, predicate, operation, site);
}

void thread_left_block() {
  for (Barrier& barrier : scheduler->block.barriers) {
    if (barrier.count < 0 && full(barrier)) open(barrier);
  }
}

}  // namespace cuda_on_cpu
