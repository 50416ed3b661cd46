#include "io/dataset/dataset_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/dataset/dataset_json.h"
#include "io/dataset/shard_reader.h"
#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {
namespace {

std::vector<std::filesystem::path> shard_paths(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("shard-") && name.ends_with(".mbs")) paths.push_back(entry.path());
  }
  if (error) throw Error("can't read the folder {}: {}; check the path", folder.string(), error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool by_block(const ShardEntry& a, const ShardEntry& b) {
  return a.block < b.block;
}

}  // namespace

DatasetInfo write_dataset_json(const std::filesystem::path& folder, const DatasetDescription& description) {
  if (!nlohmann::json::accept(description.options))
    throw Error("the options of {} are not JSON; pass an object", folder.string());
  DatasetInfo info;
  info.schema = static_cast<int>(kDatasetSchema);
  info.labels = description.labels;
  info.sources = description.sources;
  info.options = description.options;
  info.program_version = description.program_version;
  for (const auto& path : shard_paths(folder)) {
    const ShardReader shard(path);
    if (shard.label_count() != description.labels.size())
      throw Error("{} has {} labels a molecule where the data set has {}; remove it, or prepare into another folder",
                  path.string(), shard.label_count(), description.labels.size());
    info.shards.push_back(shard.entry());
  }
  std::sort(info.shards.begin(), info.shards.end(), by_block);
  for (std::size_t k = 1; k < info.shards.size(); ++k) {
    if (info.shards[k].block == info.shards[k - 1].block)
      throw Error("{} and {} in {} hold the same block {}; remove one of them", info.shards[k - 1].name,
                  info.shards[k].name, folder.string(), info.shards[k].block);
  }
  for (const ShardEntry& shard : info.shards) {
    info.molecules += shard.molecules;
    info.rejected += shard.rejected;
    info.atoms += shard.atoms;
    info.pairs += shard.pairs;
    info.with_positions += shard.with_positions;
  }
  info.fingerprint = dataset_fingerprint(info);
  write_file(folder / kDatasetFile, dataset_json(info));
  return info;
}

std::vector<ShardEntry> finished_shards(const std::filesystem::path& folder) {
  std::vector<ShardEntry> finished;
  for (const auto& path : shard_paths(folder)) {
    try {
      finished.push_back(ShardReader(path, true).entry());
    } catch (const Error&) {
      // Damaged or of another kind: its block is done again, and the new shard takes its name.
    }
  }
  std::sort(finished.begin(), finished.end(), by_block);
  return finished;
}

}  // namespace moleblend
