#pragma once
// What `moleblend inspect` shows. Each subject is gathered as JSON first, and the words are made from that, so that both tell the same.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/dataset/dataset.h"

namespace moleblend::inspect {

using Json = nlohmann::ordered_json;

/// Counts, sizes, labels, conformers, rejected records. Reads every molecule; `quiet` hides the progress line.
Json describe_dataset(const std::filesystem::path& folder, const Dataset& dataset, bool verified, bool quiet);
std::string words_of_dataset(const Json& report);

/// The blend that a training step would draw for a molecule.
struct BlendRequest {
  bool wanted = false;
  std::uint64_t seed = 1, epoch = 0;
};
/// The molecule of this index or, if `name` is none, of this identifier. Throws Error if there is none.
std::uint64_t find_molecule(const Dataset& dataset, const std::string& name);
/// Atoms, bonds, shortest path distances, one path; the blend on demand.
Json describe_molecule(const Dataset& dataset, std::uint64_t index, const BlendRequest& blend);
std::string words_of_molecule(const Json& report);

/// A checkpoint folder or a .safetensors file: its state, and name, shape and norm of each parameter.
Json describe_checkpoint(const std::filesystem::path& path);
std::string words_of_checkpoint(const Json& report);

/// A run folder: configuration, checkpoints, the course of the losses.
Json describe_run(const std::filesystem::path& folder);
std::string words_of_run(const Json& report);

/// A bar of at most `width` columns for `value` of `largest`, in eighths of a column.
std::string bar(double value, double largest, std::size_t width);
/// Points (x, y) as a plot of `width` × `height` characters with labelled axes; values that are not finite are left out.
std::string plot(const std::vector<double>& x, const std::vector<double>& y, std::size_t width, std::size_t height);

}  // namespace moleblend::inspect
