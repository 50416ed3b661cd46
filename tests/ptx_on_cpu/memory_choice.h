#pragma once
// What loads, stores and atomic operations have in common: the address space and the places in it.

#include "memory_access.h"

namespace ptx_on_cpu {

constexpr std::uint8_t kBase32 = 1;  // detail: the address is in a register of 32 bits

/// Where the lanes of the mask read or write, of whatever space, checked and counted.
template <Space Where>
void locate(Warp& w, const Instruction& in, Places& places) {
  const std::uint32_t bytes = std::uint32_t{in.width} * in.vector;
  Addresses a;
  addresses_of(w, in.operand[0], in.detail & kBase32 ? 4 : 8, in.value, a);
  const auto as_host = [&] {
    for (std::size_t l = 0; l < kLanes; ++l) places[l] = reinterpret_cast<std::byte*>(a[l]);
  };
  if constexpr (Where == Space::global) {
    check_global(w, in, a, bytes);
    count_global(w, in, a, bytes);
    as_host();
  } else if constexpr (Where == Space::shared) {
    check_shared(w, a, bytes);
    count_shared(w, in, a, bytes);
    for (std::size_t l = 0; l < kLanes; ++l) places[l] = w.block->shared + a[l];
  } else if constexpr (Where == Space::local) {
    each_lane(w.mask, [&](int l) {
      const std::uint64_t x = a[static_cast<std::size_t>(l)];
      if (x % bytes != 0) w.fail("a misaligned access to local memory", l);
      if (x + bytes > w.local_stride || x > w.local_stride) w.fail("an access outside of local memory", l);
      places[static_cast<std::size_t>(l)] = w.local + static_cast<std::uint64_t>(l) * w.local_stride + x;
    });
  } else if constexpr (Where == Space::parameter) {
    const auto& parameters = w.block->launch->parameters;
    each_lane(w.mask, [&](int l) {
      const std::uint64_t x = a[static_cast<std::size_t>(l)];
      if (x % bytes != 0) w.fail("a misaligned access to parameters", l);
      if (x + bytes > parameters.size() || x > parameters.size()) w.fail("an access outside of the parameters", l);
      places[static_cast<std::size_t>(l)] = const_cast<std::byte*>(parameters.data() + x);
    });
  } else {
    const auto shared = reinterpret_cast<std::uint64_t>(w.block->shared),
               local = reinterpret_cast<std::uint64_t>(w.local);
    const std::uint64_t local_end = local + w.local_stride * kLanes;
    const Mask all = w.mask;
    Mask in_shared = 0, in_local = 0;
    each_lane(all, [&](int l) {
      const std::uint64_t x = a[static_cast<std::size_t>(l)];
      if (x >= shared && x < shared + w.block->shared_end) in_shared |= 1u << l;
      if (x >= local && x < local_end) in_local |= 1u << l;
    });
    as_host();
    if ((w.mask = in_shared)) {
      Addresses offset = a;
      for (std::uint64_t& x : offset) x -= shared;
      check_shared(w, offset, bytes);
      count_shared(w, in, offset, bytes);
    }
    each_lane(in_local, [&](int l) {
      const std::uint64_t x = a[static_cast<std::size_t>(l)] - local - static_cast<std::uint64_t>(l) * w.local_stride;
      if (x % bytes != 0 || x + bytes > w.local_stride) w.fail("an access outside of a lane's local memory", l);
    });
    if ((w.mask = all & ~in_shared & ~in_local)) {
      check_global(w, in, a, bytes);
      count_global(w, in, a, bytes);
    }
    w.mask = all;
  }
}

inline Space take_space(Decoder& d) {
  if (d.take("global")) return Space::global;
  if (d.take("shared") || d.take("shared::cta")) return Space::shared;
  if (d.take("local")) return Space::local;
  if (d.take("param")) return Space::parameter;
  return Space::generic;
}

inline void set_address(Decoder& d, std::size_t k) {
  const Address a = d.address(k);
  d.out.operand[0] = a.base;
  d.out.value = a.offset;
  d.out.detail = a.base_bytes == 4 ? kBase32 : 0;
}

}  // namespace ptx_on_cpu
