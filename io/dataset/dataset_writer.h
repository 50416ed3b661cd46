#pragma once
// Turns a folder of finished shards into a data set: writes its dataset.json.

#include <filesystem>
#include <string>
#include <vector>

#include "io/dataset/dataset.h"

namespace moleblend {

/// What the shards do not know of themselves.
struct DatasetDescription {
  std::vector<std::string> labels;  // names of the label columns, as many as each shard has
  std::vector<SourceFile> sources;  // Molecule::source_file counts through these
  std::string options = "{}";       // JSON text
  std::string program_version;
};

/// Checks every shard of the folder (header and tables), adds up totals and writes dataset.json atomically. The
/// fingerprint depends on the schema, the label names and the shards' content alone: not on time, paths or the number
/// of workers. Throws Error for a damaged shard or one with another number of labels.
DatasetInfo write_dataset_json(const std::filesystem::path& folder, const DatasetDescription& description);

/// The blocks whose shard is there and whole, ascending: what a resumed run need not do again. A damaged shard counts
/// as not there.
std::vector<ShardEntry> finished_shards(const std::filesystem::path& folder);

}  // namespace moleblend
