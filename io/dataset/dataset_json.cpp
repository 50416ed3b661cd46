#include "io/dataset/dataset_json.h"

#include <nlohmann/json.hpp>

#include "io/dataset/shard_format.h"
#include "io/support/checksum.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "io/support/json_depth.h"

namespace moleblend {

using Json = nlohmann::ordered_json;
constexpr int kDeepestDescription = 32;  // ours have four levels; the options of a later program may have more

// Found by the JSON library by their names.
static void to_json(Json& j, const SourceFile& s) {
  j = {{"path", s.path}, {"sha256", s.sha256}, {"bytes", s.bytes}, {"records", s.records}};
}
static void from_json(const Json& j, SourceFile& s) {
  j.at("path").get_to(s.path);
  j.at("sha256").get_to(s.sha256);
  j.at("bytes").get_to(s.bytes);
  j.at("records").get_to(s.records);
}
static void to_json(Json& j, const ShardEntry& s) {
  j = {{"name", s.name},      {"block", s.block}, {"molecules", s.molecules},           {"rejected", s.rejected},
       {"atoms", s.atoms},    {"pairs", s.pairs}, {"with_positions", s.with_positions}, {"bytes", s.bytes},
       {"sha256", s.checksum}};
}
static void from_json(const Json& j, ShardEntry& s) {
  j.at("name").get_to(s.name);
  j.at("block").get_to(s.block);
  j.at("molecules").get_to(s.molecules);
  j.at("rejected").get_to(s.rejected);
  j.at("atoms").get_to(s.atoms);
  j.at("pairs").get_to(s.pairs);
  j.at("with_positions").get_to(s.with_positions);
  j.at("bytes").get_to(s.bytes);
  j.at("sha256").get_to(s.checksum);
}

std::string dataset_fingerprint(const DatasetInfo& info) {
  Sha256 hash;
  hash.update(fmt::format("moleblend data set\nschema {}\n", info.schema));
  for (const std::string& label : info.labels) hash.update(fmt::format("label {} {}\n", label.size(), label));
  for (const ShardEntry& shard : info.shards) hash.update(fmt::format("shard {}\n", shard.checksum));
  return hex(hash.digest());
}

std::string dataset_json(const DatasetInfo& info) {
  const Json j = {{"format", "moleblend data set"},
                  {"schema", info.schema},
                  {"program_version", info.program_version},
                  {"fingerprint", info.fingerprint},
                  {"molecules", info.molecules},
                  {"rejected", info.rejected},
                  {"atoms", info.atoms},
                  {"pairs", info.pairs},
                  {"with_positions", info.with_positions},
                  {"labels", info.labels},
                  {"options", Json::parse(info.options)},
                  {"sources", info.sources},
                  {"shards", info.shards}};
  // File names need not be UTF-8; what is not is replaced rather than refused.
  return j.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

DatasetInfo parse_dataset_json(std::string_view text, const std::string& name) {
  if (nested_deeper(text, kDeepestDescription))
    throw Error("{} is damaged (it is nested too deeply); delete it and run the same `moleblend prepare` with --resume",
                name);
  DatasetInfo info;
  try {
    const Json j = Json::parse(text);
    if (!j.is_object() || j.value("format", "") != "moleblend data set")
      throw Error("{} is not the description of a data set; name a folder made by `moleblend prepare`", name);
    j.at("schema").get_to(info.schema);
    if (info.schema > static_cast<int>(kDatasetSchema))
      throw Error("{} has schema {}, and this program reads up to {}; update moleblend", name, info.schema,
                  kDatasetSchema);
    j.at("program_version").get_to(info.program_version);
    j.at("fingerprint").get_to(info.fingerprint);
    j.at("molecules").get_to(info.molecules);
    j.at("rejected").get_to(info.rejected);
    j.at("atoms").get_to(info.atoms);
    j.at("pairs").get_to(info.pairs);
    j.at("with_positions").get_to(info.with_positions);
    j.at("labels").get_to(info.labels);
    info.options = j.at("options").dump();
    j.at("sources").get_to(info.sources);
    j.at("shards").get_to(info.shards);
  } catch (const Json::exception& e) {
    throw Error("{} is damaged ({}); delete it and run the same `moleblend prepare` with --resume", name, e.what());
  }
  if (dataset_fingerprint(info) != info.fingerprint)
    throw Error(
        "{} is damaged (its fingerprint does not agree with its shards); delete it and run the same `moleblend "
        "prepare` with --resume",
        name);
  return info;
}

DatasetInfo read_dataset_json(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kDatasetFile;
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    throw Error("{} is not a folder with a data set; check the path, or make one with `moleblend prepare --output {}`",
                folder.string(), folder.string());
  }
  if (!std::filesystem::exists(path, error)) {
    bool shards = false;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error))
      shards |= entry.path().extension() == ".mbs";
    if (shards)
      throw Error("{} has no {}: its preparation did not finish; run the same `moleblend prepare` with --resume",
                  folder.string(), kDatasetFile);
    throw Error("{} is no data set (it has no {}); name a folder made by `moleblend prepare`", folder.string(),
                kDatasetFile);
  }
  return parse_dataset_json(read_file(path), path.string());
}

}  // namespace moleblend
