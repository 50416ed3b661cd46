#pragma once
// state.json of a checkpoint, as text.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/training/checkpoint.h"

namespace moleblend {

struct CheckpointStateFile {
  CheckpointState state;
  nlohmann::ordered_json files;  // name -> size and CRC-32, of the checkpoint's other files
};

/// With a checksum of itself. The same values give the same text.
std::string checkpoint_state_text(const CheckpointStateFile& file);

/// The other way. Throws Error naming `folder`, the checkpoint, for a text that is damaged, of a newer program, or of a model that can't
/// be.
CheckpointStateFile parse_checkpoint_state(std::string_view text, const std::filesystem::path& folder);

}  // namespace moleblend
