// Branches, ends and barriers. What they do is the warp's and the block's (warp.cpp, block.cpp); here they are decoded.

#include "barrier.h"
#include "decoder.h"

namespace ptx_on_cpu {
namespace {

void nothing(Warp&, const Instruction&) {}

bool bra(Decoder& d) {
  d.take("uni");  // says that lanes do not part, which is checked nowhere
  d.out.flow = Flow::branch;
  d.out.kind = Class::branch;
  if (d.operands() != 1) d.refuse("another number of operands");
  return true;
}

bool ret(Decoder& d) {
  d.take("uni");
  d.out.flow = Flow::exit;
  d.out.kind = Class::branch;
  return true;
}

void stop(Warp& w, const Instruction&) {
  w.fail("trap");
}
bool trap(Decoder& d) {
  d.out.kind = Class::branch;
  d.out.run = &stop;
  return true;
}

bool bar(Decoder& d) {
  d.out.kind = Class::barrier;
  d.out.run = &nothing;
  d.take("aligned");
  if (d.take("warp")) {
    if (!d.take("sync") || d.operands() != 1) d.refuse("bar.warp.sync?");
    d.out.flow = Flow::together;
    d.out.kind = Class::warp_wide;
    d.out.members = d.source(0, Type::b32);
    return true;
  }
  d.take("cta");
  d.out.flow = Flow::barrier;
  d.out.operand[kBarrierCount] = kNoOperand;
  std::size_t at = 0;
  if (d.take("red")) {
    d.out.detail = d.take("popc") ? kReduceCount : d.take("and") ? kReduceAnd : kReduceOr;
    if (d.out.detail == kReduceOr && !d.take("or")) d.refuse("no reduction");
    const Type type = d.out.detail == kReduceCount ? Type::u32 : Type::pred;
    if (d.take_last_type() != type) d.refuse("another type of reduction");
    d.out.operand[kBarrierTo] = d.target(0, type);
    if (d.operands() < 3 || d.operands() > 4) d.refuse("another number of operands");
    d.out.operand[kBarrierFrom] = d.source(d.operands() - 1, Type::pred);
    d.out.operand[kBarrierId] = d.source(1, Type::b32);
    if (d.operands() == 4) d.out.operand[kBarrierCount] = d.source(2, Type::b32);
    return true;
  }
  d.out.detail = d.take("arrive") ? kArrive : kSync;
  if (d.out.detail == kSync && !d.take("sync")) d.refuse("no barrier");
  if (d.operands() < 1 || d.operands() > 2) d.refuse("another number of operands");
  d.out.operand[kBarrierId] = d.source(at++, Type::b32);
  if (d.operands() == 2) d.out.operand[kBarrierCount] = d.source(at, Type::b32);
  if (d.out.detail == kArrive && d.operands() != 2) d.refuse("bar.arrive needs a number of threads");
  return true;
}

/// Lanes, warps and blocks see each other's stores at once.
bool fence(Decoder& d) {
  for (const char* scope : {"acq_rel", "sc", "cta", "gpu", "gl", "sys"}) d.take(scope);
  d.out.kind = Class::barrier;
  d.out.run = &nothing;
  return true;
}

}  // namespace

Opcodes flow_opcodes() {
  return {{"bra", bra}, {"ret", ret},     {"exit", ret},    {"trap", trap},
          {"bar", bar}, {"barrier", bar}, {"fence", fence}, {"membar", fence}};
}

}  // namespace ptx_on_cpu
