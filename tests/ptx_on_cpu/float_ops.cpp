// Arithmetic of floating-point types, as the PTX ISA has it: rounding, the sign of zero, NaN.
//
// What it leaves to the hardware within a bound (.approx, div.full) is calculated in double and rounded once.

#include <cfenv>
#include <cmath>
#include <limits>

#include "decoder.h"

namespace ptx_on_cpu {
namespace {

float canonical(float x) {
  return x != x ? std::bit_cast<float>(0x7FFFFFFFu) : x;  // the one NaN that arithmetic of .f32 gives
}
double canonical(double x) {
  return x;  // .f64 keeps what a NaN carries
}
float flushed(float x) {
  return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}
double flushed(double x) {
  return std::fabs(x) < std::numeric_limits<double>::min() ? std::copysign(0.0, x) : x;
}
template <class T>
T saturated(T x) {
  return !(x > 0) ? T{0} : x > 1 ? T{1} : x;  // NaN: 0
}

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return canonical(a + b);
  }
};
struct Sub {
  template <class T>
  T operator()(T a, T b) const {
    return canonical(a - b);
  }
};
struct Mul {
  template <class T>
  T operator()(T a, T b) const {
    return canonical(a * b);
  }
};
struct Div {
  template <class T>
  T operator()(T a, T b) const {
    return canonical(a / b);
  }
};
struct Fma {
  template <class T>
  T operator()(T a, T b, T c) const {
    return canonical(std::fma(a, b, c));
  }
};
struct Rcp {
  template <class T>
  T operator()(T a) const {
    return canonical(1 / a);
  }
};
struct Sqrt {
  template <class T>
  T operator()(T a) const {
    return canonical(std::sqrt(a));
  }
};
struct Abs {
  template <class T>
  T operator()(T a) const {
    return std::fabs(a);
  }
};
struct Neg {
  template <class T>
  T operator()(T a) const {
    return -a;
  }
};
template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
// One NaN gives way to a number; −0 is below +0.
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    const T both = std::bit_cast<T>(static_cast<Bits<T>>(std::bit_cast<Bits<T>>(a) & std::bit_cast<Bits<T>>(b)));
    const T most = a == b ? both : a > b ? a : b;
    return canonical(a != a ? b : b != b ? a : most);
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    const T both = std::bit_cast<T>(static_cast<Bits<T>>(std::bit_cast<Bits<T>>(a) | std::bit_cast<Bits<T>>(b)));
    const T least = a == b ? both : a < b ? a : b;
    return canonical(a != a ? b : b != b ? a : least);
  }
};
template <class F>
struct OrNan {  // .NaN
  template <class T>
  T operator()(T a, T b) const {
    return a != a || b != b ? canonical(std::numeric_limits<T>::quiet_NaN()) : F{}(a, b);
  }
};
/// The sign of the first on the second.
struct Copysign {
  template <class T>
  T operator()(T a, T b) const {
    return std::copysign(b, a);
  }
};

/// 2^x to a few parts in 10^16: the Taylor series of exp on [−ln 2 / 2, ln 2 / 2].
double exp2_of(double x) {
  const double clamped = x < -1000 ? -1000 : x > 1000 ? 1000 : x;
  constexpr double kShift = 0x1.8p52;  // beyond it a double has no fraction
  const double shifted = clamped + kShift;
  const double f = (clamped - (shifted - kShift)) * 0x1.62e42fefa39efp-1;
  double sum = 1.0 / 6227020800;
  for (const double c : {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                         1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0})
    sum = sum * f + c;
  const std::uint64_t exponent = std::bit_cast<std::uint64_t>(shifted) - std::bit_cast<std::uint64_t>(kShift) + 1023;
  return x != x ? x : sum * std::bit_cast<double>(exponent << 52);
}

struct Ex2Approx {
  float operator()(float a) const { return canonical(static_cast<float>(exp2_of(static_cast<double>(a)))); }
};
struct Lg2Approx {
  float operator()(float a) const { return canonical(static_cast<float>(std::log2(static_cast<double>(a)))); }
};
struct RsqrtApprox {
  float operator()(float a) const { return canonical(static_cast<float>(1 / std::sqrt(static_cast<double>(a)))); }
};
struct SinApprox {
  float operator()(float a) const { return canonical(static_cast<float>(std::sin(static_cast<double>(a)))); }
};
struct CosApprox {
  float operator()(float a) const { return canonical(static_cast<float>(std::cos(static_cast<double>(a)))); }
};
struct TanhApprox {
  float operator()(float a) const { return canonical(static_cast<float>(std::tanh(static_cast<double>(a)))); }
};
/// The gross approximation of rcp.approx.ftz.f64: of the operand's and the result's words only the high ones count.
struct RcpGross {
  double operator()(double a) const {
    constexpr std::uint64_t kHigh = 0xFFFFFFFF00000000u;
    const double high = flushed(std::bit_cast<double>(std::bit_cast<std::uint64_t>(a) & kHigh));
    return std::bit_cast<double>(std::bit_cast<std::uint64_t>(flushed(1 / high)) & kHigh);
  }
};

