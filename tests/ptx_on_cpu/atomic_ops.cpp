// Atomic operations, atomic among host threads too: blocks run on several.

#include <atomic>
#include <type_traits>

#include "memory_choice.h"

namespace ptx_on_cpu {
namespace {

enum class Atomic { add, min, max, bit_and, bit_or, bit_xor, exchange, compare_and_swap };

template <class T>
T result_of(Atomic what, T old, T a, T b) {
  switch (what) {
    case Atomic::add:
      if constexpr (std::is_floating_point_v<T>)
        return old + a;
      else
        return static_cast<T>(static_cast<std::make_unsigned_t<T>>(old) + static_cast<std::make_unsigned_t<T>>(a));
    case Atomic::min:
      return a < old ? a : old;
    case Atomic::max:
      return a > old ? a : old;
    case Atomic::exchange:
      return a;
    case Atomic::compare_and_swap:
      return old == a ? b : old;
    default:
      break;
  }
  if constexpr (!std::is_floating_point_v<T>) {
    if (what == Atomic::bit_and) return old & a;
    if (what == Atomic::bit_or) return old | a;
    if (what == Atomic::bit_xor) return old ^ a;
  }
  return old;
}

/// operand: address, result or none, a, b, and which operation.
template <Space Where, class T>
void atomic(Warp& w, const Instruction& in) {
  Places places;
  locate<Where>(w, in, places);
  const auto what = static_cast<Atomic>(in.operand[4]);
  const T* a = w.at<T>(in.operand[2]);
  const T* b = w.at<T>(in.operand[3]);
  each_lane(w.mask, [&](int l) {
    std::atomic_ref<T> here(*reinterpret_cast<T*>(places[static_cast<std::size_t>(l)]));
    T old = here.load();
    while (!here.compare_exchange_weak(old, result_of(what, old, a[l], b[l]))) {
    }
    if (in.operand[1] != kNoOperand) w.at<T>(in.operand[1])[l] = old;
  });
}

template <Space Where>
Handler atomic_of(Decoder& d, Type type) {
  switch (type) {
    case Type::b32:
    case Type::u32:
      return &atomic<Where, std::uint32_t>;
    case Type::s32:
      return &atomic<Where, std::int32_t>;
    case Type::b64:
    case Type::u64:
      return &atomic<Where, std::uint64_t>;
    case Type::s64:
      return &atomic<Where, std::int64_t>;
    case Type::f32:
      return &atomic<Where, float>;
    case Type::f64:
      return &atomic<Where, double>;
    default:
      d.refuse("not of this type");
  }
}

template <bool Returns>
bool atomic_operation(Decoder& d) {
  const Type type = d.take_last_type();
  const Space space = take_space(d);
  static constexpr std::pair<const char*, Atomic> kOperations[] = {
      {"add", Atomic::add},   {"min", Atomic::min},     {"max", Atomic::max},       {"and", Atomic::bit_and},
      {"or", Atomic::bit_or}, {"xor", Atomic::bit_xor}, {"exch", Atomic::exchange}, {"cas", Atomic::compare_and_swap}};
  const Atomic* what = nullptr;
  for (const auto& [name, value] : kOperations)
    if (!what && d.take(name)) what = &value;
  if (!what) d.refuse("no atomic operation");
  // All are sequentially consistent here, which is more than any of these asks for.
  for (const char* order : {"relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys"}) d.take(order);
  const std::size_t first = Returns ? 1 : 0, values = *what == Atomic::compare_and_swap ? 2 : 1;
  if (d.operands() != first + 1 + values) d.refuse("another number of operands");
  set_address(d, first);
  d.out.operand[1] = Returns ? d.target(0, type) : kNoOperand;
  d.out.operand[2] = d.source(first + 1, type);
  d.out.operand[3] = values == 2 ? d.source(first + 2, type) : d.out.operand[2];
  d.out.operand[4] = static_cast<std::uint32_t>(*what);
  d.out.width = static_cast<std::uint8_t>(bytes_of(type));
  d.out.kind = Class::atomic;
  d.out.run = space == Space::shared   ? atomic_of<Space::shared>(d, type)
              : space == Space::global ? atomic_of<Space::global>(d, type)
                                       : atomic_of<Space::generic>(d, type);
  return true;
}

}  // namespace

Opcodes atomic_opcodes() {
  return {{"atom", atomic_operation<true>}, {"red", atomic_operation<false>}};
}

}  // namespace ptx_on_cpu
