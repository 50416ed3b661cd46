#pragma once
// A case of the reference program's numbers: inputs, parameters by formula, expected values.
//
// A golden folder holds <case>.safetensors (inputs, activations, losses), optionally <case>.params, <case>.grads and
// <case>.train; what a file does not hold is not compared, but each test says what it can't do without. The clone
// carries a compact folder (tests/golden/data, made by scripts/compact_golden.py); MOLEBLEND_GOLDEN names a full one.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/training/safetensors.h"
#include "io/loader/batch.h"

namespace moleblend::testing {

struct GoldenCase {
  std::string name;
  Safetensors file;
  std::optional<Safetensors> parameters, gradients, training;
  bool finetuning;
  ModelConfig config;
  Objective objective;
  Batch batch;
  // Draws, packed.
  std::vector<std::uint8_t> pair_visible, atom_visible;
  std::vector<float> noise;
  TargetCounts counts;

  explicit GoldenCase(const std::filesystem::path& path);

  /// Values of the named parameter by the formula of the golden data's description.
  std::vector<float> parameter(const ParameterInfo& info) const;
  /// Σ_k values[k] · u(k), with u from the same formula under the key "proj:" + name.
  static double projection(const std::string& name, std::span<const double> values);

  /// Writes every parameter; those that the case does not name are a failure.
  void write_parameters(Model& model) const {
    std::vector<float> flat(static_cast<std::size_t>(model.parameter_count()));
    for (const ParameterInfo& p : model.parameters()) {
      const std::vector<float> values = parameter(p);
      std::copy(values.begin(), values.end(), flat.begin() + p.offset);
    }
    model.write(0, flat);
  }
};

/// All cases of the compact folder and, where there is one, of the full folder.
std::vector<std::filesystem::path> golden_files();
/// Those that come with training steps; the compact folder has one.
std::vector<std::filesystem::path> training_files();
/// For gtest: own_tiny, full_tiny.
std::string case_name(const ::testing::TestParamInfo<std::filesystem::path>& info);

}  // namespace moleblend::testing
