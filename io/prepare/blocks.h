#pragma once
// The output side of a run: the folder, its blocks of records, and what is done of them already.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/dataset/dataset_writer.h"
#include "io/dataset/shard_writer.h"
#include "io/prepare/prepare.h"
#include "io/prepare/reader_pool.h"
#include "io/support/lock.h"

namespace moleblend {

/// What decides the bytes of a data set, as JSON: stands in dataset.json and is compared by --resume. Neither workers nor parts.
std::string describe_options(const PrepareOptions& options, Chemistry& chemistry);

/// What a folder is begun with, as its prepare.json has it: version, options and inputs.
std::string describe_run(const Inputs& inputs, const std::string& option_text, const std::string& version);
/// The same of a folder that was begun. Throws Error if it was not.
std::string read_run(const std::filesystem::path& folder);
/// Throws Error that says in what the run that a folder was begun with differs from another.
void refuse_other_run(const std::filesystem::path& folder, const std::string& begun_with, const std::string& other);

/// The output folder, locked. Opening it refuses a folder that is in use, that holds something else, or that was begun with other
/// options or inputs.
class OutputFolder {
 public:
  /// `run`: what it is begun with (describe_run), or was, where it is gone on with.
  OutputFolder(const std::filesystem::path& output, bool resume, const std::string& run);

  /// Whether a block was done before this run.
  bool has(std::uint64_t block) const { return done_.contains(block); }
  /// Whether a shard was there before this run, whole and as its data set describes it.
  bool holds(const ShardEntry& shard) const;
  bool done_before() const { return !done_.empty(); }
  /// Rejected records of the blocks that were done before.
  std::uint64_t rejected_before() const { return rejected_before_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::optional<FolderLock> lock_;
  std::vector<ShardEntry> whole_;  // by block
  std::set<std::uint64_t> done_;   // blocks of whole_ whose rejected records are known, too
  std::uint64_t rejected_before_ = 0;
};

/// One block: records come in order, finish() writes the rejected ones, then the shard.
class BlockWriter {
 public:
  BlockWriter(const OutputFolder& folder, const Inputs& inputs, std::uint64_t block, std::uint32_t label_count);
  void add(const Record& record, Outcome& outcome);
  void finish();
  std::uint64_t block() const { return block_; }
  std::uint64_t rejected() const { return rejected_; }

 private:
  const OutputFolder& folder_;
  const Inputs& inputs_;
  std::uint64_t block_, rejected_ = 0;
  ShardWriter shard_;
  std::string rows_;
};

/// The rejected records of one block; there is no such file where none were refused.
std::filesystem::path rejected_part(const std::filesystem::path& folder, std::uint64_t block);
/// All blocks are written: unites their rejected-<block>.csv into rejected.csv, writes dataset.json and fills the summary from it. Throws
/// Error where the shards' counts are not those of the summary.
void complete_dataset(const OutputFolder& folder, const DatasetDescription& description, PrepareSummary& summary);
/// Removes the blocks' rejected-<block>.csv.
void remove_rejected_parts(const std::filesystem::path& folder);
/// The reasons in a folder's rejected.csv.
std::map<std::string, std::uint64_t> rejected_reasons(const std::filesystem::path& folder);

}  // namespace moleblend
