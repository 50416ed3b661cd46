#pragma once
// A prepared data set: a folder with dataset.json, shards and rejected.csv. Read through memory maps.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/dataset/molecule.h"
#include "io/dataset/molecule_view.h"

namespace moleblend {

/// One input file of a data set.
struct SourceFile {
  std::string path, sha256;
  std::uint64_t bytes = 0, records = 0;
};

/// One shard of a data set, as dataset.json lists it.
struct ShardEntry {
  std::string name;         // file name in the folder
  std::uint64_t block = 0;  // which range of input records it holds
  std::uint64_t molecules = 0, rejected = 0;
  std::uint64_t atoms = 0, pairs = 0;  // Σ n, Σ n²
  std::uint64_t with_positions = 0;
  std::uint64_t bytes = 0;
  std::string checksum;  // SHA-256 of all before it
  bool operator==(const ShardEntry&) const = default;
};

/// What dataset.json says.
struct DatasetInfo {
  int schema = 1;
  std::uint64_t molecules = 0, rejected = 0;
  std::uint64_t atoms = 0, pairs = 0;  // Σ n, Σ n²
  std::uint64_t with_positions = 0;    // molecules that have at least one conformer
  std::vector<std::string> labels;     // names of the label columns
  std::vector<SourceFile> sources;
  std::string options;  // JSON text: the options that prepare ran with
  std::string program_version;
  std::string fingerprint;         // hash of all shard checksums and of the schema: names the data set's content
  std::vector<ShardEntry> shards;  // by block, ascending; molecule indices run through them
};

/// Thread-safe for reading. Errors name the shard, what is wrong with it and the remedy.
class Dataset {
 public:
  /// Opens and checks headers, sizes and offsets tables; `verify` also checks the checksum of every shard.
  static Dataset open(const std::filesystem::path& folder, bool verify = false);
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;
  ~Dataset();

  const DatasetInfo& info() const;
  std::uint64_t size() const;
  /// Reads molecule `index` into `out`, reusing its memory. Throws Error if the record is damaged.
  void read(std::uint64_t index, Molecule& out) const;
  /// The same without text and copies, for the loader. `out` is valid as long as this object.
  void view(std::uint64_t index, MoleculeView& out) const;
  /// Number of atoms of molecule `index`, from the offsets table only (for cost-balanced batches).
  std::uint32_t atoms(std::uint64_t index) const;

  /// Bytes of all shards.
  std::uint64_t bytes() const;
  /// Molecules [first, end) will be read soon: the system may fetch them ahead.
  void expect(std::uint64_t first, std::uint64_t end) const;
  /// Molecules [first, end) need not stay in this process's memory. They can still be read.
  void release(std::uint64_t first, std::uint64_t end) const;

 private:
  struct State;
  explicit Dataset(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace moleblend
