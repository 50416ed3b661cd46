// state.json of a checkpoint.

#include <optional>

#include "engine/training/checkpoint_state.h"
#include "io/support/checksum.h"
#include "tests/fuzz/fuzz_target.h"

namespace moleblend::fuzz {
namespace {

using Json = nlohmann::ordered_json;

void check(std::string_view text) {
  reads([&] {
    const CheckpointStateFile file = parse_checkpoint_state(text, "step-00000001");
    const std::string once = checkpoint_state_text(file);
    bool again = false;
    try {
      again = checkpoint_state_text(parse_checkpoint_state(once, "step-00000001")) == once;
    } catch (const Error&) {
    }
    must(again, "a state changes when written again");
  });
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
  const std::string_view text = text_of(data, size);
  check(text);
  // The repair itself would not survive what the parser must refuse.
  if (size > 1 << 16) return 0;
  if (const auto right = with_right_checksum(text)) check(*right);
  return 0;
}
