#pragma once
// What an instruction of Flow::barrier holds.

#include <cstddef>
#include <cstdint>

namespace ptx_on_cpu {

/// Instruction::detail
enum BarrierHow : std::uint8_t { kSync, kArrive, kReduceOr, kReduceAnd, kReduceCount };
/// Places in Instruction::operand; the count may be kNoOperand: all threads that live.
constexpr std::size_t kBarrierId = 0, kBarrierCount = 1, kBarrierFrom = 2, kBarrierTo = 3;

}  // namespace ptx_on_cpu
