// Integer arithmetic.

#include "integer_choice.h"

namespace ptx_on_cpu {
namespace {

// Wrapping, whatever the type's sign.
struct IntegerAdd {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
  }
};
struct IntegerSub {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
  }
};
struct MulLow {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  }
};
template <class T>
using Twice = std::conditional_t<
    sizeof(T) == 8, std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>,
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>,
                       std::conditional_t<std::is_signed_v<T>, std::int32_t, std::uint32_t>>>;
struct MulHigh {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Twice<T>>(a) * static_cast<Twice<T>>(b) >> kBits<T>);
  }
};
struct MadLow {
  template <class T>
  T operator()(T a, T b, T c) const {
    return IntegerAdd{}(MulLow{}(a, b), c);
  }
};
struct MadHigh {
  template <class T>
  T operator()(T a, T b, T c) const {
    return IntegerAdd{}(MulHigh{}(a, b), c);
  }
};
struct MulWide {
  template <class T>
  Twice<T> operator()(T a, T b) const {
    return static_cast<Twice<T>>(a) * static_cast<Twice<T>>(b);
  }
};
struct MadWide {
  template <class T>
  Twice<T> operator()(T a, T b, Twice<T> c) const {
    return IntegerAdd{}(MulWide{}(a, b), c);
  }
};
// A division by zero gives all ones: PTX leaves it open, and lanes that do not take part divide by anything.
struct Quotient {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return static_cast<T>(-1);
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return IntegerSub{}(T{0}, a);
    return static_cast<T>(a / b);
  }
};
struct Remainder {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return static_cast<T>(-1);
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
    return static_cast<T>(a % b);
  }
};
struct Least {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};
struct Most {
  template <class T>
  T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Negative {
  template <class T>
  T operator()(T a) const {
    return IntegerSub{}(T{0}, a);
  }
};
struct Magnitude {
  template <class T>
  T operator()(T a) const {
    return a < 0 ? Negative{}(a) : a;
  }
};
template <class F>
struct Widening {
  template <class T>
  struct Of {
    static Handler handler() {
      if constexpr (sizeof(T) < 8)
        return &map_handler<F, Twice<T>, T, T>;
      else
        return nullptr;
    }
  };
};
template <class F>
struct WideningAdd {
  template <class T>
  struct Of {
    static Handler handler() {
      if constexpr (sizeof(T) < 8)
        return &map_handler<F, Twice<T>, T, T, Twice<T>>;
      else
        return nullptr;
    }
  };
};
Type wide(Decoder& d, Type type) {
  switch (type) {
    case Type::s16:
      return Type::s32;
    case Type::u16:
      return Type::u32;
    case Type::s32:
      return Type::s64;
    case Type::u32:
      return Type::u64;
    default:
      d.refuse("no type of twice the size");
  }
}

bool add(Decoder& d) {
  return same_types<Two<IntegerAdd>::Of>(d, 2, true);
}
bool sub(Decoder& d) {
  return same_types<Two<IntegerSub>::Of>(d, 2, true);
}
bool div(Decoder& d) {
  return same_types<Two<Quotient>::Of>(d, 2);
}
bool rem(Decoder& d) {
  return same_types<Two<Remainder>::Of>(d, 2);
}
bool min(Decoder& d) {
  return same_types<Two<Least>::Of>(d, 2);
}
bool max(Decoder& d) {
  return same_types<Two<Most>::Of>(d, 2);
}
bool neg(Decoder& d) {
  return same_types<One<Negative>::Of>(d, 1);
}
bool abs(Decoder& d) {
  return same_types<One<Magnitude>::Of>(d, 1);
}

bool mul(Decoder& d) {
  if (!is_integer(d.last_type())) return false;
  if (d.take("lo")) return same_types<Two<MulLow>::Of>(d, 2, true);
  if (d.take("hi")) {
    same_types<Two<MulHigh>::Of>(d, 2);
  } else if (d.take("wide")) {
    const Type type = d.take_last_type();
    expect_operands(d, 3);
    d.out.operand = {d.target(0, wide(d, type)), d.source(1, type), d.source(2, type)};
    d.out.run = signed_or_unsigned<Widening<MulWide>::Of>(d, type);
  } else {
    d.refuse("lo, hi or wide?");
  }
  d.out.kind = Class::wide_multiply;
  return true;
}

bool mad(Decoder& d) {
  if (!is_integer(d.last_type())) return false;
  if (d.take("lo")) return same_types<Three<MadLow>::Of>(d, 3, true);
  if (d.take("hi")) {
    same_types<Three<MadHigh>::Of>(d, 3);
  } else if (d.take("wide")) {
    const Type type = d.take_last_type();
    expect_operands(d, 4);
    d.out.operand = {d.target(0, wide(d, type)), d.source(1, type), d.source(2, type), d.source(3, wide(d, type))};
    d.out.run = signed_or_unsigned<WideningAdd<MadWide>::Of>(d, type);
  } else {
    d.refuse("lo, hi or wide?");
  }
  d.out.kind = Class::wide_multiply;
  return true;
}

}  // namespace

Opcodes integer_opcodes() {
  return {{"add", add}, {"sub", sub}, {"mul", mul}, {"mad", mad}, {"div", div},
          {"rem", rem}, {"min", min}, {"max", max}, {"neg", neg}, {"abs", abs}};
}

}  // namespace ptx_on_cpu
