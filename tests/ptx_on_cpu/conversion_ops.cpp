// cvt, mov, cvta: from type to type, from register to register, from address space to address space.

#include <cmath>
#include <limits>
#include <type_traits>

#include "decoder.h"

namespace ptx_on_cpu {
namespace {

std::uint16_t to_bf16_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;  // to the nearest, ties to even
  return x != x ? 0x7FFF : static_cast<std::uint16_t>(rounded);
}

// ---- integers to integers -----------------------------------------------------------------------
/// D wide as its register, S perhaps narrower than its.
template <class D, class S, class InRegister>
void extend(Warp& w, const Instruction& in) {
  const auto f = [](InRegister x) { return static_cast<D>(static_cast<S>(x)); };
  map_lanes(w.mask, w.at<D>(in.operand[0]), f, static_cast<const InRegister*>(w.at<InRegister>(in.operand[1])));
}
template <class D, class S>
Handler extend_from(Decoder& d, std::uint32_t in_register) {
  if (in_register < sizeof(S)) d.refuse("a register that is too small");
  if constexpr (sizeof(S) <= 2)
    if (in_register == 2) return &extend<D, S, std::uint16_t>;
  if constexpr (sizeof(S) <= 4)
    if (in_register == 4) return &extend<D, S, std::uint32_t>;
  if (in_register == 8) return &extend<D, S, std::uint64_t>;
  d.refuse("a register of another size");
}
template <class D>
Handler extend_to(Decoder& d, Type from, std::uint32_t in_register) {
  switch (from) {
    case Type::u8:
      return extend_from<D, std::uint8_t>(d, in_register);
    case Type::s8:
      return extend_from<D, std::int8_t>(d, in_register);
    case Type::u16:
      return extend_from<D, std::uint16_t>(d, in_register);
    case Type::s16:
      return extend_from<D, std::int16_t>(d, in_register);
    case Type::u32:
      return extend_from<D, std::uint32_t>(d, in_register);
    case Type::s32:
      return extend_from<D, std::int32_t>(d, in_register);
    case Type::u64:
      return extend_from<D, std::uint64_t>(d, in_register);
    case Type::s64:
      return extend_from<D, std::int64_t>(d, in_register);
    default:
      d.refuse("not of this type");
  }
}

// ---- floating point -----------------------------------------------------------------------------
template <class D, class S>
struct Cast {
  D operator()(S x) const {
    const auto y = static_cast<D>(x);
    if constexpr (std::is_same_v<D, float>) return y != y ? std::bit_cast<float>(0x7FFFFFFFu) : y;
    return y;
  }
};
struct ToBf16 {
  std::uint16_t operator()(float x) const { return to_bf16_bits(x); }
};
struct FromBf16 {
  float operator()(std::uint16_t x) const { return std::bit_cast<float>(std::uint32_t{x} << 16); }
};
/// The first operand is the high half.
struct ToBf16Pair {
  std::uint32_t operator()(float high, float low) const {
    return std::uint32_t{to_bf16_bits(high)} << 16 | to_bf16_bits(low);
  }
};
struct Saturate {
  float operator()(float x) const { return !(x > 0) ? 0.0f : x > 1 ? 1.0f : x; }  // NaN: 0
};

enum class Round { nearest, zero, down, up };
template <Round How, class T>
T to_integral(T x) {
  switch (How) {
    case Round::nearest:
      return std::nearbyint(x);
    case Round::zero:
      return std::trunc(x);
    case Round::down:
      return std::floor(x);
    case Round::up:
      return std::ceil(x);
  }
}
template <Round How>
struct Integral {
  template <class T>
  T operator()(T x) const {
    return to_integral<How>(x);
  }
};
/// What does not fit becomes the nearest that does, NaN becomes 0.
template <Round How, class D>
struct ToInteger {
  template <class T>
  D operator()(T x) const {
    const T whole = to_integral<How>(x);
    constexpr T kEnd = static_cast<T>(std::uint64_t{1} << (sizeof(D) * 8 - 1)) * (std::is_signed_v<D> ? 1 : 2);
    if (whole != whole) return 0;
    if (whole >= kEnd) return std::numeric_limits<D>::max();
    if (whole < static_cast<T>(std::numeric_limits<D>::min())) return std::numeric_limits<D>::min();
    return static_cast<D>(whole);
  }
};

template <Round How, class S>
Handler to_integer(Decoder& d, Type to) {
  switch (to) {
    case Type::s32:
      return &map_handler<ToInteger<How, std::int32_t>, std::int32_t, S>;
    case Type::u32:
      return &map_handler<ToInteger<How, std::uint32_t>, std::uint32_t, S>;
    case Type::s64:
      return &map_handler<ToInteger<How, std::int64_t>, std::int64_t, S>;
    case Type::u64:
      return &map_handler<ToInteger<How, std::uint64_t>, std::uint64_t, S>;
    case Type::f32:
    case Type::f64:
      return &map_handler<Integral<How>, S, S>;
    default:
      d.refuse("not of this type");
  }
}
template <class S>
Handler to_integer(Decoder& d, Type to) {
  if (d.take("rni")) return to_integer<Round::nearest, S>(d, to);
  if (d.take("rzi")) return to_integer<Round::zero, S>(d, to);
  if (d.take("rmi")) return to_integer<Round::down, S>(d, to);
  if (d.take("rpi")) return to_integer<Round::up, S>(d, to);
  return nullptr;
}
template <class D>
Handler from_integer(Decoder& d, Type from) {
  switch (from) {
    case Type::s16:
      return &map_handler<Cast<D, std::int16_t>, D, std::int16_t>;
    case Type::u16:
      return &map_handler<Cast<D, std::uint16_t>, D, std::uint16_t>;
    case Type::s32:
      return &map_handler<Cast<D, std::int32_t>, D, std::int32_t>;
    case Type::u32:
      return &map_handler<Cast<D, std::uint32_t>, D, std::uint32_t>;
    case Type::s64:
      return &map_handler<Cast<D, std::int64_t>, D, std::int64_t>;
    case Type::u64:
      return &map_handler<Cast<D, std::uint64_t>, D, std::uint64_t>;
    default:
      d.refuse("not from this type");
  }
}

bool is_float(Type type) {
  return type == Type::f32 || type == Type::f64;
}
bool is_integer(Type type) {
  return type == Type::u8 || type == Type::u16 || type == Type::u32 || type == Type::u64 || is_signed(type);
}

bool cvt(Decoder& d) {
  d.out.kind = Class::conversion;
  if (d.take_all("cvt.rn.bf16x2.f32")) {
    d.out.operand = {d.target(0, Type::b32), d.source(1, Type::f32), d.source(2, Type::f32)};
    d.out.run = &map_handler<ToBf16Pair, std::uint32_t, float, float>;
    return true;
  }
  const Type from = d.take_last_type(), to = d.take_last_type();
  if (d.operands() != 2) d.refuse("another number of operands");
  if (is_integer(from) && is_integer(to)) {
    const Register source = d.any_register(d.operand(1)), target = d.any_register(d.operand(0));
    if (target.bytes != std::max(bytes_of(to), 2u)) d.refuse("a register of another size than the type");
    d.out.operand = {target.offset, source.offset};
    switch (to) {
      case Type::u8:
        d.refuse("not to this type");
      case Type::s8:
        d.refuse("not to this type");
      case Type::u16:
      case Type::s16:
        d.out.run = extend_to<std::uint16_t>(d, from, source.bytes);
        break;
      case Type::u32:
      case Type::s32:
        d.out.run = extend_to<std::uint32_t>(d, from, source.bytes);
        break;
      default:
        d.out.run = extend_to<std::uint64_t>(d, from, source.bytes);
    }
    return true;
  }
  d.out.operand = {d.target(0, to), d.source(1, from)};
  if (to == Type::bf16 && from == Type::f32 && d.take("rn")) {
    d.out.run = &map_handler<ToBf16, std::uint16_t, float>;
  } else if (to == Type::f32 && from == Type::bf16) {
    d.out.run = &map_handler<FromBf16, float, std::uint16_t>;
  } else if (is_float(from) && (d.out.run = from == Type::f32 ? to_integer<float>(d, to) : to_integer<double>(d, to))) {
    if (is_float(to) && from != to) d.refuse("two roundings");
  } else if (to == Type::f32 && from == Type::f32 && d.take("sat")) {
    d.out.run = &map_handler<Saturate, float, float>;
  } else if (to == Type::f64 && from == Type::f32) {
    d.out.run = &map_handler<Cast<double, float>, double, float>;
  } else if (to == Type::f32 && from == Type::f64 && d.take("rn")) {
    d.out.run = &map_handler<Cast<float, double>, float, double>;
  } else if (is_integer(from) && is_float(to) && d.take("rn")) {
    d.out.run = to == Type::f32 ? from_integer<float>(d, from) : from_integer<double>(d, from);
  } else {
    d.refuse("unknown conversion");
  }
  return true;
}

// ---- moves --------------------------------------------------------------------------------------
template <class T>
struct Same {
  T operator()(T x) const { return x; }
};
void move_predicate(Warp& w, const Instruction& in) {
  w.set_predicate(in.operand[0], w.predicate(in.operand[1]));
}
/// From two halves, the low one first.
template <class Whole, class Half>
struct Join {
  Whole operator()(Half low, Half high) const { return static_cast<Whole>(high) << sizeof(Half) * 8 | low; }
};
template <class Whole, class Half>
void split(Warp& w, const Instruction& in) {
  const Whole* from = w.at<Whole>(in.operand[2]);
  Half* low = w.at<Half>(in.operand[0]);
  Half* high = w.at<Half>(in.operand[1]);
  each_lane(w.mask, [&](int l) {
    const Whole x = from[l];
    low[l] = static_cast<Half>(x);
    high[l] = static_cast<Half>(x >> sizeof(Half) * 8);
  });
}

bool mov(Decoder& d) {
  const Type type = d.take_last_type();
  d.out.kind = Class::move;
  if (d.operands() != 2) d.refuse("another number of operands");
  const auto to = d.vector(0), from = d.vector(1);
  if (to.size() > 1 || from.size() > 1) {
    if (to.size() * from.size() != 2 || (type != Type::b32 && type != Type::b64)) d.refuse("parts other than halves");
    const Type half = type == Type::b32 ? Type::b16 : Type::b32;
    if (from.size() == 2) {
      d.out.operand = {d.target(0, type), d.source(from[0], half), d.source(from[1], half)};
      d.out.run = type == Type::b32
                      ? &map_handler<Join<std::uint32_t, std::uint16_t>, std::uint32_t, std::uint16_t, std::uint16_t>
                      : &map_handler<Join<std::uint64_t, std::uint32_t>, std::uint64_t, std::uint32_t, std::uint32_t>;
    } else {
      d.out.operand = {d.target(to[0], half), d.target(to[1], half), d.source(1, type)};
      d.out.run = type == Type::b32 ? &split<std::uint32_t, std::uint16_t> : &split<std::uint64_t, std::uint32_t>;
    }
    return true;
  }
  d.out.operand = {d.target(0, type), d.source(1, type)};
  switch (bytes_of(type)) {
    case 0:
      d.out.run = &move_predicate;
      break;
    case 2:
      d.out.run = &map_handler<Same<std::uint16_t>, std::uint16_t, std::uint16_t>;
      break;
    case 4:
      d.out.run = &map_handler<Same<std::uint32_t>, std::uint32_t, std::uint32_t>;
      break;
    case 8:
      d.out.run = &map_handler<Same<std::uint64_t>, std::uint64_t, std::uint64_t>;
      break;
    default:
      d.refuse("not of this type");
  }
  return true;
}

// ---- address spaces -----------------------------------------------------------------------------
// A generic address is the host's.
enum Space : std::uint8_t { kGlobal, kShared, kLocal };

template <bool ToGeneric>
void convert_address(Warp& w, const Instruction& in) {
  const auto* from = w.at<std::uint64_t>(in.operand[1]);
  auto* to = w.at<std::uint64_t>(in.operand[0]);
  each_lane(w.mask, [&](int l) {
    std::uint64_t begin = 0;
    if (in.detail == kShared) begin = reinterpret_cast<std::uint64_t>(w.block->shared);
    if (in.detail == kLocal)
      begin = reinterpret_cast<std::uint64_t>(w.local) + static_cast<std::uint64_t>(l) * w.local_stride;
    to[l] = ToGeneric ? from[l] + begin : from[l] - begin;
  });
}

bool cvta(Decoder& d) {
  if (d.take_last_type() != Type::u64) d.refuse("addresses have 64 bits");
  const bool to_space = d.take("to");
  d.out.detail = d.take("shared") ? kShared : d.take("local") ? kLocal : kGlobal;
  if (d.out.detail == kGlobal && !d.take("global")) d.refuse("unknown address space");
  d.out.operand = {d.target(0, Type::u64), d.source(1, Type::u64)};
  d.out.kind = Class::move;
  d.out.run = to_space ? &convert_address<false> : &convert_address<true>;
  return true;
}

}  // namespace

Opcodes conversion_opcodes() {
  return {{"cvt", cvt}, {"mov", mov}, {"cvta", cvta}};
}

}  // namespace ptx_on_cpu
