#pragma once
// The parts of a data set, made by the jobs of an array, become one.

#include <filesystem>
#include <vector>

#include "io/prepare/prepare.h"

namespace moleblend {

struct MergeOptions {
  std::vector<std::filesystem::path> parts;  // folders that prepare made with part i of n, all n of them, in any order
  std::filesystem::path output;
  bool resume = false;  // go on with a merge that was interrupted
  bool quiet = false;
};

/// Gathers the parts' shards in the output folder, by links where it is on the same file system: the same bytes as of a run without parts.
/// The inputs are not read, and the parts stay as they are. Throws UsageError or Error naming the part that is missing, unfinished, damaged,
/// given twice, or of other inputs or options.
PrepareSummary merge_parts(const MergeOptions& options);

}  // namespace moleblend
