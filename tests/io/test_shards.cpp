// Shards and data sets: what is written is read, and no damage passes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "io/dataset/dataset.h"
#include "io/dataset/dataset_writer.h"
#include "io/dataset/shard_format.h"
#include "io/dataset/shard_reader.h"
#include "io/support/files.h"
#include "kernels/common/packed.h"
#include "tests/engine/temporary_folder.h"
#include "tests/io/molecules.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::made_molecule;
using testing::make_dataset;
using testing::same;
using testing::TemporaryFolder;
using testing::write_quickly;

TEST(Shard, RoundTrip) {
  const TemporaryFolder folder;
  ShardWriter writer(folder.path(), 12, 3);
  std::vector<Molecule> molecules;
  // 256 and 257, 65,536 and 65,537: atom indices of one, two and four bytes.
  for (const std::size_t n : {1, 2, 14, 256, 257, 65536, 65537})
    molecules.push_back(made_molecule(n, n, static_cast<std::uint32_t>(n % 3), 3));
  molecules.back().identifier = std::string("a \0 \xFF,\"\n", 8);
  molecules.back().smiles.clear();
  for (const Molecule& m : molecules) writer.add(m);
  const ShardEntry entry = writer.finish(5);
  EXPECT_EQ(entry.name, "shard-00000012.mbs");
  EXPECT_EQ(entry.rejected, 5u);
  EXPECT_EQ(entry.bytes, fs::file_size(folder.path() / entry.name));

  const ShardReader reader(folder.path() / entry.name, true);
  EXPECT_EQ(reader.entry(), entry);
  ASSERT_EQ(reader.molecules(), molecules.size());
  Molecule read;
  for (std::size_t i = molecules.size(); i-- > 0;) {
    EXPECT_EQ(reader.atoms(i), molecules[i].size());
    reader.read(i, read);
    EXPECT_TRUE(same(read, molecules[i])) << i;
  }
  // What is given back is still there.
  reader.expect(0, molecules.size());
  reader.release(0, molecules.size() + 9);
  MoleculeView view;
  for (std::size_t i = 0; i < molecules.size(); ++i) {
    const Molecule& m = molecules[i];
    reader.view(i, view);
    ASSERT_EQ(view.atoms, m.size());
    EXPECT_EQ(std::memcmp(view.codes, m.atoms.data(), m.size() * sizeof(AtomCodes)), 0) << i;
    ASSERT_EQ(view.bonds.size(), m.bonds.size());
    for (std::size_t e = 0; e < m.bonds.size(); ++e) {
      const Bond& b = m.bonds[e];
      EXPECT_EQ(view.bonds[e].begin, b.begin);
      EXPECT_EQ(view.bonds[e].end, b.end);
      EXPECT_EQ(view.bonds[e].code, bond_code(b.type, b.stereo, b.conjugated));
    }
    ASSERT_EQ(view.conformers, m.conformers);
    if (view.conformers > 0) {
      EXPECT_EQ(std::memcmp(view.positions, m.positions.data(), m.positions.size() * sizeof(float)), 0) << i;
    }
    EXPECT_EQ(view.label_count, 3u);
  }
  EXPECT_THAT(error_of([&] { reader.view(molecules.size(), view); }), HasSubstr("no molecule 7"));
  EXPECT_THAT(error_of([&] { reader.read(molecules.size(), read); }), HasSubstr("no molecule 7"));
}

TEST(Shard, AnEmptyBlockIsAShard) {
  const TemporaryFolder folder;
  const ShardEntry entry = ShardWriter(folder.path(), 3, 2).finish(100);
  const ShardReader reader(folder.path() / entry.name, true);
  EXPECT_EQ(reader.molecules(), 0u);
  EXPECT_EQ(reader.entry().rejected, 100u);
}

TEST(Shard, RefusesWhatItCanNotHold) {
  const TemporaryFolder folder;
  ShardWriter writer(folder.path(), 0, 1);
  const Molecule good = made_molecule(1, 5, 1, 1);
  const auto refused = [&](const char* why, auto&& spoil) {
    Molecule bad = good;
    spoil(bad);
    EXPECT_THAT(error_of([&] { writer.add(bad); }), HasSubstr(why));
  };
  refused("no atoms", [](Molecule& m) { m.atoms.clear(); });
  refused("bond 0-5", [](Molecule& m) { m.bonds[0] = {0, 5, 0, 0, 0}; });
  refused("bond 2-2", [](Molecule& m) { m.bonds[0] = {2, 2, 0, 0, 0}; });
  refused("bond categories", [](Molecule& m) { m.bonds[0].type = 5; });
  refused("bond categories", [](Molecule& m) { m.bonds[0].stereo = 6; });
  refused("bond categories", [](Molecule& m) { m.bonds[0].conjugated = 2; });
  refused("coordinates", [](Molecule& m) { m.positions.pop_back(); });
  refused("labels", [](Molecule& m) { m.labels.push_back(0); });
  refused("identifier", [](Molecule& m) { m.identifier.clear(); });
  writer.add(good);
  EXPECT_EQ(writer.finish().molecules, 1u);
}

