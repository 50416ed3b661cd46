// A warp's groups: which lanes run next, where they part and meet.

#include <algorithm>

#include "machine.h"

namespace ptx_on_cpu {
namespace {

std::string lanes_text(Mask mask) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

}  // namespace

void Warp::fail(const std::string& what, int lane) const {
  const Kernel& kernel = *block->launch->kernel;
  std::string text = what;
  text += "\n  in " + kernel.name + ", block (" + std::to_string(block->index.x) + ", " +
          std::to_string(block->index.y) + ", " + std::to_string(block->index.z) + "), warp " + std::to_string(index);
  if (lane >= 0) text += ", lane " + std::to_string(lane);
  if (present) {
    text += "\n  at PTX line " + std::to_string(present->line) + ": " +
            kernel.text[static_cast<std::size_t>(present - kernel.code.data())];
    const std::string file =
        present->source_file && kernel.module ? kernel.module->source_file(present->source_file) : "";
    if (!file.empty()) text += "\n  of " + file + ":" + std::to_string(present->source_line);
  }
  throw LaunchFailure(text);
}

InstructionCounts& Warp::counts_of(const Instruction& in) {
  return block->counts[static_cast<std::size_t>(&in - block->launch->kernel->code.data())];
}

std::string Warp::places() const {
  const Kernel& kernel = *block->launch->kernel;
  std::string text;
  for (const Group& group : groups)
    text += "\n  warp " + std::to_string(index) + ", lanes " + lanes_text(group.mask) + " at PTX line " +
            std::to_string(kernel.code[group.pc].line) + ": " + kernel.text[group.pc];
  return text;
}

Mask Warp::complete(const Instruction& in, Mask lanes) const {
  if (in.members == kNoOperand) {  // all, .aligned
    if (alive != kAllLanes) fail("lanes have ended, and all of a warp must take part");
    return lanes == kAllLanes ? lanes : 0;
  }
  const auto* members = at<Mask>(in.members);
  Mask ready = 0;
  for (Mask rest = lanes; rest;) {
    const int first = std::countr_zero(rest);
    const Mask wanted = members[first];
    Mask team = 0;
    each_lane(rest, [&](int l) { team |= members[l] == wanted ? 1u << l : 0u; });
    if (team & ~wanted) fail("a lane that is not among those it names", std::countr_zero(team & ~wanted));
    if ((wanted & alive & ~team) == 0) ready |= team;
    rest &= ~team;
  }
  return ready;
}

/// Joins groups at the same place, and gives the one to run: the least address of those that do not wait.
std::size_t Warp::choose_group() {
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (std::size_t j = groups.size(); j-- > i + 1;) {
      if (groups[j].pc != groups[i].pc) continue;
      groups[i].mask |= groups[j].mask;
      groups[i].waiting = false;
      groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(j));
    }
  }
  std::size_t chosen = groups.size();
  for (std::size_t i = 0; i < groups.size(); ++i)
    if (!groups[i].waiting && (chosen == groups.size() || groups[i].pc < groups[chosen].pc)) chosen = i;
  if (chosen == groups.size()) {
    present = nullptr;
    fail("lanes of a warp wait for each other at different places:" + places());
  }
  return chosen;
}

Warp::Stop Warp::run() {
  const Instruction* const code = block->launch->kernel->code.data();
  InstructionCounts* const counts = block->counts.data();
  while (!groups.empty()) {
    const std::size_t chosen = choose_group();
    std::uint32_t pc = groups[chosen].pc;
    Mask lanes = groups[chosen].mask;
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(chosen));
    // Where the next group stands: there the two become one.
    std::uint32_t limit = ~0u;
    for (const Group& other : groups)
      if (other.pc > pc) limit = std::min(limit, other.pc);
    while (true) {
      const Instruction& in = code[pc];
      mask = lanes;
      if (in.guard != kNoOperand) mask &= in.negated ? ~predicate(in.guard) : predicate(in.guard);
      present = &in;
      if (in.flow == Flow::none) {
        ++counts[pc].runs;
        counts[pc].lanes += static_cast<std::uint64_t>(std::popcount(mask));
        if (mask) in.run(*this, in);
        if (++pc < limit) continue;
        groups.push_back({pc, lanes});
        break;
      }
      if (in.flow == Flow::branch) {
        ++counts[pc].runs;
        counts[pc].lanes += static_cast<std::uint64_t>(std::popcount(lanes));
        const auto target = static_cast<std::uint32_t>(in.value);
        if (mask == lanes || mask == 0) {
          pc = mask ? target : pc + 1;
          if (groups.empty()) continue;
          groups.push_back({pc, lanes});
          break;
        }
        groups.push_back({target, mask});
        groups.push_back({pc + 1, lanes & ~mask});
        break;
      }
      // The rest concerns only lanes whose guard holds; the others go on.
      if (mask != lanes) {
        groups.push_back({pc + 1, lanes & ~mask});
        if (mask == 0) break;
        lanes = mask;
        limit = std::min(limit, pc + 1);
      }
      if (in.flow == Flow::exit) {
        ++counts[pc].runs;
        counts[pc].lanes += static_cast<std::uint64_t>(std::popcount(mask));
        alive &= ~lanes;
        for (Group& other : groups) other.waiting = false;
        break;
      }
      if (in.flow == Flow::barrier) {
        if (lanes != alive) {
          groups.push_back({pc, lanes, true});
          break;
        }
        ++counts[pc].runs;
        counts[pc].lanes += static_cast<std::uint64_t>(std::popcount(mask));
        groups.push_back({pc + 1, lanes});
        barrier = &in;
        return Stop::barrier;
      }
      const Mask ready = complete(in, lanes);
      if (ready == 0) {
        groups.push_back({pc, lanes, true});
        break;
      }
      if (ready != lanes) groups.push_back({pc, lanes & ~ready, true});
      ++counts[pc].runs;
      counts[pc].lanes += static_cast<std::uint64_t>(std::popcount(ready));
      mask = ready;
      in.run(*this, in);
      if (ready == lanes && ++pc < limit) continue;
      groups.push_back({ready == lanes ? pc : pc + 1, ready});
      break;
    }
  }
  return Stop::ended;
}

}  // namespace ptx_on_cpu
