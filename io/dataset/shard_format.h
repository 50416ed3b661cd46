#pragma once
// How a shard lies on disk (docs/file_formats.md has the same in words). All numbers are little-endian.
//
//   header   ShardHeader
//   tables   offsets u64 [molecules + 1] from the start of the records, atom counts u32 [molecules], CRC-32 u32 of both
//   records  one after another, each a RecordHeader and its arrays:
//            atom codes u8 [n, 9] · bonds [e] · positions f32 [conformers, n, 3] · labels f64 [label_count] ·
//            identifier · SMILES a bond is begin, end (u8, u16 or u32 each, the narrowest that holds n − 1) and
//            bond_code u8
//   trailer  SHA-256 of all before it: the shard's checksum

#include <array>
#include <bit>
#include <cstdint>

namespace moleblend {

static_assert(std::endian::native == std::endian::little,
              "shards are read in place; this code is for little-endian machines");

inline constexpr std::array<char, 8> kShardMagic = {'m', 'o', 'l', 'b', 's', 'h', 'r', 'd'};
/// Of dataset.json and of shards; raised when a program of before could not read what is written now.
inline constexpr std::uint32_t kDatasetSchema = 1;

struct ShardHeader {
  std::array<char, 8> magic = kShardMagic;
  std::uint32_t schema = kDatasetSchema;
  std::uint32_t label_count = 0;
  std::uint64_t block = 0;
  std::uint64_t molecules = 0, rejected = 0;
  std::uint64_t atoms = 0, pairs = 0;
  std::uint64_t with_positions = 0;
  std::uint64_t record_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::uint32_t reserved = 0;
  std::uint32_t crc = 0;  // CRC-32 of the header before this field
};
static_assert(sizeof(ShardHeader) == 88 && std::is_trivially_copyable_v<ShardHeader>);

struct RecordHeader {
  std::uint32_t crc = 0;  // CRC-32 of the record after this field
  std::uint32_t atoms = 0, bonds = 0, conformers = 0;
  std::uint32_t identifier_bytes = 0, smiles_bytes = 0;
  std::uint32_t source_file = 0;
  std::uint32_t conformer_source = 0;
  std::uint64_t source_record = 0;
};
static_assert(sizeof(RecordHeader) == 40 && std::is_trivially_copyable_v<RecordHeader>);

inline constexpr std::uint64_t kChecksumBytes = 32;

/// Bytes of an atom index in the bonds of a molecule with n atoms.
constexpr std::uint64_t atom_index_bytes(std::uint64_t n) {
  return n <= 0x100 ? 1 : n <= 0x10000 ? 2 : 4;
}
/// Bytes of the two tables and their checksum.
constexpr std::uint64_t table_bytes(std::uint64_t molecules) {
  return 8 * (molecules + 1) + 4 * molecules + 4;
}

}  // namespace moleblend