/// Opens a shard and reads all of it; true if every molecule is as it was written.
bool reads_whole(const fs::path& path, const std::vector<Molecule>& expected, bool verify) {
  const ShardReader reader(path, verify);
  if (reader.molecules() != expected.size()) return false;
  Molecule read;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    reader.read(i, read);
    if (!same(read, expected[i])) return false;
  }
  return true;
}

class DamagedShard : public ::testing::Test {
 protected:
  void SetUp() override {
    ShardWriter writer(folder.path(), 0, 2);
    for (std::uint64_t k = 0; k < 4; ++k) {
      molecules.push_back(made_molecule(k, 1 + k * 3, static_cast<std::uint32_t>(k % 3), 2));
      writer.add(molecules.back());
    }
    path = folder.path() / writer.finish().name;
    content = read_file(path);
    bad = folder.path() / "bad.mbs";
  }

  TemporaryFolder folder;
  std::vector<Molecule> molecules;
  fs::path path, bad;
  std::string content;
};

TEST_F(DamagedShard, EveryByteIsGuarded) {
  for (std::size_t at = 0; at < content.size(); ++at) {
    for (const char flip : {'\x01', '\x80', '\xFF'}) {
      std::string damaged = content;
      damaged[at] ^= flip;
      write_quickly(bad, damaged);
      EXPECT_NE(error_of([&] { ShardReader(bad, true); }), "") << "byte " << at << ": verification passes";
      // Without verification the trailer alone is not looked at here; dataset.json guards it.
      bool harmless = false;
      const std::string error = error_of([&] { harmless = reads_whole(bad, molecules, false); });
      if (at < content.size() - kChecksumBytes)
        EXPECT_NE(error, "") << "byte " << at;
      else
        EXPECT_TRUE(harmless) << "byte " << at;
      EXPECT_EQ(error.find('\n'), std::string::npos);
    }
    if (HasFailure()) return;
  }
}

TEST_F(DamagedShard, EveryLengthIsGuarded) {
  for (std::size_t length = 0; length < content.size(); ++length) {
    write_quickly(bad, std::string_view(content).substr(0, length));
    EXPECT_THAT(error_of([&] { ShardReader reader(bad); }), AllOf(HasSubstr("bad.mbs"), HasSubstr("--resume")))
        << length;
  }
  write_quickly(bad, content + "x");
  EXPECT_THAT(error_of([&] { ShardReader reader(bad); }), HasSubstr("bytes long where"));
}

TEST(DatasetFolder, RoundTrip) {
  const TemporaryFolder folder;
  const std::vector<Molecule> molecules = make_dataset(folder.path(), 3, 17);
  const Dataset data = Dataset::open(folder.path(), true);
  ASSERT_EQ(data.size(), molecules.size());
  EXPECT_EQ(data.info().rejected, 3u);  // 0 + 1 + 2
  EXPECT_EQ(data.info().labels, std::vector<std::string>{"gap"});
  EXPECT_EQ(data.info().sources[1].path, "b.csv");
  EXPECT_EQ(data.info().options, R"({"keep_hydrogens":false})");
  std::uint64_t atoms = 0, pairs = 0, with_positions = 0;
  Molecule read;
  for (std::size_t i = 0; i < molecules.size(); ++i) {
    data.read(i, read);
    EXPECT_TRUE(same(read, molecules[i])) << i;
    EXPECT_EQ(data.atoms(i), molecules[i].size());
    atoms += molecules[i].size();
    pairs += molecules[i].size() * molecules[i].size();
    with_positions += molecules[i].conformers > 0;
  }
  EXPECT_EQ(data.info().atoms, atoms);
  EXPECT_EQ(data.info().pairs, pairs);
  EXPECT_EQ(data.info().with_positions, with_positions);
}

