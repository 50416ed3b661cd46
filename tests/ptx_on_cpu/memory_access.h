#pragma once
// What every access to memory goes through: checked addresses, counted sectors and wavefronts.

#include "decoder.h"

namespace ptx_on_cpu {

/// Where an instruction's lanes read or write.
using Places = std::array<std::byte*, kLanes>;
using Addresses = std::array<std::uint64_t, kLanes>;

enum class Space : std::uint8_t { generic, global, shared, local, parameter };

/// operand + offset, of every lane. `operand_bytes`: of the register that holds the address.
void addresses_of(const Warp& w, std::uint32_t operand, std::uint32_t operand_bytes, std::int64_t offset,
                  Addresses& to);

// Each fails the launch unless all lanes of the warp's mask may touch `bytes` bytes at their addresses, aligned to as many.
void check_global(Warp& w, const Instruction& in, const Addresses& a, std::uint32_t bytes);
void check_shared(Warp& w, const Addresses& a, std::uint32_t bytes);

// Those of the lanes of `mask`, of `bytes` bytes a lane.
/// 32-byte sectors that are touched.
std::uint32_t sectors(const Addresses& a, Mask mask, std::uint32_t bytes, Pattern& last);
/// Passes over shared memory's 32 banks of 4 bytes: lanes that want the same word share it, two words of one bank take two passes. 8 bytes
/// a lane are served by half warps, 16 by quarters.
std::uint32_t wavefronts(const Addresses& a, Mask mask, std::uint32_t bytes, Pattern& last);

/// Adds to the present instruction's counts.
void count_global(Warp& w, const Instruction& in, const Addresses& a, std::uint32_t bytes);
void count_shared(Warp& w, const Instruction& in, const Addresses& a, std::uint32_t bytes);

}  // namespace ptx_on_cpu
