#include "io/prepare/merge.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "io/dataset/dataset_json.h"
#include "io/dataset/shard_reader.h"
#include "io/prepare/blocks.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Part {
  fs::path folder;
  DatasetInfo info;
  Json options;
};

/// Finished parts of one data set.
std::vector<Part> open_parts(const std::vector<fs::path>& folders) {
  std::vector<Part> parts;
  const std::string run = read_run(folders.front());
  for (const fs::path& folder : folders) {
    refuse_other_run(folder, read_run(folder), run);
    if (!fs::exists(folder / kDatasetFile))
      throw Error("{} is no finished part (no {}); run its `moleblend prepare --part` to the end, with --resume",
                  folder.string(), kDatasetFile);
    Part& part = parts.emplace_back(Part{.folder = folder, .info = read_dataset_json(folder), .options = {}});
    part.options = Json::parse(part.info.options);
  }
  return parts;
}

/// A shard, and the part that has it.
struct Source {
  const Part* part;
  const ShardEntry* shard;
};

/// All shards by block. Throws where two parts have the same one.
std::map<std::uint64_t, Source> shards_of(const std::vector<Part>& parts) {
  std::map<std::uint64_t, Source> shards;
  for (const Part& part : parts)
    for (const ShardEntry& shard : part.info.shards)
      if (const auto [at, is_new] = shards.try_emplace(shard.block, Source{&part, &shard}); !is_new)
        throw UsageError("{} and {} both have {}; name each part once", at->second.part->folder.string(),
                         part.folder.string(), shard.name);
  return shards;
}

/// Throws naming a part that was not given, where records are missing.
void check_all_there(const std::vector<Part>& parts, const PrepareSummary& summary) {
  if (summary.records == summary.records_in_all) return;
  std::set<std::uint64_t> given;
  std::uint64_t count = 0;
  for (const Part& part : parts) {
    const std::string text = part.options.value("part", std::string("0/0"));
    given.insert(std::stoull(text));
    count = std::max<std::uint64_t>(count, std::stoull(text.substr(text.find('/') + 1)));
  }
  std::uint64_t missing = 1;
  while (given.contains(missing)) ++missing;
  throw UsageError("part {}/{} is missing: {} of {} records are there; name the folders of all parts", missing, count,
                   count_text(summary.records), count_text(summary.records_in_all));
}

/// `from` under the name `to`, whole and durable once the folder is synced.
void bring(const fs::path& from, const fs::path& to) {
  if (fs::exists(to)) return;
  std::error_code error;
  fs::create_hard_link(from, to, error);
  if (!error) return;
  const MappedFile source(from);
  AtomicFile copy(to);
  copy.write(source.bytes());
  copy.commit();
}

void bring_shard(const Source& source, const OutputFolder& folder) {
  const auto& [part, shard] = source;
  if (shard->rejected > 0) bring(rejected_part(part->folder, shard->block), rejected_part(folder.path(), shard->block));
  if (folder.holds(*shard)) return;
  const fs::path from = part->folder / shard->name, to = folder.path() / shard->name;
  if (ShardReader(from, true).entry() != *shard)
    throw Error("{} is not the shard that {} names; run its `moleblend prepare --part` again with --resume",
                from.string(), (part->folder / kDatasetFile).string());
  fs::remove(to);  // a damaged one
  bring(from, to);
}

/// Options of the whole: the counts of all parts, and no part.
std::string united_options(const std::vector<Part>& parts, PrepareSummary& summary) {
  Json text = parts.front().options;
  for (const Part& part : parts) {
    summary.records += part.options.value("records", std::uint64_t{0});
    summary.odd_labels += part.options.value("unreadable_labels", std::uint64_t{0});
    for (const std::string& remark : part.options.value("remarks", std::vector<std::string>()))
      if (std::find(summary.remarks.begin(), summary.remarks.end(), remark) == summary.remarks.end())
        summary.remarks.push_back(remark);
  }
  text["records"] = summary.records;
  text["unreadable_labels"] = summary.odd_labels;
  text["remarks"] = summary.remarks;
  text.erase("part");
  return text.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

PrepareSummary merge_parts(const MergeOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  if (options.parts.empty()) throw UsageError("no part is given; name the folders of all parts with --merge");
  if (options.output.empty()) throw UsageError("no output folder is given; name it with --output");
  const std::vector<Part> parts = open_parts(options.parts);
  const std::map<std::uint64_t, Source> shards = shards_of(parts);

  PrepareSummary summary;
  DatasetDescription description;
  description.labels = parts.front().info.labels;
  description.sources = parts.front().info.sources;
  description.options = united_options(parts, summary);
  description.program_version = parts.front().info.program_version;
  for (const SourceFile& file : description.sources) summary.records_in_all += file.records;
  check_all_there(parts, summary);

  OutputFolder folder(options.output, options.resume, read_run(parts.front().folder));
  std::uint64_t bytes = 0, done = 0;
  for (const auto& [block, source] : shards) bytes += source.shard->bytes;
  Progress progress("merge", bytes >> 10, "kB", options.quiet);
  for (const auto& [block, source] : shards) {
    bring_shard(source, folder);
    summary.rejected += source.shard->rejected;
    done += source.shard->bytes;
    progress.update(done >> 10, fmt::format("{} of {} shards", block + 1, shards.size()));
  }
  sync_folder(folder.path());
  progress.finish(fmt::format("{} shards", shards.size()));

  complete_dataset(folder, description, summary);
  remove_rejected_parts(folder.path());
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace moleblend
