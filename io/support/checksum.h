#pragma once
// Checksums: CRC-32 against accidents in a record, SHA-256 as the name of a content.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace moleblend {

/// CRC-32 as in zlib, gzip and PNG. `start` is the checksum of what came before.
std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t start = 0);

/// SHA-256 (FIPS 180-4), fed piece by piece.
class Sha256 {
 public:
  using Digest = std::array<std::uint8_t, 32>;

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  /// Of all that was fed; the object is spent then.
  Digest digest();

 private:
  void blocks(const std::byte* bytes, std::size_t count);
  void block(const std::byte* bytes);

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_{};
  std::uint64_t length_ = 0;
};

/// Lower-case hexadecimal.
std::string hex(std::span<const std::uint8_t> bytes);
std::string sha256(std::string_view text);
/// Of a file's bytes as they lie on disk (a .gz is not unpacked).
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace moleblend
