#include "io/dataset/shard_reader.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "io/support/checksum.h"
#include "io/support/error.h"
#include "kernels/common/packed.h"

namespace moleblend {
namespace {

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Takes arrays off the front of a record; says so when the record ends too early.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : rest_(bytes) {}

  /// `count` elements of `size` bytes, or null when there are not so many left.
  const std::byte* take(std::uint64_t count, std::uint64_t size) {
    if (count > rest_.size() / size) return nullptr;
    const std::byte* at = rest_.data();
    rest_ = rest_.subspan(count * size);
    return at;
  }
  bool empty() const { return rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
};

template <class Index>
bool read_bonds(const std::byte* at, std::size_t atoms, std::vector<Bond>& bonds) {
  bool good = true;
  for (Bond& bond : bonds) {
    const auto code = std::to_integer<std::uint8_t>(at[2 * sizeof(Index)]);
    bond.begin = load<Index>(at);
    bond.end = load<Index>(at + sizeof(Index));
    good &= bond.begin < atoms && bond.end < atoms && bond.begin != bond.end && code >= 1 && code <= kBondCodes;
    bond.type = static_cast<std::uint8_t>(bond_type(code));
    bond.stereo = static_cast<std::uint8_t>(bond_stereo(code));
    bond.conjugated = static_cast<std::uint8_t>(bond_conjugated(code));
    at += 2 * sizeof(Index) + 1;
  }
  return good;
}

}  // namespace

void ShardReader::fail(const std::string& what) const {
  throw Error("{}: {}; delete this shard and run the same `moleblend prepare` with --resume", path_, what);
}

ShardReader::ShardReader(const std::filesystem::path& path, bool verify) : path_(path.string()) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) fail("the shard is missing");
  file_ = MappedFile(path);
  const std::span<const std::byte> bytes = file_.bytes();
  if (bytes.size() < sizeof(ShardHeader))
    fail(fmt::format("the shard is truncated ({} bytes are no header)", bytes.size()));
  header_ = load<ShardHeader>(bytes.data());
  if (header_.magic != kShardMagic) throw Error("{} is not a shard of a data set; remove it from the folder", path_);
  if (header_.schema > kDatasetSchema)
    throw Error("{} has schema {}, and this program reads up to {}; update moleblend", path_, header_.schema,
                kDatasetSchema);
  if (crc32(bytes.first(offsetof(ShardHeader, crc))) != header_.crc) fail("the shard's header is damaged");
  if (bytes.size() != header_.file_bytes)
    fail(fmt::format("the shard is {} bytes long where its header says {}", bytes.size(), header_.file_bytes));

  const std::uint64_t frame = sizeof(ShardHeader) + kChecksumBytes;
  // In this order no product overflows: each molecule takes at least its RecordHeader.
  if (header_.molecules > bytes.size() / sizeof(RecordHeader) ||
      bytes.size() < frame + table_bytes(header_.molecules) ||
      bytes.size() - frame - table_bytes(header_.molecules) != header_.record_bytes)
    fail("the shard's sizes contradict each other");
  offsets_ = bytes.data() + sizeof(ShardHeader);
  atoms_ = offsets_ + 8 * (header_.molecules + 1);
  records_ = offsets_ + table_bytes(header_.molecules);
  check_tables();

  const std::span<const std::byte> content = bytes.first(bytes.size() - kChecksumBytes);
  const auto stored = load<Sha256::Digest>(content.data() + content.size());
  if (verify) {
    Sha256 hash;
    hash.update(content);
    if (hash.digest() != stored) fail("the shard's checksum does not agree with its content");
  }
  entry_ = {.name = path.filename().string(),
            .block = header_.block,
            .molecules = header_.molecules,
            .rejected = header_.rejected,
            .atoms = header_.atoms,
            .pairs = header_.pairs,
            .with_positions = header_.with_positions,
            .bytes = header_.file_bytes,
            .checksum = hex(stored)};
}

