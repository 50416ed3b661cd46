#include "engine/training/checkpoint_state.h"

#include "engine/training/settings.h"
#include "io/support/checksum.h"
#include "io/support/error.h"
#include "io/support/json_depth.h"

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kSchema = 1;
constexpr int kDeepestState = 32;  // ours have four levels; the settings of a later program may have more

/// The state's own checksum is over its text without that line.
std::uint32_t checksum_of(const Json& state) {
  const std::string text = state.dump();
  return crc32(std::as_bytes(std::span(text)));
}

Json to_json(const Recent& r) {
  return {{"mean", r.mean}, {"variance", r.variance}, {"count", r.count}};
}
Recent recent_from(const Json& json) {
  return {.mean = json.at("mean").get<double>(),
          .variance = json.at("variance").get<double>(),
          .count = json.at("count").get<std::int64_t>()};
}

CheckpointState state_from(const Json& json) {
  CheckpointState state;
  json.at("kind").get_to(state.kind);
  json.at("program_version").get_to(state.program_version);
  json.at("step").get_to(state.step);
  json.at("precision").get_to(state.precision);
  state.model = model_config_from(json.at("model"));
  state.model.check();
  state.settings = json.at("settings");
  json.at("dataset_fingerprint").get_to(state.dataset_fingerprint);
  if (const Json& best = json.at("best"); !best.is_null())
    state.best = BestValidation{best.at("step").get<std::int64_t>(), best.at("loss").get<double>()};
  if (const auto spikes = json.find("spikes"); spikes != json.end())
    state.spikes = SpikeWatch{recent_from(spikes->at("loss")), recent_from(spikes->at("gradient_norm"))};
  return state;
}

}  // namespace

std::string checkpoint_state_text(const CheckpointStateFile& file) {
  const CheckpointState& state = file.state;
  Json json = {{"schema", kSchema},
               {"kind", state.kind},
               {"program_version", state.program_version},
               {"step", state.step},
               {"precision", state.precision},
               {"model", to_json(state.model)},
               {"settings", state.settings},
               {"dataset_fingerprint", state.dataset_fingerprint},
               {"best", nullptr},
               {"files", file.files}};
  if (state.best) json["best"] = {{"step", state.best->step}, {"loss", state.best->loss}};
  if (state.spikes)
    json["spikes"] = {{"loss", to_json(state.spikes->loss)}, {"gradient_norm", to_json(state.spikes->gradient_norm)}};
  json["crc32"] = checksum_of(json);
  return json.dump(2) + "\n";
}

CheckpointStateFile parse_checkpoint_state(std::string_view text, const std::filesystem::path& folder) {
  const auto refuse = [&](std::string_view cause) {
    throw Error("{} is not a whole checkpoint: {}; use another one", folder.string(), cause);
  };
  if (nested_deeper(text, kDeepestState)) refuse("state.json is nested too deeply");
  CheckpointStateFile file;
  try {
    Json json = Json::parse(text);
    if (json.at("schema").get<int>() > kSchema)
      throw Error("the checkpoint {} was written by a newer program ({}); update this one", folder.string(),
                  json.at("program_version").get<std::string>());
    const auto checksum = json.at("crc32").get<std::uint32_t>();
    json.erase("crc32");
    if (checksum_of(json) != checksum) refuse("state.json is damaged");
    file.state = state_from(json);
    file.files = json.at("files");
  } catch (const Json::exception& e) {
    refuse(fmt::format("state.json can't be read ({})", e.what()));
  } catch (const UsageError& e) {
    refuse(fmt::format("state.json describes no model ({})", e.what()));
  }
  return file;
}

}  // namespace moleblend
