// state.json of a checkpoint.

#include <optional>

#include "engine/training/checkpoint_state.h"
#include "io/support/checksum.h"
#include "tests/fuzz/fuzz_target.h"

namespace moleblend::fuzz {
namespace {

using Json = nlohmann::ordered_json;

void check(std::string_view text) {
  writes_what_it_reads(
      text, [](std::string_view t) { return parse_checkpoint_state(t, "step-00000001"); }, checkpoint_state_text);
}

std::optional<std::string> with_right_checksum(std::string_view text) {
  try {
    Json json = Json::parse(text);
    json.erase("crc32");
    const std::string content = json.dump();
    json["crc32"] = crc32(std::as_bytes(std::span(content)));
    return json.dump();
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace
}  // namespace moleblend::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend::fuzz;
  check_and_mend(text_of(data, size), check, with_right_checksum);
  return 0;
}
