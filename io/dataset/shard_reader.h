#pragma once
// Reads one shard through a memory map. Believes nothing: every length and index is checked against the file before
// use.

#include <cstdint>
#include <filesystem>
#include <string>

#include "io/dataset/dataset.h"
#include "io/dataset/molecule_view.h"
#include "io/dataset/shard_format.h"
#include "io/support/files.h"

namespace moleblend {

/// Thread-safe for reading. Errors are one line: the file, what is wrong with it, the remedy.
class ShardReader {
 public:
  /// Checks header, sizes and tables; `verify` also the checksum of the whole file.
  explicit ShardReader(const std::filesystem::path& path, bool verify = false);

  const ShardEntry& entry() const { return entry_; }
  std::uint32_t label_count() const { return header_.label_count; }
  std::uint64_t molecules() const { return header_.molecules; }
  /// Atoms of molecule `i`, from the table.
  std::uint32_t atoms(std::uint64_t i) const;
  /// Reads molecule `i` into `out`, reusing its memory. Throws Error if the record is damaged.
  void read(std::uint64_t i, Molecule& out) const;
  /// The same without text and copies; `out` is valid as long as this object.
  void view(std::uint64_t i, MoleculeView& out) const;

  /// Molecules [first, end) will be read soon, or not for long (MappedFile).
  void expect(std::uint64_t first, std::uint64_t end) const;
  void release(std::uint64_t first, std::uint64_t end) const;

 private:
  struct Record;
  Record record(std::uint64_t i) const;
  template <class Advice>
  void advise(std::uint64_t first, std::uint64_t end, Advice&& advice) const;
  std::uint64_t offset(std::uint64_t i) const;
  void check_tables() const;
  [[noreturn]] void fail_bonds(std::uint64_t i) const;
  [[noreturn]] void fail(const std::string& what) const;

  std::string path_;
  MappedFile file_;
  ShardHeader header_;
  ShardEntry entry_;
  const std::byte *offsets_ = nullptr, *atoms_ = nullptr, *records_ = nullptr;
};

}  // namespace moleblend
