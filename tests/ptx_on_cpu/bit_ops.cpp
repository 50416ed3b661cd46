// Logic, shifts, counts and fields of bits.

#include "integer_choice.h"

namespace ptx_on_cpu {
namespace {

struct And {
  template <class T>
  T operator()(T a, T b) const {
    return a & b;
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return a | b;
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return a ^ b;
  }
};
struct Not {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
// Shifts by the width or more leave nothing, or the sign.
struct ShiftLeft {
  template <class T>
  T operator()(T a, std::uint32_t n) const {
    return n < kBits<T> ? static_cast<T>(a << (n & (kBits<T> - 1))) : T{0};
  }
};
struct ShiftRight {
  template <class T>
  T operator()(T a, std::uint32_t n) const {
    const std::uint32_t most = n < kBits<T> ? n : kBits<T> - 1;
    const auto shifted = static_cast<T>(a >> most);
    return std::is_signed_v<T> || n < kBits<T> ? shifted : T{0};
  }
};
struct PopulationCount {
  template <class T>
  std::uint32_t operator()(T a) const {
    return static_cast<std::uint32_t>(std::popcount(a));
  }
};
struct LeadingZeros {
  template <class T>
  std::uint32_t operator()(T a) const {
    return static_cast<std::uint32_t>(std::countl_zero(a));
  }
};
struct ReverseBits {
  template <class T>
  T operator()(T a) const {
    T r = 0;
    for (unsigned k = 0; k < kBits<T>; ++k, a >>= 1) r = static_cast<T>(r << 1 | (a & 1));
    return r;
  }
};
/// The highest bit that differs from the sign; none: all ones. Shift: how far it is from the top.
template <bool Shift>
struct FindHighest {
  template <class T>
  std::uint32_t operator()(T a) const {
    auto bits = static_cast<Unsigned<T>>(a);
    if (std::is_signed_v<T> && a < 0) bits = static_cast<Unsigned<T>>(~bits);
    if (bits == 0) return 0xFFFFFFFFu;
    const auto zeros = static_cast<std::uint32_t>(std::countl_zero(bits));
    return Shift ? zeros : kBits<T> - 1 - zeros;
  }
};
/// The low `length` bits of a at bit `start` of b; start and length are of eight bits.
struct InsertField {
  template <class T>
  T operator()(T a, T b, std::uint32_t start, std::uint32_t length) const {
    start &= 0xFF;
    length &= 0xFF;
    if (start >= kBits<T> || length == 0) return b;
    const T ones = static_cast<T>(~T{0});
    const T field = static_cast<T>((length >= kBits<T> ? ones : static_cast<T>(~(ones << length))) << start);
    return static_cast<T>((b & ~field) | (a << start & field));
  }
};
struct ExtractField {
  template <class T>
  T operator()(T a, std::uint32_t start, std::uint32_t length) const {
    start &= 0xFF;
    length &= 0xFF;
    constexpr unsigned kTop = kBits<T> - 1;
    const unsigned top = start + length - 1 < kTop ? start + length - 1 : kTop;
    const bool sign = std::is_signed_v<T> && length > 0 && ((static_cast<Unsigned<T>>(a) >> top) & 1);
    Unsigned<T> r = 0;
    for (unsigned k = 0; k <= kTop; ++k) {
      const bool bit = k < length && start + k <= kTop ? (static_cast<Unsigned<T>>(a) >> (start + k)) & 1 : sign;
      r |= static_cast<Unsigned<T>>(static_cast<Unsigned<T>>(bit) << k);
    }
    return static_cast<T>(r);
  }
};
/// Four bytes of the eight of (a, b), each chosen by four bits of the selector, of which the highest replicates the byte's sign.
struct Permute {
  std::uint32_t operator()(std::uint32_t a, std::uint32_t b, std::uint32_t selector) const {
    const std::uint64_t both = std::uint64_t{b} << 32 | a;
    std::uint32_t r = 0;
    for (unsigned k = 0; k < 4; ++k) {
      const std::uint32_t chosen = selector >> 4 * k & 0xF;
      auto byte = static_cast<std::uint32_t>(both >> 8 * (chosen & 7)) & 0xFF;
      if (chosen & 8) byte = byte & 0x80 ? 0xFF : 0;
      r |= byte << 8 * k;
    }
    return r;
  }
};

template <class F>
struct Shift {
  template <class T>
  struct Of {
    static Handler handler() { return &map_handler<F, T, T, std::uint32_t>; }
  };
};
template <class F>
struct ToWord {
  template <class T>
  struct Of {
    static Handler handler() { return &map_handler<F, std::uint32_t, T>; }
  };
};
struct Insert {
  template <class T>
  struct Of {
    static Handler handler() { return &map_handler<InsertField, T, T, T, std::uint32_t, std::uint32_t>; }
  };
};
struct Extract {
  template <class T>
  struct Of {
    static Handler handler() { return &map_handler<ExtractField, T, T, std::uint32_t, std::uint32_t>; }
  };
};

template <class F>
void predicate_logic(Warp& w, const Instruction& in) {
  w.set_predicate(in.operand[0], F{}(w.predicate(in.operand[1]), w.predicate(in.operand[2])));
}
void predicate_not(Warp& w, const Instruction& in) {
  w.set_predicate(in.operand[0], ~w.predicate(in.operand[1]));
}

template <class F>
bool logic(Decoder& d) {
  if (d.last_type() != Type::pred) return same_types<Two<F>::template Of>(d, 2, true);
  d.take_last_type();
  expect_operands(d, 3);
  d.out.operand = {d.target(0, Type::pred), d.source(1, Type::pred), d.source(2, Type::pred)};
  d.out.kind = Class::integer;
  d.out.run = &predicate_logic<F>;
  return true;
}
bool logic_not(Decoder& d) {
  if (d.last_type() != Type::pred) return same_types<One<Not>::Of>(d, 1, true);
  d.take_last_type();
  expect_operands(d, 2);
  d.out.operand = {d.target(0, Type::pred), d.source(1, Type::pred)};
  d.out.kind = Class::integer;
  d.out.run = &predicate_not;
  return true;
}

template <class F, bool Left>
bool shift(Decoder& d) {
  const Type type = d.take_last_type();
  if (!is_integer(type)) d.refuse("not of this type");
  expect_operands(d, 3);
  d.out.operand = {d.target(0, type), d.source(1, type), d.source(2, Type::u32)};
  d.out.kind = Class::integer;
  d.out.run = signed_or_unsigned<Shift<F>::template Of>(d, Left || !is_signed(type) ? untyped(type) : type);
  return true;
}

template <class F>
bool to_word(Decoder& d) {
  const Type type = d.take_last_type();
  expect_operands(d, 2);
  d.out.operand = {d.target(0, Type::u32), d.source(1, type)};
  d.out.kind = Class::integer;
  if (bytes_of(type) < 4) d.refuse("not of this type");
  if (bytes_of(type) == 4)
    d.out.run = &map_handler<F, std::uint32_t, std::uint32_t>;
  else
    d.out.run = &map_handler<F, std::uint32_t, std::uint64_t>;
  return true;
}
bool bfind(Decoder& d) {
  const bool amount = d.take("shiftamt");
  const Type type = d.take_last_type();
  expect_operands(d, 2);
  d.out.operand = {d.target(0, Type::u32), d.source(1, type)};
  d.out.kind = Class::integer;
  d.out.run = amount ? signed_or_unsigned<ToWord<FindHighest<true>>::Of>(d, type)
                     : signed_or_unsigned<ToWord<FindHighest<false>>::Of>(d, type);
  return true;
}
bool brev(Decoder& d) {
  return same_types<One<ReverseBits>::Of>(d, 1, true);
}
bool bfi(Decoder& d) {
  const Type type = d.take_last_type();
  expect_operands(d, 5);
  d.out.operand = {d.target(0, type), d.source(1, type), d.source(2, type), d.source(3, Type::u32),
                   d.source(4, Type::u32)};
  d.out.kind = Class::integer;
  d.out.run = signed_or_unsigned<Insert::Of>(d, untyped(type));
  return true;
}
bool bfe(Decoder& d) {
  const Type type = d.take_last_type();
  expect_operands(d, 4);
  d.out.operand = {d.target(0, type), d.source(1, type), d.source(2, Type::u32), d.source(3, Type::u32)};
  d.out.kind = Class::integer;
  d.out.run = signed_or_unsigned<Extract::Of>(d, type);
  return true;
}
bool prmt(Decoder& d) {
  if (!d.take_all("prmt.b32")) return false;
  expect_operands(d, 4);
  for (std::size_t k = 1; k < 4; ++k) d.out.operand[k] = d.source(k, Type::b32);
  d.out.operand[0] = d.target(0, Type::b32);
  d.out.kind = Class::integer;
  d.out.run = &map_handler<Permute, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;
  return true;
}

/// Any function of three bits, given as its table.
void lop3(Warp& w, const Instruction& in) {
  const auto* a = w.at<std::uint32_t>(in.operand[1]);
  const auto* b = w.at<std::uint32_t>(in.operand[2]);
  const auto* c = w.at<std::uint32_t>(in.operand[3]);
  auto* to = w.at<std::uint32_t>(in.operand[0]);
  each_lane(w.mask, [&](int l) {
    std::uint32_t r = 0;
    for (unsigned k = 0; k < 8; ++k)
      if (in.value >> k & 1) r |= (k & 4 ? a[l] : ~a[l]) & (k & 2 ? b[l] : ~b[l]) & (k & 1 ? c[l] : ~c[l]);
    to[l] = r;
  });
}
bool decode_lop3(Decoder& d) {
  if (!d.take_all("lop3.b32")) return false;
  expect_operands(d, 5);
  d.out.operand = {d.target(0, Type::b32), d.source(1, Type::b32), d.source(2, Type::b32), d.source(3, Type::b32)};
  d.out.value = static_cast<std::int64_t>(d.immediate(4));
  d.out.kind = Class::integer;
  d.out.run = &lop3;
  return true;
}

}  // namespace

Opcodes bit_opcodes() {
  return {{"and", logic<And>},
          {"or", logic<Or>},
          {"xor", logic<Xor>},
          {"not", logic_not},
          {"shl", shift<ShiftLeft, true>},
          {"shr", shift<ShiftRight, false>},
          {"popc", to_word<PopulationCount>},
          {"clz", to_word<LeadingZeros>},
          {"bfind", bfind},
          {"brev", brev},
          {"bfi", bfi},
          {"bfe", bfe},
          {"prmt", prmt},
          {"lop3", decode_lop3}};
}

}  // namespace ptx_on_cpu
