// Loads and stores.

#include <cstring>

#include "memory_choice.h"

namespace ptx_on_cpu {
namespace {

template <Space Where, class InMemory, class InRegister>
void load(Warp& w, const Instruction& in) {
  Places places;
  locate<Where>(w, in, places);
  for (std::size_t v = 0; v < in.vector; ++v) {
    auto* to = w.at<InRegister>(in.operand[1 + v]);
    const auto one = [&](int l) {
      InMemory x;
      std::memcpy(&x, places[static_cast<std::size_t>(l)] + v * sizeof(x), sizeof(x));
      to[l] = static_cast<InRegister>(x);
    };
    if (w.mask == kAllLanes)
      for (int l = 0; l < kLanes; ++l) one(l);
    else
      each_lane(w.mask, one);
  }
}

template <Space Where, class InMemory, class InRegister>
void store(Warp& w, const Instruction& in) {
  Places places;
  locate<Where>(w, in, places);
  for (std::size_t v = 0; v < in.vector; ++v) {
    const auto* from = w.at<InRegister>(in.operand[1 + v]);
    each_lane(w.mask, [&](int l) {
      const auto x = static_cast<InMemory>(from[l]);
      std::memcpy(places[static_cast<std::size_t>(l)] + v * sizeof(x), &x, sizeof(x));
    });
  }
}

template <template <Space, class, class> class Do, Space Where, class InMemory>
Handler with_register(Decoder& d, std::uint32_t bytes) {
  if constexpr (sizeof(InMemory) <= 2)
    if (bytes == 2) return &Do<Where, InMemory, std::uint16_t>::run;
  if constexpr (sizeof(InMemory) <= 4)
    if (bytes == 4) return &Do<Where, InMemory, std::uint32_t>::run;
  if (bytes == 8) return &Do<Where, InMemory, std::uint64_t>::run;
  d.refuse("a register of another size");
}
template <template <Space, class, class> class Do, Space Where>
Handler with_type(Decoder& d, Type type, std::uint32_t bytes) {
  switch (type) {
    case Type::s8:
      return with_register<Do, Where, std::int8_t>(d, bytes);
    case Type::s16:
      return with_register<Do, Where, std::int16_t>(d, bytes);
    case Type::s32:
      return with_register<Do, Where, std::int32_t>(d, bytes);
    default:
      break;
  }
  switch (bytes_of(type)) {
    case 1:
      return with_register<Do, Where, std::uint8_t>(d, bytes);
    case 2:
      return with_register<Do, Where, std::uint16_t>(d, bytes);
    case 4:
      return with_register<Do, Where, std::uint32_t>(d, bytes);
    case 8:
      return with_register<Do, Where, std::uint64_t>(d, bytes);
    default:
      d.refuse("not of this type");
  }
}
template <template <Space, class, class> class Do>
Handler with_space(Decoder& d, Space space, Type type, std::uint32_t bytes) {
  switch (space) {
    case Space::global:
      return with_type<Do, Space::global>(d, type, bytes);
    case Space::shared:
      return with_type<Do, Space::shared>(d, type, bytes);
    case Space::local:
      return with_type<Do, Space::local>(d, type, bytes);
    case Space::parameter:
      return with_type<Do, Space::parameter>(d, type, bytes);
    case Space::generic:
      return with_type<Do, Space::generic>(d, type, bytes);
  }
  return nullptr;
}

template <Space Where, class InMemory, class InRegister>
struct Load {
  static void run(Warp& w, const Instruction& in) { load<Where, InMemory, InRegister>(w, in); }
};
template <Space Where, class InMemory, class InRegister>
struct Store {
  static void run(Warp& w, const Instruction& in) { store<Where, InMemory, InRegister>(w, in); }
};

/// What only says how long a cache should keep the data, and what every access is here.
void take_hints(Decoder& d) {
  for (const char* hint :
       {"weak", "nc", "ca", "cg", "cs", "lu", "wb", "wt", "L1::evict_normal", "L1::evict_last", "L1::evict_first",
        "L1::no_allocate", "L1::evict_unchanged", "L2::64B", "L2::128B", "L2::256B"})
    d.take(hint);
}

/// Type, vector and hints of a load or store.
Type take_access(Decoder& d) {
  const Type type = d.take_last_type();
  d.out.width = static_cast<std::uint8_t>(bytes_of(type));
  d.out.vector = d.take("v2") ? 2 : d.take("v4") ? 4 : 1;
  if (d.out.width * d.out.vector > 16) d.refuse("more than 16 bytes");
  take_hints(d);
  if (d.operands() != 2) d.refuse("another number of operands");
  return type;
}

bool ld(Decoder& d) {
  const Type type = take_access(d);
  const Space space = take_space(d);
  set_address(d, 1);
  const auto to = d.vector(0);
  if (to.size() != d.out.vector) d.refuse("another number of registers");
  std::uint32_t bytes = 0;
  for (std::size_t v = 0; v < to.size(); ++v) {
    const Register r = d.any_register(to[v]);
    if (to[v] != "_") {
      if (bytes != 0 && bytes != r.bytes) d.refuse("registers of different sizes");
      bytes = r.bytes;
    }
    d.out.operand[1 + v] = r.offset;
  }
  if (bytes == 0) bytes = std::max(bytes_of(type), 2u);
  d.out.kind = space == Space::parameter ? Class::move
               : space == Space::shared  ? Class::shared_load
               : space == Space::local   ? Class::local_memory
                                         : Class::global_load;
  d.out.run = with_space<Load>(d, space, type, bytes);
  return true;
}

bool st(Decoder& d) {
  const Type type = take_access(d);
  const Space space = take_space(d);
  if (space == Space::parameter) d.refuse("a store to parameters");
  set_address(d, 0);
  const auto from = d.vector(1);
  if (from.size() != d.out.vector) d.refuse("another number of values");
  std::uint32_t bytes = 0;
  for (const std::string_view one : from)
    if (one.starts_with('%')) bytes = std::max(bytes, d.any_register(one).bytes);
  if (bytes == 0) bytes = std::max(bytes_of(type), 2u);
  for (std::size_t v = 0; v < from.size(); ++v) {
    if (from[v].starts_with('%')) {
      const Register r = d.any_register(from[v]);
      if (r.bytes != bytes) d.refuse("registers of different sizes");
      d.out.operand[1 + v] = r.offset;
    } else {
      d.out.operand[1 + v] = d.source(from[v], bytes == 2 ? Type::b16 : bytes == 4 ? Type::b32 : Type::b64);
    }
  }
  d.out.kind = space == Space::shared  ? Class::shared_store
               : space == Space::local ? Class::local_memory
                                       : Class::global_store;
  d.out.run = with_space<Store>(d, space, type, bytes);
  return true;
}

}  // namespace

Opcodes memory_opcodes() {
  return {{"ld", ld}, {"st", st}};
}

}  // namespace ptx_on_cpu