void ShardReader::check_tables() const {
  const std::uint64_t bytes = table_bytes(header_.molecules) - sizeof(std::uint32_t);
  if (crc32({offsets_, bytes}) != load<std::uint32_t>(offsets_ + bytes)) fail("the shard's offsets table is damaged");
  bool good = offset(0) == 0 && offset(header_.molecules) == header_.record_bytes;
  std::uint64_t atom_total = 0, pair_total = 0;
  for (std::uint64_t i = 0; good && i < header_.molecules; ++i) {
    const std::uint64_t begin = offset(i), end = offset(i + 1), n = atoms(i);
    good = begin <= end && end <= header_.record_bytes && end - begin >= sizeof(RecordHeader) && n > 0;
    atom_total += n;
    pair_total += n * n;
  }
  if (!good) fail("the shard's offsets table makes no sense");
  if (atom_total != header_.atoms || pair_total != header_.pairs) fail("the shard's atom counts contradict its header");
}

std::uint64_t ShardReader::offset(std::uint64_t i) const {
  return load<std::uint64_t>(offsets_ + 8 * i);
}

std::uint32_t ShardReader::atoms(std::uint64_t i) const {
  if (i >= header_.molecules)
    throw Error("{}: no molecule {} among {}; ask for a smaller index", path_, i, header_.molecules);
  return load<std::uint32_t>(atoms_ + 4 * i);
}

void ShardReader::read(std::uint64_t i, Molecule& out) const {
  const std::uint64_t n = atoms(i);  // checks i
  const auto damaged = [&](const char* what) { fail(fmt::format("record {} of the shard is damaged ({})", i, what)); };

  const std::span<const std::byte> record(records_ + offset(i), records_ + offset(i + 1));
  const auto header = load<RecordHeader>(record.data());  // check_tables() made sure that it is there
  if (crc32(record.subspan(sizeof header.crc)) != header.crc) damaged("its checksum does not agree");
  if (header.atoms != n) damaged("its atom count is not the table's");
  if (header.conformer_source > static_cast<std::uint32_t>(ConformerSource::rdkit)) damaged("unknown conformer source");

  const std::uint64_t index_bytes = atom_index_bytes(n);
  Cursor cursor(record.subspan(sizeof header));
  const std::byte* codes = cursor.take(n, sizeof(AtomCodes));
  const std::byte* bonds = cursor.take(header.bonds, 2 * index_bytes + 1);
  const std::byte* positions = cursor.take(header.conformers * n, 3 * sizeof(float));  // two u32: no overflow
  const std::byte* labels = cursor.take(header_.label_count, sizeof(double));
  const std::byte* identifier = cursor.take(header.identifier_bytes, 1);
  const std::byte* smiles = cursor.take(header.smiles_bytes, 1);
  if (!codes || !bonds || !positions || !labels || !identifier || !smiles || !cursor.empty())
    damaged("its arrays do not fill it");

  out.atoms.resize(n);
  std::memcpy(out.atoms.data(), codes, n * sizeof(AtomCodes));
  out.bonds.resize(header.bonds);
  const bool good = index_bytes == 1   ? read_bonds<std::uint8_t>(bonds, n, out.bonds)
                    : index_bytes == 2 ? read_bonds<std::uint16_t>(bonds, n, out.bonds)
                                       : read_bonds<std::uint32_t>(bonds, n, out.bonds);
  if (!good) damaged("a bond between atoms that are not there, or of an unknown kind");
  out.conformer_source = static_cast<ConformerSource>(header.conformer_source);
  out.conformers = header.conformers;
  out.positions.resize(header.conformers * n * 3);
  if (!out.positions.empty()) std::memcpy(out.positions.data(), positions, out.positions.size() * sizeof(float));
  out.labels.resize(header_.label_count);
  if (!out.labels.empty()) std::memcpy(out.labels.data(), labels, out.labels.size() * sizeof(double));
  out.identifier.assign(reinterpret_cast<const char*>(identifier), header.identifier_bytes);
  out.smiles.assign(reinterpret_cast<const char*>(smiles), header.smiles_bytes);
  out.source_file = header.source_file;
  out.source_record = header.source_record;
}

}  // namespace moleblend
