#include "io/dataset/shard_writer.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "io/dataset/shard_format.h"
#include "io/support/checksum.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "kernels/common/packed.h"

namespace moleblend {
namespace {

template <class T>
void append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class Index>
void append_bonds(std::string& out, const std::vector<Bond>& bonds) {
  for (const Bond& bond : bonds) {
    append(out, static_cast<Index>(bond.begin));
    append(out, static_cast<Index>(bond.end));
    append(out, bond_code(bond.type, bond.stereo, bond.conjugated));
  }
}

void check(const Molecule& molecule, std::uint32_t label_count) {
  const auto refuse = [&](const std::string& what) {
    throw Error("molecule {} can't be stored: {}; reject it", molecule.identifier, what);
  };
  constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max();
  const std::size_t n = molecule.size();
  if (n == 0) refuse("it has no atoms");
  if (n > kMost || molecule.bonds.size() > kMost || molecule.identifier.size() > kMost ||
      molecule.smiles.size() > kMost)
    refuse("it is too large");
  if (molecule.identifier.empty()) refuse("it has no identifier");
  for (const Bond& b : molecule.bonds) {
    if (b.begin >= n || b.end >= n || b.begin == b.end)
      refuse(fmt::format("bond {}-{} among {} atoms", b.begin, b.end, n));
    if (b.type >= kBondTypes || b.stereo >= kBondStereos || b.conjugated > 1)
      refuse(fmt::format("bond categories {}, {}, {}", b.type, b.stereo, b.conjugated));
  }
  if (molecule.positions.size() != molecule.conformers * n * 3)
    refuse(
        fmt::format("{} coordinates for {} conformers of {} atoms", molecule.positions.size(), molecule.conformers, n));
  if (molecule.labels.size() != label_count)
    refuse(fmt::format("{} labels where the shard has {}", molecule.labels.size(), label_count));
}

}  // namespace

std::string shard_file_name(std::uint64_t block) {
  return fmt::format("shard-{:08}.mbs", block);
}

ShardWriter::ShardWriter(std::filesystem::path folder, std::uint64_t block, std::uint32_t label_count)
    : folder_(std::move(folder)), block_(block), label_count_(label_count) {}

void ShardWriter::add(const Molecule& molecule) {
  check(molecule, label_count_);
  const std::size_t start = records_.size(), n = molecule.size();
  RecordHeader header{.atoms = static_cast<std::uint32_t>(n),
                      .bonds = static_cast<std::uint32_t>(molecule.bonds.size()),
                      .conformers = molecule.conformers,
                      .identifier_bytes = static_cast<std::uint32_t>(molecule.identifier.size()),
                      .smiles_bytes = static_cast<std::uint32_t>(molecule.smiles.size()),
                      .source_file = molecule.source_file,
                      .conformer_source = static_cast<std::uint32_t>(molecule.conformer_source),
                      .source_record = molecule.source_record};
  append(records_, header);
  records_.append(reinterpret_cast<const char*>(molecule.atoms.data()), n * sizeof(AtomCodes));
  switch (atom_index_bytes(n)) {
    case 1:
      append_bonds<std::uint8_t>(records_, molecule.bonds);
      break;
    case 2:
      append_bonds<std::uint16_t>(records_, molecule.bonds);
      break;
    default:
      append_bonds<std::uint32_t>(records_, molecule.bonds);
  }
  records_.append(reinterpret_cast<const char*>(molecule.positions.data()), molecule.positions.size() * sizeof(float));
  // One bit pattern for a missing label, so that the same content has the same fingerprint.
  for (const double label : molecule.labels)
    append(records_, std::isnan(label) ? std::numeric_limits<double>::quiet_NaN() : label);
  records_ += molecule.identifier;
  records_ += molecule.smiles;

  const auto record = std::as_bytes(std::span(records_)).subspan(start);
  header.crc = crc32(record.subspan(sizeof header.crc));
  std::memcpy(records_.data() + start, &header.crc, sizeof header.crc);
  offsets_.push_back(records_.size());
  atoms_.push_back(header.atoms);
  atom_total_ += n;
  pair_total_ += std::uint64_t{n} * n;
  with_positions_ += molecule.conformers > 0;
}

ShardEntry ShardWriter::finish(std::uint64_t rejected) {
  const std::uint64_t molecules = atoms_.size();
  const std::uint64_t bytes = sizeof(ShardHeader) + table_bytes(molecules) + records_.size() + kChecksumBytes;
  ShardHeader header{.label_count = label_count_,
                     .block = block_,
                     .molecules = molecules,
                     .rejected = rejected,
                     .atoms = atom_total_,
                     .pairs = pair_total_,
                     .with_positions = with_positions_,
                     .record_bytes = records_.size(),
                     .file_bytes = bytes};
  header.crc = crc32(std::as_bytes(std::span(&header, 1)).first(offsetof(ShardHeader, crc)));
  const std::uint32_t table_crc = crc32(std::as_bytes(std::span(atoms_)), crc32(std::as_bytes(std::span(offsets_))));

  AtomicFile file(folder_ / shard_file_name(block_));
  Sha256 hash;
  const auto put = [&](std::span<const std::byte> part) {
    hash.update(part);
    file.write(part);
  };
  put(std::as_bytes(std::span(&header, 1)));
  put(std::as_bytes(std::span(offsets_)));
  put(std::as_bytes(std::span(atoms_)));
  put(std::as_bytes(std::span(&table_crc, 1)));
  put(std::as_bytes(std::span(records_)));
  const Sha256::Digest digest = hash.digest();
  file.write(std::as_bytes(std::span(digest)));
  file.commit();
  return {.name = shard_file_name(block_),
          .block = block_,
          .molecules = molecules,
          .rejected = rejected,
          .atoms = atom_total_,
          .pairs = pair_total_,
          .with_positions = with_positions_,
          .bytes = bytes,
          .checksum = hex(digest)};
}

}  // namespace moleblend
