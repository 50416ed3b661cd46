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

template <class Index, class Put>
bool read_bonds_of(const std::byte* at, std::size_t count, std::size_t atoms, Put&& put) {
  bool good = true;
  for (std::size_t e = 0; e < count; ++e) {
    const auto code = std::to_integer<std::uint8_t>(at[2 * sizeof(Index)]);
    const std::uint32_t begin = load<Index>(at), end = load<Index>(at + sizeof(Index));
    good &= begin < atoms && end < atoms && begin != end && code >= 1 && code <= kBondCodes;
    put(e, begin, end, code);
    at += 2 * sizeof(Index) + 1;
  }
  return good;
}

/// Calls put(number, begin, end, code) for each bond. False if one is nonsense.
template <class Put>
bool read_bonds(const std::byte* at, std::size_t count, std::size_t atoms, Put&& put) {
  switch (atom_index_bytes(atoms)) {
    case 1:
      return read_bonds_of<std::uint8_t>(at, count, atoms, put);
    case 2:
      return read_bonds_of<std::uint16_t>(at, count, atoms, put);
    default:
      return read_bonds_of<std::uint32_t>(at, count, atoms, put);
  }
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
  file_.release(0, bytes.size());  // looked at once, for the check
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

/// The parts of a record, whose lengths agree with each other and with the tables.
struct ShardReader::Record {
  RecordHeader header;
  const std::byte *codes, *bonds, *positions, *labels, *identifier, *smiles;
};

ShardReader::Record ShardReader::record(std::uint64_t i) const {
  const std::uint64_t n = atoms(i);  // checks i
  const auto damaged = [&](const char* what) { fail(fmt::format("record {} of the shard is damaged ({})", i, what)); };

  const std::span<const std::byte> bytes(records_ + offset(i), records_ + offset(i + 1));
  Record r;
  r.header = load<RecordHeader>(bytes.data());  // check_tables() made sure that it is there
  if (crc32(bytes.subspan(sizeof r.header.crc)) != r.header.crc) damaged("its checksum does not agree");
  if (r.header.atoms != n) damaged("its atom count is not the table's");
  if (r.header.conformer_source > static_cast<std::uint32_t>(ConformerSource::rdkit))
    damaged("unknown conformer source");

  Cursor cursor(bytes.subspan(sizeof r.header));
  r.codes = cursor.take(n, sizeof(AtomCodes));
  r.bonds = cursor.take(r.header.bonds, 2 * atom_index_bytes(n) + 1);
  r.positions = cursor.take(r.header.conformers * n, 3 * sizeof(float));  // two u32: no overflow
  r.labels = cursor.take(header_.label_count, sizeof(double));
  r.identifier = cursor.take(r.header.identifier_bytes, 1);
  r.smiles = cursor.take(r.header.smiles_bytes, 1);
  if (!r.codes || !r.bonds || !r.positions || !r.labels || !r.identifier || !r.smiles || !cursor.empty())
    damaged("its arrays do not fill it");
  return r;
}

void ShardReader::read(std::uint64_t i, Molecule& out) const {
  const Record r = record(i);
  const std::size_t n = r.header.atoms;
  out.atoms.resize(n);
  std::memcpy(out.atoms.data(), r.codes, n * sizeof(AtomCodes));
  out.bonds.resize(r.header.bonds);
  const bool good = read_bonds(r.bonds, r.header.bonds, n,
                               [&](std::size_t e, std::uint32_t begin, std::uint32_t end, std::uint8_t code) {
                                 out.bonds[e] = {.begin = begin,
                                                 .end = end,
                                                 .type = static_cast<std::uint8_t>(bond_type(code)),
                                                 .stereo = static_cast<std::uint8_t>(bond_stereo(code)),
                                                 .conjugated = static_cast<std::uint8_t>(bond_conjugated(code))};
                               });
  if (!good) fail_bonds(i);
  out.conformer_source = static_cast<ConformerSource>(r.header.conformer_source);
  out.conformers = r.header.conformers;
  out.positions.resize(r.header.conformers * n * 3);
  if (!out.positions.empty()) std::memcpy(out.positions.data(), r.positions, out.positions.size() * sizeof(float));
  out.labels.resize(header_.label_count);
  if (!out.labels.empty()) std::memcpy(out.labels.data(), r.labels, out.labels.size() * sizeof(double));
  out.identifier.assign(reinterpret_cast<const char*>(r.identifier), r.header.identifier_bytes);
  out.smiles.assign(reinterpret_cast<const char*>(r.smiles), r.header.smiles_bytes);
  out.source_file = r.header.source_file;
  out.source_record = r.header.source_record;
}

void ShardReader::view(std::uint64_t i, MoleculeView& out) const {
  const Record r = record(i);
  out.atoms = r.header.atoms;
  out.codes = r.codes;
  out.bonds.resize(r.header.bonds);
  const bool good = read_bonds(r.bonds, r.header.bonds, out.atoms,
                               [&](std::size_t e, std::uint32_t begin, std::uint32_t end, std::uint8_t code) {
                                 out.bonds[e] = {begin, end, code};
                               });
  if (!good) fail_bonds(i);
  out.conformers = r.header.conformers;
  out.positions = r.positions;
  out.label_count = header_.label_count;
  out.labels = r.labels;
}

void ShardReader::fail_bonds(std::uint64_t i) const {
  fail(fmt::format("record {} of the shard is damaged (a bond between atoms that are not there, or of an unknown kind)",
                   i));
}

template <class Advice>
void ShardReader::advise(std::uint64_t first, std::uint64_t end, Advice&& advice) const {
  end = std::min(end, header_.molecules);
  if (first >= end) return;
  const auto place = [&](const std::byte* at) { return static_cast<std::size_t>(at - file_.bytes().data()); };
  // The records' places first: they stand in the table.
  const std::size_t begin_records = place(records_ + offset(first)), end_records = place(records_ + offset(end));
  advice(place(offsets_ + 8 * first), place(offsets_ + 8 * (end + 1)));
  advice(place(atoms_ + 4 * first), place(atoms_ + 4 * end));
  advice(begin_records, end_records);
}

void ShardReader::expect(std::uint64_t first, std::uint64_t end) const {
  advise(first, end, [&](std::size_t from, std::size_t to) { file_.expect(from, to); });
}

void ShardReader::release(std::uint64_t first, std::uint64_t end) const {
  advise(first, end, [&](std::size_t from, std::size_t to) { file_.release(from, to); });
}

}  // namespace moleblend
