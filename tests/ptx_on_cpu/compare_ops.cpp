// Comparisons and selections of every type.

#include "integer_choice.h"

namespace ptx_on_cpu {
namespace {

enum class Compare { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };

template <Compare How, class T>
bool compare(T a, T b) {
  switch (How) {
    case Compare::eq:
      return a == b;
    case Compare::ne:  // of numbers: ordered
      return std::is_floating_point_v<T> ? a < b || a > b : a != b;
    case Compare::lt:
      return a < b;
    case Compare::le:
      return a <= b;
    case Compare::gt:
      return a > b;
    case Compare::ge:
      return a >= b;
    // True where either is NaN.
    case Compare::equ:
      return !(a < b || a > b);
    case Compare::neu:
      return !(a == b);
    case Compare::ltu:
      return !(a >= b);
    case Compare::leu:
      return !(a > b);
    case Compare::gtu:
      return !(a <= b);
    case Compare::geu:
      return !(a < b);
    case Compare::num:
      return a == a && b == b;
    case Compare::nan:
      return a != a || b != b;
  }
}

enum Combine : std::uint8_t { kPlain, kAnd, kOr, kXor };

template <Compare How, class T>
void setp(Warp& w, const Instruction& in) {
  const T* a = w.at<T>(in.operand[2]);
  const T* b = w.at<T>(in.operand[3]);
  Mask holds = 0;
  // Parts of eight lanes, so that the compiler makes vector code of each.
  for (int part = 0; part < kLanes; part += 8) {
    Mask bits = 0;
    for (int l = 0; l < 8; ++l) bits |= compare<How>(a[part + l], b[part + l]) ? 1u << l : 0u;
    holds |= bits << part;
  }
  if (in.detail == kPlain) {
    w.set_predicate(in.operand[0], holds);
    return;
  }
  const Mask c = w.predicate(in.operand[4]);
  const auto combined = [&](Mask x) { return in.detail == kAnd ? x & c : in.detail == kOr ? x | c : x ^ c; };
  w.set_predicate(in.operand[0], combined(holds));
  if (in.operand[1] != kNoOperand) w.set_predicate(in.operand[1], combined(~holds));
}

template <class T, Compare... How>
Handler choose(Compare wanted) {
  Handler chosen = nullptr;
  ((How == wanted ? void(chosen = &setp<How, T>) : void()), ...);
  return chosen;
}
template <class T>
Handler of_integers(Compare how) {
  return choose<T, Compare::eq, Compare::ne, Compare::lt, Compare::le, Compare::gt, Compare::ge>(how);
}
template <class T>
Handler of_floats(Compare how) {
  return choose<T, Compare::eq, Compare::ne, Compare::lt, Compare::le, Compare::gt, Compare::ge, Compare::equ,
                Compare::neu, Compare::ltu, Compare::leu, Compare::gtu, Compare::geu, Compare::num, Compare::nan>(how);
}

bool decode_setp(Decoder& d) {
  static constexpr std::pair<std::string_view, Compare> kHow[] = {
      {"eq", Compare::eq},   {"ne", Compare::ne},   {"lt", Compare::lt},   {"le", Compare::le},   {"gt", Compare::gt},
      {"ge", Compare::ge},   {"equ", Compare::equ}, {"neu", Compare::neu}, {"ltu", Compare::ltu}, {"leu", Compare::leu},
      {"gtu", Compare::gtu}, {"geu", Compare::geu}, {"num", Compare::num}, {"nan", Compare::nan}, {"lo", Compare::lt},
      {"ls", Compare::le},   {"hi", Compare::gt},   {"hs", Compare::ge}};
  const Type type = d.take_last_type();
  const Compare* how = nullptr;
  for (const auto& [name, value] : kHow)
    if (!how && d.take(name)) how = &value;
  if (!how) d.refuse("no comparison");
  d.out.detail = d.take("and") ? kAnd : d.take("or") ? kOr : d.take("xor") ? kXor : kPlain;
  expect_operands(d, d.out.detail == kPlain ? 3 : 4);
  const std::string_view to = d.operand(0);
  const std::size_t bar = to.find('|');
  d.out.operand[0] = d.target(trimmed(to.substr(0, bar)), Type::pred);
  d.out.operand[1] = kNoOperand;
  if (bar != std::string_view::npos) d.out.operand[1] = d.target(trimmed(to.substr(bar + 1)), Type::pred);
  if (bar != std::string_view::npos && d.out.detail == kPlain) d.refuse("two predicates without a combination");
  d.out.operand[2] = d.source(1, type);
  d.out.operand[3] = d.source(2, type);
  if (d.out.detail != kPlain) d.out.operand[4] = d.source(3, Type::pred);
  d.out.kind = Class::integer;
  switch (is_signed(type) || type == Type::f32 || type == Type::f64 ? type : untyped(type)) {
    case Type::s16:
      d.out.run = of_integers<std::int16_t>(*how);
      break;
    case Type::u16:
      d.out.run = of_integers<std::uint16_t>(*how);
      break;
    case Type::s32:
      d.out.run = of_integers<std::int32_t>(*how);
      break;
    case Type::u32:
      d.out.run = of_integers<std::uint32_t>(*how);
      break;
    case Type::s64:
      d.out.run = of_integers<std::int64_t>(*how);
      break;
    case Type::u64:
      d.out.run = of_integers<std::uint64_t>(*how);
      break;
    case Type::f32:
      d.out.run = of_floats<float>(*how);
      break;
    case Type::f64:
      d.out.run = of_floats<double>(*how);
      break;
    default:
      break;
  }
  if (!d.out.run) d.refuse("no such comparison of this type");
  return true;
}

template <class T>
void selp(Warp& w, const Instruction& in) {
  const T* a = w.at<T>(in.operand[1]);
  const T* b = w.at<T>(in.operand[2]);
  T* to = w.at<T>(in.operand[0]);
  const Mask p = w.predicate(in.operand[3]), mask = w.mask;
#pragma GCC ivdep
  for (int l = 0; l < kLanes; ++l) {
    const T chosen = (p >> l & 1u) ? a[l] : b[l];
    to[l] = (mask >> l & 1u) ? chosen : to[l];
  }
}
bool decode_selp(Decoder& d) {
  const Type type = d.take_last_type();
  expect_operands(d, 4);
  d.out.operand = {d.target(0, type), d.source(1, type), d.source(2, type), d.source(3, Type::pred)};
  d.out.kind = Class::integer;
  switch (bytes_of(type)) {
    case 2:
      d.out.run = &selp<std::uint16_t>;
      break;
    case 4:
      d.out.run = &selp<std::uint32_t>;
      break;
    case 8:
      d.out.run = &selp<std::uint64_t>;
      break;
    default:
      d.refuse("not of this type");
  }
  return true;
}

}  // namespace

Opcodes compare_opcodes() {
  return {{"setp", decode_setp}, {"selp", decode_selp}};
}

}  // namespace ptx_on_cpu
