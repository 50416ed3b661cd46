#pragma once
// dataset.json: what a data set says of itself.

#include <filesystem>
#include <string>
#include <string_view>

#include "io/dataset/dataset.h"

namespace moleblend {

inline constexpr const char* kDatasetFile = "dataset.json";

/// Names the content: SHA-256 over schema, label names and the shards' checksums in order.
std::string dataset_fingerprint(const DatasetInfo& info);

std::string dataset_json(const DatasetInfo& info);
/// The other way. `name` stands in messages. Throws Error for a text that is damaged or of a newer program.
DatasetInfo parse_dataset_json(std::string_view text, const std::string& name);
/// Throws Error naming `folder` when dataset.json is missing, damaged or of a newer program.
DatasetInfo read_dataset_json(const std::filesystem::path& folder);

}  // namespace moleblend
