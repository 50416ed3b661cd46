// Operations of a warp: lanes meet, exchange and go on.
#include <bit>

#include "sanitizers.h"
#include "scheduler.h"

namespace cuda_on_cpu {
namespace {

bool complete(const Warp& warp, const Collective& c) {
  return c.arrived == (c.mask & (warp.alive | c.arrived));
}

void finish(Warp& warp, Collective* c) {
  if (c->combine) c->combine(*c);
  c->left = 0;
  ThreadState* lanes = &scheduler->threads[static_cast<std::size_t>(&warp - scheduler->warps.data()) * kWarpSize];
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (c->has(static_cast<int>(lane)) && lanes[lane].state == State::waiting) wake(&lanes[lane]);
  }
  for (unsigned k = 0; k < warp.in_flight; ++k) {
    if (warp.collective[k] == c) {
      warp.collective[k] = warp.collective[--warp.in_flight];
      break;
    }
  }
}

/// The one that lanes of this mask are gathering for, or null.
Collective* gathering(const Warp& warp, unsigned mask, unsigned lane) {
  for (unsigned k = 0; k < warp.in_flight; ++k) {
    Collective* c = warp.collective[k];
    if (c->mask == mask && !c->has(static_cast<int>(lane))) return c;
  }
  return nullptr;
}

Collective* new_collective(Warp& warp, unsigned mask, unsigned op, CombineFn combine, Site site) {
  Collective* c = scheduler->free_collectives.back();
  scheduler->free_collectives.pop_back();
  c->mask = mask;
  c->arrived = 0;
  c->op = op;
  c->site = site;
  c->combine = combine;
  warp.collective[warp.in_flight++] = c;
  return c;
}

float low_bf16(std::uint32_t word) {
  return std::bit_cast<float>(word << 16);
}
float high_bf16(std::uint32_t word) {
  return std::bit_cast<float>(word & 0xFFFF0000u);
}

// Slots in: d [4], a [4], b [2]. Where a lane's values lie in the matrices: PTX manual, mma.m16n8k16 with .bf16.
void multiply(Collective& c) {
  if (c.arrived != 0xFFFFFFFFu) fail("mma needs all 32 lanes", c.site);
  float a[16][16], b[16][8], sum[16][8] = {};
  for (int lane = 0; lane < 32; ++lane) {
    const std::uint32_t* in = c.in[lane];
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int k = 0; k < 4; ++k) {
      const int row = group + k % 2 * 8, column = pair + k / 2 * 8;
      a[row][column] = low_bf16(in[4 + k]);
      a[row][column + 1] = high_bf16(in[4 + k]);
    }
    for (int k = 0; k < 2; ++k) {
      b[pair + k * 8][group] = low_bf16(in[8 + k]);
      b[pair + k * 8 + 1][group] = high_bf16(in[8 + k]);
    }
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) sum[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int k = 0; k < 4; ++k) {
      const float product = sum[lane / 4 + k / 2 * 8][lane % 4 * 2 + k % 2];
      c.out[lane][k] = std::bit_cast<std::uint32_t>(std::bit_cast<float>(c.in[lane][k]) + product);
    }
  }
}

}  // namespace

Collective* warp_arrive(unsigned mask, unsigned op, const void* in, int bytes, CombineFn combine, Site site) {
  ThreadState* thread = scheduler->current;
  Warp& warp = *thread->warp;
  const unsigned bit = 1u << thread->lane;
  if (!(mask & bit)) fail("calling lane is not in its own mask", site);
  Collective* c = gathering(warp, mask, thread->lane);
  if (!c) {
    c = new_collective(warp, mask, op, combine, site);
  } else if (c->op != op || c->site.line != site.line) {
    fail("lanes of one warp meet at different warp-wide statements (divergence)", site);
  }
  // By words that the compiler can't turn into a call of memcpy, which the sanitizers would see.
  volatile std::uint32_t* slot = c->in[thread->lane];
  const auto* from = static_cast<const unsigned char*>(in);
  for (int k = 0; k < bytes; k += 4) {
    std::uint32_t word = 0;
    __builtin_memcpy(&word, from + k, bytes - k >= 4 ? 4 : static_cast<std::size_t>(bytes - k));
    slot[k / 4] = word;
  }
  c->arrived |= bit;
  if (complete(warp, *c)) {
    finish(warp, c);
  } else {
    wait_in("a warp-wide operation", site);
  }
  return c;
}

void warp_leave(Collective* c) {
  c->left |= 1u << scheduler->current->lane;
  if (c->left == c->arrived) scheduler->free_collectives.push_back(c);
}

bool warp_read(const Collective* c, int lane, void* to, int bytes) {
  if (!c->has(lane)) return false;
  if (bytes == 4) {
    *static_cast<volatile std::uint32_t*>(to) = c->in[lane][0];
    return true;
  }
  const auto* from = reinterpret_cast<const unsigned char*>(c->in[lane]);
  auto* bytes_to = static_cast<volatile unsigned char*>(to);
  for (int k = 0; k < bytes; ++k) bytes_to[k] = from[k];
  return true;
}

unsigned warp_present(const Collective* c) {
  return c->arrived;
}

unsigned ballot(unsigned mask, int predicate, Site site, unsigned* active) {
  const int holds = predicate != 0;
  Collective* c = warp_arrive(mask, kBallot, &holds, sizeof holds, nullptr, site);
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (c->has(lane) && c->in[lane][0]) votes |= 1u << lane;
  }
  if (active) *active = c->arrived;
  warp_leave(c);
  return votes;
}

void mma_m16n8k16_bf16(float* d, const std::uint32_t* a, std::uint32_t b0, std::uint32_t b1, Site site) {
  std::uint32_t in[10];
  for (int k = 0; k < 4; ++k) {
    in[k] = std::bit_cast<std::uint32_t>(d[k]);
    in[4 + k] = a[k];
  }
  in[8] = b0;
  in[9] = b1;
  Collective* c = warp_arrive(0xFFFFFFFFu, kMma, in, sizeof in, multiply, site);
  for (int k = 0; k < 4; ++k) d[k] = std::bit_cast<float>(c->out[scheduler->current->lane][k]);
  warp_leave(c);
}

void sync_warp(unsigned mask, Site site) {
  Warp& warp = *scheduler->current->warp;
  release(&warp.order);
  Collective* c = warp_arrive(mask, kSyncwarp, nullptr, 0, nullptr, site);
  acquire(&warp.order);
  warp_leave(c);
}

void thread_left_warp(Warp& warp) {
  for (unsigned k = warp.in_flight; k-- > 0;) {
    if (complete(warp, *warp.collective[k])) finish(warp, warp.collective[k]);
  }
}

}  // namespace cuda_on_cpu
