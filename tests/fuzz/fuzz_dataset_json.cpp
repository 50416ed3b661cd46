// dataset.json.

#include <nlohmann/json.hpp>
#include <optional>

#include "io/dataset/dataset_json.h"
#include "tests/fuzz/fuzz_target.h"

namespace moleblend::fuzz {
namespace {

using Json = nlohmann::ordered_json;

void check(std::string_view text) {
  writes_what_it_reads(
      text, [](std::string_view t) { return parse_dataset_json(t, "dataset.json"); }, dataset_json);
}

/// The same description with the fingerprint of its shards, as far as it has those.
std::optional<std::string> with_right_fingerprint(std::string_view text) {
  try {
    Json json = Json::parse(text);
    DatasetInfo info;
    json.at("schema").get_to(info.schema);
    json.at("labels").get_to(info.labels);
    for (const Json& shard : json.at("shards"))
      info.shards.emplace_back().checksum = shard.at("sha256").get<std::string>();
    json["fingerprint"] = dataset_fingerprint(info);
    return json.dump();
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace
}  // namespace moleblend::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend::fuzz;
  check_and_mend(text_of(data, size), check, with_right_fingerprint);
  return 0;
}
