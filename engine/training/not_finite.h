#pragma once
// The end of a run over a number that is not finite.

#include <filesystem>
#include <string_view>

#include "engine/ranks/ranks.h"
#include "io/dataset/dataset.h"
#include "io/loader/loader.h"

namespace moleblend {

/// Throws Error that says what ("loss") is not finite in this step and names its first molecules; all of them, of all ranks, go into
/// not-finite-step-<n>.txt of the run. Called by all ranks.
[[noreturn]] void throw_not_finite(const Dataset& data, const std::filesystem::path& run, const LoadedStep& step,
                                   std::string_view what, Ranks& ranks = sole_rank());

}  // namespace moleblend
