#pragma once
// The checksums with the instructions that x86 has for them: the same results, several times as fast.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace moleblend::x86 {

/// Whether this machine has them; false on others than x86.
bool has_crc32();
bool has_sha256();

/// As zlib's: `start` is the checksum of what came before. At least 64 bytes.
std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t start);
/// Takes in `blocks` blocks of 64 bytes.
void sha256_blocks(std::array<std::uint32_t, 8>& state, const std::byte* bytes, std::size_t blocks);

}  // namespace moleblend::x86
