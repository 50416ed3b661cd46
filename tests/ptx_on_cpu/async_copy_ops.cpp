// cp.async: copies that are made when they are waited for, each thread's in its groups.

#include <algorithm>
#include <cstring>

#include "memory_access.h"

namespace ptx_on_cpu {
namespace {

/// operand: to, from, how many bytes are copied (the rest of `width` becomes zero) or none, the offset of `from`.
void copy(Warp& w, const Instruction& in) {
  Addresses to, from;
  addresses_of(w, in.operand[0], in.detail & 1 ? 4 : 8, in.value, to);
  addresses_of(w, in.operand[1], 8, static_cast<std::int32_t>(in.operand[3]), from);
  PendingCopy copy{};
  copy.mask = w.mask;
  copy.bytes = in.width;
  Mask whole = 0, part = 0;
  each_lane(w.mask, [&](int lane) {
    const auto l = static_cast<std::size_t>(lane);
    copy.source_bytes[l] = in.operand[2] == kNoOperand ? in.width : w.at<std::uint32_t>(in.operand[2])[l];
    if (copy.source_bytes[l] > in.width) w.fail("more bytes to copy than the copy has", lane);
    if (copy.source_bytes[l] > 0) (copy.source_bytes[l] == in.width ? whole : part) |= 1u << l;
    if (copy.source_bytes[l] > 0 && from[l] % in.width != 0) w.fail("a misaligned source of a copy", lane);
    copy.from[l] = from[l];
    copy.to[l] = static_cast<std::uint32_t>(to[l]);
    copy.group[l] = w.committed[l];
  });
  check_shared(w, to, in.width);
  count_shared(w, in, to, in.width);
  // What is not copied is not read: it need not be there.
  const Mask all = w.mask;
  if ((w.mask = whole)) check_global(w, in, from, in.width);
  if ((w.mask = part)) {
    check_global(w, in, from, 1);
    Addresses last = from;
    each_lane(part,
              [&](int l) { last[static_cast<std::size_t>(l)] += copy.source_bytes[static_cast<std::size_t>(l)] - 1; });
    check_global(w, in, last, 1);
  }
  if ((w.mask = whole | part)) {
    count_global(w, in, from, in.width);
    each_lane(part, [&](int l) { w.counts_of(in).bytes -= in.width - copy.source_bytes[static_cast<std::size_t>(l)]; });
  }
  w.mask = all;
  each_lane(w.mask, [&](int l) { std::memset(w.block->shared + to[static_cast<std::size_t>(l)], 0xFF, in.width); });
  w.copies.push_back(copy);
}

void commit(Warp& w, const Instruction&) {
  each_lane(w.mask, [&](int l) { ++w.committed[static_cast<std::size_t>(l)]; });
}

/// All but the `value` latest groups; below 0: everything, committed or not.
void wait(Warp& w, const Instruction& in) {
  for (PendingCopy& copy : w.copies) {
    each_lane(copy.mask & w.mask, [&](int lane) {
      const auto l = static_cast<std::size_t>(lane);
      if (in.value >= 0 && copy.group[l] + in.value >= w.committed[l]) return;
      std::byte* to = w.block->shared + copy.to[l];
      std::memset(to, 0, copy.bytes);
      std::memcpy(to, reinterpret_cast<const void*>(copy.from[l]), copy.source_bytes[l]);
      copy.mask &= ~(1u << lane);
    });
  }
  std::erase_if(w.copies, [](const PendingCopy& copy) { return copy.mask == 0; });
}

bool cp(Decoder& d) {
  if (!d.take("async")) return false;
  d.out.kind = Class::barrier;
  if (d.take("commit_group")) {
    d.out.run = &commit;
    return true;
  }
  if (d.take("wait_all")) {
    d.out.run = &wait;
    d.out.value = -1;
    return true;
  }
  if (d.take("wait_group")) {
    d.out.run = &wait;
    d.out.value = static_cast<std::int64_t>(d.immediate(0));
    return true;
  }
  // Which cache the data pass, and how much of it is fetched besides.
  const bool only_second_level = d.take("cg");
  if (!only_second_level && !d.take("ca")) d.refuse("ca or cg?");
  for (const char* hint : {"L2::64B", "L2::128B", "L2::256B"}) d.take(hint);
  if (!d.take("shared") && !d.take("shared::cta")) d.refuse("not to shared memory");
  if (!d.take("global")) d.refuse("not from global memory");
  const Address to = d.address(0), from = d.address(1);
  if (from.base_bytes != 8) d.refuse("a global address has 64 bits");
  const std::uint64_t bytes = d.immediate(2);
  if (bytes != 16 && (only_second_level || (bytes != 4 && bytes != 8))) d.refuse("no copy of this size");
  if (d.operands() > 4) d.refuse("another number of operands");
  if (from.offset != static_cast<std::int32_t>(from.offset)) d.refuse("an offset beyond 32 bits");
  d.out.width = static_cast<std::uint8_t>(bytes);
  d.out.operand = {to.base, from.base, d.operands() == 4 ? d.source(3, Type::u32) : kNoOperand,
                   static_cast<std::uint32_t>(from.offset)};
  d.out.value = to.offset;
  d.out.detail = to.base_bytes == 4 ? 1 : 0;
  d.out.kind = Class::async_copy;
  d.out.run = &copy;
  return true;
}

}  // namespace

Opcodes async_copy_opcodes() {
  return {{"cp", cp}};
}

}  // namespace ptx_on_cpu
