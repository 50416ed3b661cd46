#pragma once
// dataset.json: what a data set says of itself.

#include <filesystem>
#include <string>

#include "io/dataset/dataset.h"

namespace moleblend {

inline constexpr const char* kDatasetFile = "dataset.json";

/// Names the content: SHA-256 over schema, label names and the shards' checksums in order.
std::string dataset_fingerprint(const DatasetInfo& info);

std::string dataset_json(const DatasetInfo& info);
/// Throws Error naming `folder` when dataset.json is missing, damaged or of a newer program.
DatasetInfo read_dataset_json(const std::filesystem::path& folder);

}  // namespace moleblend
