#include "io/prepare/blocks.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/dataset/dataset_json.h"
#include "io/dataset/dataset_writer.h"
#include "io/prepare/reasons.h"
#include "io/support/csv.h"
#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {
namespace {

constexpr const char* kRunFile = "prepare.json";
constexpr const char* kRejectedFile = "rejected.csv";
constexpr std::size_t kShownText = 100;   // characters of a rejected record's text
constexpr std::size_t kReasonColumn = 4;  // of header_row()

using Json = nlohmann::ordered_json;

bool is_rejected_part(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with("rejected-") && name.ends_with(".csv");
}

std::string header_row() {
  return csv_row({"file", "record", "line", "identifier", "reason", "text"});
}

std::uint64_t count_rows(const std::filesystem::path& path) {
  CsvReader reader{TextSource(path)};
  std::vector<std::string> row;
  std::uint64_t rows = 0;
  while (reader.next(row)) ++rows;
  return rows == 0 ? 0 : rows - 1;  // the header
}

bool has_rejected_rows(const std::filesystem::path& folder, const ShardEntry& shard) {
  const std::filesystem::path part = rejected_part(folder, shard.block);
  if (shard.rejected == 0) return true;
  try {
    return std::filesystem::exists(part) && count_rows(part) == shard.rejected;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::string describe_options(const PrepareOptions& o, Chemistry& chemistry) {
  const ConformerOptions& c = o.read.conformers;
  Json text;
  text["chemistry"] = chemistry.versions();
  text["format"] = o.format;
  text["smiles_column"] = o.columns.smiles;
  text["label_columns"] = o.columns.labels;
  text["id_column"] = o.columns.identifier;
  text["keep_hydrogens"] = o.read.keep_hydrogens;
  text["positions"] = o.read.use_positions;
  text["conformers"] = c.count;
  text["conformer_engine"] = c.engine == ConformerEngine::rdkit ? "rdkit" : "openbabel";
  text["fallback"] = c.fallback;
  text["force_field_steps"] = c.force_field_steps;
  text["require_conformers"] = c.required;
  text["max_atoms"] = o.max_atoms;
  text["seed"] = o.seed;
  text["block_size"] = o.block_size;
  text["timeout"] = o.timeout;
  text["memory"] = o.memory_mb;
  return text.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string describe_run(const Inputs& inputs, const std::string& option_text, const std::string& version) {
  Json run;
  run["program_version"] = version;
  run["options"] = Json::parse(option_text);
  for (const SourceFile& file : inputs.files)
    run["sources"].push_back({{"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  return run.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string read_run(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder / kRunFile))
    throw Error("{} holds no run of prepare (no {}); name a folder that `moleblend prepare` has made", folder.string(),
                kRunFile);
  return read_file(folder / kRunFile);
}

void refuse_other_run(const std::filesystem::path& folder, const std::string& before_text,
                      const std::string& now_text) {
  if (before_text == now_text) return;
  const std::string remedy = "give the same ones to go on, or another --output to begin anew";
  Json before, now;
  try {
    before = Json::parse(before_text);
    now = Json::parse(now_text);
    const auto differ = [](const Json& a, const Json& b) {
      std::string names;
      for (const auto& [name, value] : b.items())
        if (!a.contains(name) || a[name] != value) names += (names.empty() ? "" : ", ") + name;
      return names;
    };
    const Json &a = before.at("sources"), &b = now.at("sources");
    if (a.size() != b.size())
      throw Error("{} was begun with {} input files, not {}; {}", folder.string(), a.size(), b.size(), remedy);
    for (std::size_t i = 0; i < b.size(); ++i) {
      if (a[i].at("sha256") != b[i].at("sha256"))
        throw Error("{} was begun with another content of {}; {}", folder.string(), b[i].at("path").get<std::string>(),
                    remedy);
      if (a[i].at("path") != b[i].at("path"))
        throw Error("{} was begun with {} in place of {}; {}", folder.string(), a[i].at("path").get<std::string>(),
                    b[i].at("path").get<std::string>(), remedy);
    }
    if (const std::string names = differ(before.at("options"), now.at("options")); !names.empty())
      throw Error("{} was begun with other options ({}); {}", folder.string(), names, remedy);
  } catch (const Json::exception&) {
    throw Error("{} is damaged; remove the folder and begin anew", (folder / kRunFile).string());
  }
  throw Error("{} was begun by another version of the program; use that, or another --output", folder.string());
}

OutputFolder::OutputFolder(const std::filesystem::path& output, bool resume, const std::string& run) : path_(output) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(path_, error) && !fs::is_directory(path_, error))
    throw UsageError("--output {} is a file; name a folder", path_.string());
  const auto holds_something = [&] {
    if (!fs::exists(path_)) return false;
    return std::any_of(fs::directory_iterator(path_), fs::directory_iterator(),
                       [](const auto& e) { return e.path().filename() != ".lock"; });
  };
  if (!resume && holds_something())
    throw UsageError("--output {} is not empty; name another folder, or go on with an interrupted run with --resume",
                     path_.string());
  lock_.emplace(path_);
  // Once more under the lock: another run may have begun in between.
  const fs::path run_file = path_ / kRunFile;
  remove_partial_files(path_);
  if (holds_something()) {
    if (!resume)
      throw UsageError("--output {} is not empty; name another folder, or go on with an interrupted run with --resume",
                       path_.string());
    if (!fs::exists(run_file))
      throw Error("{} is not empty and holds no run to go on with (no {}); name another folder", path_.string(),
                  kRunFile);
    refuse_other_run(path_, read_file(run_file), run);
    whole_ = finished_shards(path_);
    for (const ShardEntry& shard : whole_)
      if (has_rejected_rows(path_, shard)) {
        done_.insert(shard.block);
        rejected_before_ += shard.rejected;
      }
  } else {
    write_file(run_file, run);
  }
}

bool OutputFolder::holds(const ShardEntry& shard) const {
  const auto at = std::lower_bound(whole_.begin(), whole_.end(), shard.block,
                                   [](const ShardEntry& s, std::uint64_t block) { return s.block < block; });
  return at != whole_.end() && *at == shard;
}

std::filesystem::path rejected_part(const std::filesystem::path& folder, std::uint64_t block) {
  return folder / fmt::format("rejected-{:08}.csv", block);
}

BlockWriter::BlockWriter(const OutputFolder& folder, const Inputs& inputs, std::uint64_t block,
                         std::uint32_t label_count)
    : folder_(folder), inputs_(inputs), block_(block), shard_(folder.path(), block, label_count) {}

void BlockWriter::add(const Record& record, Outcome& outcome) {
  if (outcome.kept) {
    try {
      shard_.add(outcome.molecule);
      return;
    } catch (const Error& e) {
      outcome.reason = e.what();
    }
  }
  ++rejected_;
  rows_ += csv_row({inputs_.files[record.file].path, fmt::format("{}", record.number),
                    record.line > 0 ? fmt::format("{}", record.line) : std::string(), one_line(record.identifier),
                    one_line(outcome.reason), one_line(std::string_view(record.text).substr(0, kShownText))});
}

void BlockWriter::finish() {
  if (rejected_ > 0) write_file(rejected_part(folder_.path(), block_), header_row() + rows_);
  shard_.finish(rejected_);
}

namespace {
/// Unites the blocks' rejected-<block>.csv into rejected.csv; gives the reasons with their counts, numbers in them written as N.
std::map<std::string, std::uint64_t> unite_rejected(const std::filesystem::path& folder, std::uint64_t expected) {
  std::vector<std::filesystem::path> parts;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (is_rejected_part(entry.path())) parts.push_back(entry.path());
  std::sort(parts.begin(), parts.end());
  AtomicFile out(folder / kRejectedFile);
  const std::string header = header_row();
  out.write(header);
  for (const auto& part : parts) out.write(std::string_view(read_file(part)).substr(header.size()));
  out.commit();
  auto reasons = rejected_reasons(folder);
  std::uint64_t rows = 0;
  for (const auto& [reason, count] : reasons) rows += count;
  if (rows != expected)
    throw Error("{} lists {} records and the shards know of {}; remove the folder and begin anew",
                (folder / kRejectedFile).string(), rows, expected);
  return reasons;
}
}  // namespace

void complete_dataset(const OutputFolder& folder, const DatasetDescription& description, PrepareSummary& summary) {
  summary.reasons = unite_rejected(folder.path(), summary.rejected);
  const DatasetInfo info = write_dataset_json(folder.path(), description);
  if (info.rejected != summary.rejected || info.molecules + info.rejected != summary.records) {
    std::filesystem::remove(folder.path() / kDatasetFile);
    throw Error("{}: of {} records the shards hold {} molecules and {} rejected; remove the folder and begin anew",
                folder.path().string(), summary.records, info.molecules, info.rejected);
  }
  summary.kept = info.molecules;
  summary.with_positions = info.with_positions;
  summary.fingerprint = info.fingerprint;
}

void remove_rejected_parts(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (is_rejected_part(entry.path())) std::filesystem::remove(entry.path());
}

std::map<std::string, std::uint64_t> rejected_reasons(const std::filesystem::path& folder) {
  CsvReader reader{TextSource(folder / kRejectedFile)};
  std::vector<std::string> row;
  std::map<std::string, std::uint64_t> reasons;
  reader.next(row);  // the header
  while (reader.next(row)) {
    if (row.size() <= kReasonColumn)
      throw Error("{}, line {}: a row without a reason; delete {} and run the same `moleblend prepare` with --resume",
                  (folder / kRejectedFile).string(), reader.line(), kDatasetFile);
    ++reasons[kind_of_reason(row[kReasonColumn])];
  }
  return reasons;
}

}  // namespace moleblend
