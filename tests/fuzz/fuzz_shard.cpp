// Shards of a data set.

#include <cstring>

#include "io/dataset/shard_format.h"
#include "io/dataset/shard_reader.h"
#include "io/dataset/shard_writer.h"
#include "io/support/checksum.h"
#include "kernels/common/packed.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/io/molecules.h"

namespace moleblend::fuzz {
namespace {

template <class T>
T load(const std::string& bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

template <class T>
void store(std::string& bytes, std::size_t at, const T& value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

std::uint32_t crc_of(const std::string& bytes, std::size_t begin, std::size_t end) {
  return crc32(std::as_bytes(std::span(bytes)).subspan(begin, end - begin));
}

enum class Sizes { as_they_are, right };

/// Makes checksums, and sizes if wanted, agree with the bytes as far as the tables lie within them, so that what is behind the checksums
/// is reached.
void make_checksums_right(std::string& shard, Sizes sizes) {
  if (shard.size() < sizeof(ShardHeader) + kChecksumBytes) return;
  const auto molecules = load<std::uint64_t>(shard, offsetof(ShardHeader, molecules));
  const std::size_t end = shard.size() - kChecksumBytes, tables = sizeof(ShardHeader);
  if (molecules < shard.size() / sizeof(RecordHeader) && tables + table_bytes(molecules) <= end) {
    const std::size_t records = tables + table_bytes(molecules);
    for (std::uint64_t i = 0; i < molecules; ++i) {
      const auto from = load<std::uint64_t>(shard, tables + 8 * i),
                 to = load<std::uint64_t>(shard, tables + 8 * (i + 1));
      if (from < to && to <= end - records && to - from >= sizeof(RecordHeader))
        store(shard, records + from, crc_of(shard, records + from + sizeof(std::uint32_t), records + to));
    }
    store(shard, records - sizeof(std::uint32_t), crc_of(shard, tables, records - sizeof(std::uint32_t)));
    if (sizes == Sizes::right)
      store(shard, offsetof(ShardHeader, record_bytes), static_cast<std::uint64_t>(end - records));
  }
  if (sizes == Sizes::right) store(shard, offsetof(ShardHeader, file_bytes), static_cast<std::uint64_t>(shard.size()));
  store(shard, offsetof(ShardHeader, crc), crc_of(shard, 0, offsetof(ShardHeader, crc)));
  Sha256 hash;
  hash.update(std::string_view(shard).substr(0, end));
  store(shard, end, hash.digest());
}

/// Bit for bit: positions may be NaN here.
bool same_bits(Molecule a, Molecule b) {
  const auto bytes = [](const Molecule& m) {
    return std::string_view(reinterpret_cast<const char*>(m.positions.data()), m.positions.size() * sizeof(float));
  };
  if (bytes(a) != bytes(b)) return false;
  a.positions.clear();
  b.positions.clear();
  return testing::same(std::move(a), std::move(b));
}

void check_view(const ShardReader& shard, std::uint64_t i, const Molecule& molecule) {
  MoleculeView view;
  shard.view(i, view);
  must(view.atoms == molecule.size() && view.bonds.size() == molecule.bonds.size() &&
           view.conformers == molecule.conformers && view.label_count == molecule.labels.size(),
       "a record is two different molecules");
  for (std::size_t e = 0; e < view.bonds.size(); ++e) {
    const Bond& b = molecule.bonds[e];
    must(view.bonds[e].begin == b.begin && view.bonds[e].end == b.end && b.begin < molecule.size() &&
             b.end < molecule.size(),
         "a bond leads out of its molecule");
    must(view.bonds[e].code == bond_code(b.type, b.stereo, b.conjugated), "a bond has two different kinds");
  }
  must(std::memcmp(view.codes, molecule.atoms.data(), molecule.size() * sizeof(AtomCodes)) == 0, "atom codes differ");
  // Reads to the last byte, for the sanitizers.
  const auto bytes = [](const std::byte* at, std::size_t size) { return crc32({at, size}); };
  must(bytes(view.positions, view.conformers * view.atoms * 3 * sizeof(float)) ==
               crc32(std::as_bytes(std::span(molecule.positions))) &&
           bytes(view.labels, view.label_count * sizeof(double)) == crc32(std::as_bytes(std::span(molecule.labels))),
       "positions or labels differ");
}

void check(std::string_view bytes, bool verify) {
  const MemoryFile file(bytes);
  reads([&] {
    const ShardReader shard(file.path(), verify);
    ShardWriter writer(scratch_folder(), shard.entry().block, shard.label_count());
    std::vector<Molecule> molecules;
    for (std::uint64_t i = 0; i < shard.molecules(); ++i) {
      Molecule molecule;
      shard.read(i, molecule);
      must(molecule.size() == shard.atoms(i), "the table and the record disagree on the atoms");
      check_view(shard, i, molecule);
      writer.add(molecule);  // an Error for a molecule without a name, which nobody writes
      molecules.push_back(std::move(molecule));
    }
    const std::filesystem::path path = scratch_folder() / writer.finish(shard.entry().rejected).name;
    {
      const ShardReader again(path, true);
      must(again.molecules() == molecules.size() && again.entry().rejected == shard.entry().rejected,
           "counts change when written again");
      Molecule molecule;
      for (std::size_t i = 0; i < molecules.size(); ++i) {
        again.read(i, molecule);
        must(same_bits(molecule, molecules[i]), "a molecule changes when written again");
      }
    }
    std::filesystem::remove(path);
  });
}

}  // namespace
}  // namespace moleblend::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend::fuzz;
  std::string bytes(text_of(data, size));
  check(bytes, true);
  make_checksums_right(bytes, Sizes::as_they_are);
  check(bytes, false);
  make_checksums_right(bytes, Sizes::right);
  check(bytes, false);
  return 0;
}
