#pragma once
// Choosing a handler by the type of an integer instruction.

#include <type_traits>

#include "decoder.h"

namespace ptx_on_cpu {

template <class T>
using Unsigned = std::make_unsigned_t<T>;
template <class T>
constexpr unsigned kBits = sizeof(T) * 8;

template <template <class> class Choice>
Handler signed_or_unsigned(Decoder& d, Type type) {
  switch (type) {
    case Type::s16:
      return Choice<std::int16_t>::handler();
    case Type::u16:
      return Choice<std::uint16_t>::handler();
    case Type::s32:
      return Choice<std::int32_t>::handler();
    case Type::u32:
      return Choice<std::uint32_t>::handler();
    case Type::s64:
      return Choice<std::int64_t>::handler();
    case Type::u64:
      return Choice<std::uint64_t>::handler();
    default:
      d.refuse("not of this type");
  }
}
/// The unsigned type of the same size.
inline Type untyped(Type type) {
  switch (bytes_of(type)) {
    case 2:
      return Type::u16;
    case 4:
      return Type::u32;
    case 8:
      return Type::u64;
    default:
      return type;
  }
}
inline bool is_integer(Type type) {
  return type != Type::none && type != Type::pred && type != Type::f16 && type != Type::bf16 && type != Type::bf16x2 &&
         type != Type::f32 && type != Type::f64 && bytes_of(type) > 1;
}

template <class F>
struct One {
  template <class T>
  struct Of {
    static Handler handler() { return &map_handler<F, T, T>; }
  };
};
template <class F>
struct Two {
  template <class T>
  struct Of {
    static Handler handler() { return &map_handler<F, T, T, T>; }
  };
};
template <class F>
struct Three {
  template <class T>
  struct Of {
    static Handler handler() { return &map_handler<F, T, T, T, T>; }
  };
};
inline void expect_operands(Decoder& d, std::size_t count) {
  if (d.operands() != count) d.refuse("another number of operands");
}

template <template <class> class Choice>
bool same_types(Decoder& d, std::size_t sources, bool as_unsigned = false) {
  const Type type = d.last_type();
  if (!is_integer(type)) return false;
  d.take_last_type();
  expect_operands(d, sources + 1);
  d.out.operand[0] = d.target(0, type);
  for (std::size_t k = 1; k <= sources; ++k) d.out.operand[k] = d.source(k, type);
  d.out.kind = Class::integer;
  d.out.run = signed_or_unsigned<Choice>(d, as_unsigned ? untyped(type) : type);
  return true;
}

}  // namespace ptx_on_cpu