TEST(DatasetFolder, FingerprintNamesTheContent) {
  const TemporaryFolder a, b, c;
  make_dataset(a.path(), 2, 9);
  make_dataset(b.path(), 2, 9);
  make_dataset(c.path(), 2, 10);
  const auto fingerprint = [](const TemporaryFolder& f) { return Dataset::open(f.path()).info().fingerprint; };
  EXPECT_EQ(fingerprint(a), fingerprint(b));
  EXPECT_NE(fingerprint(a), fingerprint(c));
  write_dataset_json(a.path(), {.labels = {"mu"}, .sources = {}, .options = "{}", .program_version = "test"});
  EXPECT_NE(fingerprint(a), fingerprint(b));
  EXPECT_EQ(read_file(b.path() / shard_file_name(1)).size(), Dataset::open(b.path()).info().shards[1].bytes);
}

TEST(DatasetFolder, PartsUnite) {
  const TemporaryFolder whole, part;
  make_dataset(whole.path(), 2, 9);
  make_dataset(part.path(), 2, 9);
  const TemporaryFolder united;
  fs::copy(whole.path() / shard_file_name(0), united.path());
  fs::copy(part.path() / shard_file_name(1), united.path());
  EXPECT_EQ(finished_shards(united.path()).size(), 2u);
  const DatasetInfo info =
      write_dataset_json(united.path(), {.labels = {"gap"}, .sources = {}, .options = "{}", .program_version = "x"});
  EXPECT_EQ(info.fingerprint, Dataset::open(whole.path()).info().fingerprint);
  fs::copy(whole.path() / shard_file_name(0), united.path() / "shard-00000009.mbs");
  EXPECT_THAT(error_of([&] {
                write_dataset_json(united.path(),
                                   {.labels = {"gap"}, .sources = {}, .options = "{}", .program_version = "x"});
              }),
              HasSubstr("same block 0"));
}

TEST(DatasetFolder, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const auto open_error = [&] { return error_of([&] { Dataset::open(folder.path()); }); };
  EXPECT_THAT(error_of([&] { Dataset::open(folder.path() / "absent"); }), HasSubstr("moleblend prepare"));
  EXPECT_THAT(open_error(), HasSubstr("is no data set"));

  make_dataset(folder.path(), 2, 5);
  const fs::path json = folder.path() / "dataset.json", shard = folder.path() / shard_file_name(1);
  const std::string good_json = read_file(json), good_shard = read_file(shard);
  fs::remove(json);
  EXPECT_THAT(open_error(), HasSubstr("did not finish"));
  write_file(json, good_json.substr(0, good_json.size() / 2));
  EXPECT_THAT(open_error(), HasSubstr("dataset.json is damaged"));
  write_file(json, "[]");
  EXPECT_THAT(open_error(), HasSubstr("not the description of a data set"));
  write_file(json, std::string(100'000, '['));
  EXPECT_THAT(open_error(), HasSubstr("nested too deeply"));
  std::string newer = good_json;
  newer.replace(newer.find("\"schema\": 1"), 11, "\"schema\": 9");
  write_file(json, newer);
  EXPECT_THAT(open_error(), HasSubstr("update moleblend"));
  std::string other = good_json;
  const std::size_t digit = other.find("\"sha256\": \"", other.find("\"shards\"")) + 11;
  other[digit] = other[digit] == '0' ? '1' : '0';
  write_file(json, other);
  EXPECT_THAT(open_error(), HasSubstr("fingerprint"));
  write_file(json, good_json);

  fs::remove(shard);
  EXPECT_THAT(open_error(), AllOf(HasSubstr("shard-00000001.mbs"), HasSubstr("missing"), HasSubstr("--resume")));
  write_file(shard, good_shard.substr(0, good_shard.size() - 1));
  EXPECT_THAT(open_error(), HasSubstr("bytes long where"));
  fs::copy_file(folder.path() / shard_file_name(0), shard, fs::copy_options::overwrite_existing);
  EXPECT_THAT(open_error(), HasSubstr("not the shard that dataset.json describes"));
  std::string bad = good_shard;
  bad[bad.size() - 40] ^= 1;
  write_file(shard, bad);
  EXPECT_THAT(error_of([&] { Dataset::open(folder.path(), true); }), HasSubstr("checksum"));
  EXPECT_EQ(finished_shards(folder.path()).size(), 1u);
  const Dataset data = Dataset::open(folder.path());
  Molecule read;
  EXPECT_THAT(error_of([&] {
                for (std::uint64_t i = 0; i < data.size(); ++i) data.read(i, read);
              }),
              HasSubstr("record 4 of the shard is damaged"));
  write_file(shard, good_shard);
  EXPECT_EQ(open_error(), "");
}

}  // namespace
}  // namespace moleblend
