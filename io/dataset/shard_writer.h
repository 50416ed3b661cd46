#pragma once
// Writes one shard of a data set: the molecules of a fixed range of input records.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/dataset/dataset.h"
#include "io/dataset/molecule.h"

namespace moleblend {

/// "shard-00000012.mbs". Blocks are numbered over all input records of a data set, so that folders written by the parts
/// of a job array can be united by moving their shards together.
std::string shard_file_name(std::uint64_t block);

/// Collects molecules in memory and writes the shard atomically at finish(): a shard that exists is complete.
class ShardWriter {
 public:
  ShardWriter(std::filesystem::path folder, std::uint64_t block, std::uint32_t label_count);

  /// Adds a molecule; the order of the calls is the order in the shard. Throws Error for a molecule that the format
  /// can't hold (no atoms, a bond to an atom that does not exist, a category out of its range, arrays of the wrong
  /// size), which is then not added.
  void add(const Molecule& molecule);
  std::uint64_t molecules() const { return atoms_.size(); }

  /// Writes the shard, even with no molecules (the block is then known to be done). `rejected`: records of the block
  /// that were refused. The writer is spent then.
  ShardEntry finish(std::uint64_t rejected = 0);

 private:
  std::filesystem::path folder_;
  std::uint64_t block_;
  std::uint32_t label_count_;
  std::uint64_t atom_total_ = 0, pair_total_ = 0, with_positions_ = 0;
  std::vector<std::uint64_t> offsets_{0};
  std::vector<std::uint32_t> atoms_;
  std::string records_;
};

}  // namespace moleblend
