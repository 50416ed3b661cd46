#pragma once
// The end of a run over a number that is not finite, and what it leaves for `moleblend replay`.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "engine/model/model.h"
#include "engine/ranks/ranks.h"
#include "engine/training/checkpoint.h"
#include "io/dataset/dataset.h"
#include "io/loader/loader.h"

namespace moleblend {

/// The folder of a run that is about update number `update`, counted from 1: molecules.csv, its molecules with the keys of their random
/// draws, and checkpoint/, the model as it was before.
std::filesystem::path not_finite_folder(const std::filesystem::path& run, std::int64_t update);

struct NotFinite {
  std::string_view what;  // "loss" or "gradient"
  const Dataset& data;
  const std::filesystem::path& run;
  const LoadedStep& step;
  const Model& model;            // as it was before the step
  const CheckpointState& state;  // likewise
};

/// Throws Error that says what is not finite and names the step's first molecules, after it has filled the folder. Called by all ranks.
[[noreturn]] void throw_not_finite(const NotFinite& found, Ranks& ranks = sole_rank());

}  // namespace moleblend
