// dataset.json.

#include <nlohmann/json.hpp>
#include <optional>

#include "io/dataset/dataset_json.h"
#include "tests/fuzz/fuzz_target.h"

namespace moleblend::fuzz {
namespace {

using Json = nlohmann::ordered_json;

void check(std::string_view text) {
  reads([&] {
    const std::string once = dataset_json(parse_dataset_json(text, "dataset.json"));
    bool again = false;
    try {
      again = dataset_json(parse_dataset_json(once, "dataset.json")) == once;
    } catch (const Error&) {
    }
    must(again, "a description changes when written again");
  });
}

/// The same description with the fingerprint of its shards, as far as it has those: behind it lies everything else.
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
  const std::string_view text = text_of(data, size);
  check(text);
  // The repair itself would not survive what the parser must refuse.
  if (size > 1 << 16) return 0;
  if (const auto right = with_right_fingerprint(text)) check(*right);
  return 0;
}