template <class F>
struct Flushing {
  template <class... T>
  auto operator()(T... x) const {
    return flushed(F{}(flushed(x)...));
  }
};
template <class F>
struct Saturating {
  template <class... T>
  auto operator()(T... x) const {
    return saturated(F{}(x...));
  }
};

template <class F, class T, std::size_t... k>
Handler handler_of(std::index_sequence<k...>) {
  return &map_handler<F, T, std::conditional_t<k == 0, T, T>...>;
}

/// d = F(operands) of type T, with .ftz and .sat where they are.
template <int Sources, class F, class T>
Handler with_modifiers(Decoder& d) {
  constexpr auto kSources = std::make_index_sequence<static_cast<std::size_t>(Sources)>{};
  const bool ftz = sizeof(T) == 4 && d.take("ftz"), sat = sizeof(T) == 4 && d.take("sat");
  if (ftz && sat) return handler_of<Saturating<Flushing<F>>, T>(kSources);
  if (ftz) return handler_of<Flushing<F>, T>(kSources);
  if (sat) return handler_of<Saturating<F>, T>(kSources);
  return handler_of<F, T>(kSources);
}

void set_operands(Decoder& d, Type type, std::size_t sources) {
  if (d.operands() != sources + 1) d.refuse("another number of operands");
  d.out.operand[0] = d.target(0, type);
  for (std::size_t k = 1; k <= sources; ++k) d.out.operand[k] = d.source(k, type);
}

/// Runs what it wraps with another rounding.
template <int Rounding>
__attribute__((noinline)) void rounded(Warp& w, const Instruction& in) {
  std::fesetround(Rounding);
  in.inner(w, in);
  std::fesetround(FE_TONEAREST);
}

void take_rounding(Decoder& d) {
  Handler wrapper = nullptr;
  if (d.take("rz")) wrapper = &rounded<FE_TOWARDZERO>;
  if (d.take("rm")) wrapper = &rounded<FE_DOWNWARD>;
  if (d.take("rp")) wrapper = &rounded<FE_UPWARD>;
  if (!wrapper) {
    d.take("rn");
    return;
  }
  d.out.inner = d.out.run;
  d.out.run = wrapper;
}

template <int Sources, class F>
bool arithmetic(Decoder& d) {
  const Type type = d.last_type();
  if (type != Type::f32 && type != Type::f64) return false;
  d.take_last_type();
  set_operands(d, type, Sources);
  d.out.kind = type == Type::f64 ? Class::fp64 : Class::fp32;
  d.out.run = type == Type::f64 ? with_modifiers<Sources, F, double>(d) : with_modifiers<Sources, F, float>(d);
  take_rounding(d);
  return true;
}

template <class F>
bool extreme(Decoder& d) {
  if (d.last_type() == Type::f32 && d.take("NaN")) return arithmetic<2, OrNan<F>>(d);
  return arithmetic<2, F>(d);
}

/// One operand, .f32, .approx with or without .ftz.
template <class F>
bool approximation(Decoder& d) {
  if (d.last_type() != Type::f32 || !d.take("approx")) return false;
  d.take_last_type();
  set_operands(d, Type::f32, 1);
  d.out.kind = Class::special;
  d.out.run = with_modifiers<1, F, float>(d);
  return true;
}

template <class F, class Approximate>
bool exact_or_approximate(Decoder& d) {
  return approximation<Approximate>(d) || arithmetic<1, F>(d);
}

bool rcp(Decoder& d) {
  if (d.take_all("rcp.approx.ftz.f64")) {
    set_operands(d, Type::f64, 1);
    d.out.kind = Class::special;
    d.out.run = &map_handler<RcpGross, double, double>;
    return true;
  }
  return exact_or_approximate<Rcp, Rcp>(d);
}

bool div(Decoder& d) {
  // One special function and products: as exact as the division that stands for it.
  const bool quick = d.last_type() == Type::f32 && (d.take("full") || d.take("approx"));
  if (!arithmetic<2, Div>(d)) return false;
  if (quick) d.out.kind = Class::special;
  return true;
}

}  // namespace

Opcodes float_opcodes() {
  return {{"add", arithmetic<2, Add>},
          {"sub", arithmetic<2, Sub>},
          {"mul", arithmetic<2, Mul>},
          {"fma", arithmetic<3, Fma>},
          {"mad", arithmetic<3, Fma>},
          {"div", div},
          {"rcp", rcp},
          {"sqrt", exact_or_approximate<Sqrt, Sqrt>},
          {"abs", arithmetic<1, Abs>},
          {"neg", arithmetic<1, Neg>},
          {"min", extreme<Min>},
          {"max", extreme<Max>},
          {"copysign", arithmetic<2, Copysign>},
          {"ex2", approximation<Ex2Approx>},
          {"lg2", approximation<Lg2Approx>},
          {"rsqrt", approximation<RsqrtApprox>},
          {"sin", approximation<SinApprox>},
          {"cos", approximation<CosApprox>},
          {"tanh", approximation<TanhApprox>}};
}

}  // namespace ptx_on_cpu
