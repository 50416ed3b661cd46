// A block: its memory, its warps in turns, its barriers.

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "barrier.h"
#include "machine.h"

namespace ptx_on_cpu {

void Block::prepare(const LaunchState& state) {
  launch = &state;
  const Kernel& kernel = *state.kernel;
  const std::uint64_t threads = std::uint64_t{state.block.x} * state.block.y * state.block.z;
  const std::size_t count = (threads + kLanes - 1) / kLanes;
  if (count * kernel.register_bytes > register_bytes_) {
    register_bytes_ = count * kernel.register_bytes;
    registers_ = {static_cast<std::byte*>(std::aligned_alloc(64, register_bytes_)), [](std::byte* p) { std::free(p); }};
    std::memset(registers_.get(), 0xFF, register_bytes_);
  }
  const std::uint64_t stride = (kernel.local_bytes + 15) / 16 * 16;
  local_memory_.assign(count * kLanes * stride + 16, std::byte{0xFF});
  shared_end = state.shared_end;
  shared_memory_.resize(shared_end + 128);
  void* begin = shared_memory_.data();
  std::size_t room = shared_memory_.size();
  shared = static_cast<std::byte*>(std::align(128, shared_end, begin, room));
  counts.assign(kernel.code.size(), {});
  global_patterns.assign(kernel.code.size(), {});
  shared_patterns.assign(kernel.code.size(), {});
  recent = {};
  warps.resize(count);
  for (std::size_t k = 0; k < count; ++k) {
    Warp& w = warps[k];
    w.block = this;
    w.index = static_cast<unsigned>(k);
    w.files[0] = registers_.get() + k * kernel.register_bytes;
    w.files[1] = reinterpret_cast<std::byte*>(const_cast<std::uint64_t*>(kernel.constants.data()));
    w.local_stride = stride;
    void* local = local_memory_.data() + k * kLanes * stride;
    std::size_t local_room = kLanes * stride + 16;
    w.local = static_cast<std::byte*>(std::align(16, kLanes * stride, local, local_room));
  }
}

void Block::run(Dim block_index) {
  index = block_index;
  const Dim& size = launch->block;
  const Dim& grid = launch->grid;
  const unsigned threads = size.x * size.y * size.z;
  std::memset(shared, 0xFF, shared_end);
  for (Barrier& barrier : barriers) barrier = {};
  for (Warp& w : warps) {
    const auto set = [&](Special which, auto value) {
      auto* to = w.at<std::uint32_t>(which * 4 * kLanes);
      for (unsigned l = 0; l < kLanes; ++l) to[l] = value(l);
    };
    const auto same = [&](Special which, std::uint32_t value) { set(which, [=](unsigned) { return value; }); };
    const auto linear = [&](unsigned l) { return w.index * kLanes + l; };
    set(kTidX, [&](unsigned l) { return linear(l) % size.x; });
    set(kTidY, [&](unsigned l) { return linear(l) / size.x % size.y; });
    set(kTidZ, [&](unsigned l) { return linear(l) / (size.x * size.y); });
    same(kNtidX, size.x);
    same(kNtidY, size.y);
    same(kNtidZ, size.z);
    same(kCtaidX, index.x);
    same(kCtaidY, index.y);
    same(kCtaidZ, index.z);
    same(kNctaidX, grid.x);
    same(kNctaidY, grid.y);
    same(kNctaidZ, grid.z);
    set(kLaneid, [](unsigned l) { return l; });
    same(kWarpid, w.index);
    same(kNwarpid, static_cast<std::uint32_t>(warps.size()));
    set(kMaskEq, [](unsigned l) { return 1u << l; });
    set(kMaskLt, [](unsigned l) { return (1u << l) - 1; });
    set(kMaskLe, [](unsigned l) { return (1u << l) - 1 + (1u << l); });
    set(kMaskGe, [](unsigned l) { return ~((1u << l) - 1); });
    set(kMaskGt, [](unsigned l) { return ~((1u << l) - 1 + (1u << l)); });
    const unsigned lanes = std::min<unsigned>(threads - w.index * kLanes, kLanes);
    w.alive = lanes == kLanes ? kAllLanes : (1u << lanes) - 1;
    w.groups.assign(1, Group{0, w.alive});
    w.state = Warp::State::ready;
    w.copies.clear();
    w.committed.fill(0);
    w.present = nullptr;
  }
  while (true) {
    bool progress = false, all_ended = true;
    for (std::size_t k = 0; k < warps.size(); ++k) {
      Warp& w = warps[launch->reversed ? warps.size() - 1 - k : k];
      if (w.state == Warp::State::ready) {
        progress = true;
        if (w.run() == Warp::Stop::ended) {
          w.state = Warp::State::ended;
          release_complete();
        } else {
          arrive(w);
        }
      }
      all_ended = all_ended && w.state == Warp::State::ended;
    }
    if (all_ended) return;
    if (!progress) {
      std::string places;
      for (Warp& w : warps) {
        if (w.state != Warp::State::waiting) continue;
        w.present = w.barrier;
        places += "\n  warp " + std::to_string(w.index) + " at PTX line " + std::to_string(w.barrier->line) + ": " +
                  launch->kernel->text[static_cast<std::size_t>(w.barrier - launch->kernel->code.data())];
      }
      const auto waiting =
          std::find_if(warps.begin(), warps.end(), [](const Warp& w) { return w.state == Warp::State::waiting; });
      waiting->fail("deadlock: warps wait at barriers for others that do not come:" + places);
    }
  }
}

void Block::arrive(Warp& w) {
  const Instruction& in = *w.barrier;
  const int first = std::countr_zero(w.alive);
  const auto same_for_all = [&](std::uint32_t operand) {
    const auto* value = w.at<std::uint32_t>(operand);
    each_lane(w.alive, [&](int l) {
      if (value[l] != value[first]) w.fail("lanes of a warp at different barriers", l);
    });
    return value[first];
  };
  const std::uint32_t id = same_for_all(in.operand[kBarrierId]);
  if (id >= barriers.size()) w.fail("there is no barrier " + std::to_string(id));
  std::int64_t count = -1;
  if (in.operand[kBarrierCount] != kNoOperand) {
    count = same_for_all(in.operand[kBarrierCount]);
    if (count == 0 || count % kLanes != 0)
      w.fail("a barrier of " + std::to_string(count) + " threads, no multiple of a warp");
  }
  Barrier& barrier = barriers[id];
  if (barrier.arrived.empty())
    barrier.count = count;
  else if (barrier.count != count)
    w.fail("warps at barrier " + std::to_string(id) + " that name different numbers of threads");
  if (in.detail >= kReduceOr && !barrier.arrived.empty() && barrier.arrived[0].at->detail != in.detail)
    w.fail("warps at barrier " + std::to_string(id) + " that reduce in different ways");
  barrier.arrived.push_back({&w, &in});
  if (in.detail != kArrive) w.state = Warp::State::waiting;
  release_complete();
}

void Block::release_complete() {
  for (Barrier& barrier : barriers) {
    if (barrier.arrived.empty()) continue;
    const auto living = std::count_if(warps.begin(), warps.end(), [](const Warp& w) { return w.alive != 0; });
    const auto arrived = static_cast<std::int64_t>(barrier.arrived.size());
    if (barrier.count < 0 ? arrived < living : arrived * kLanes < barrier.count) continue;
    if (barrier.count >= 0 && arrived * kLanes > barrier.count)
      barrier.arrived.back().warp->fail("more threads at a barrier than it has");
    std::uint32_t held = 0, lanes = 0;
    for (const auto& [w, in] : barrier.arrived) {
      if (in->detail < kReduceOr) continue;
      held += static_cast<std::uint32_t>(std::popcount(w->predicate(in->operand[kBarrierFrom]) & w->alive));
      lanes += static_cast<std::uint32_t>(std::popcount(w->alive));
    }
    for (const auto& [warp, in] : barrier.arrived) {
      if (in->detail == kArrive) continue;
      Warp& w = *warp;
      w.mask = w.alive;
      if (in->detail == kReduceOr) w.set_predicate(in->operand[kBarrierTo], held > 0 ? kAllLanes : 0);
      if (in->detail == kReduceAnd) w.set_predicate(in->operand[kBarrierTo], held == lanes ? kAllLanes : 0);
      if (in->detail == kReduceCount) {
        auto* to = w.at<std::uint32_t>(in->operand[kBarrierTo]);
        each_lane(w.alive, [&](int l) { to[l] = held; });
      }
      w.state = Warp::State::ready;
    }
    barrier = {};
  }
}

}  // namespace ptx_on_cpu
