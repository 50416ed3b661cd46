#include "tests/golden/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace moleblend::testing {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

/// u(k) in [-1, 1) for k = 0, 1, …: SplitMix64 from the FNV-1a hash of `key`.
class Uniform {
 public:
  explicit Uniform(const std::string& key) : state_(0xcbf29ce484222325u) {
    for (const unsigned char c : key) state_ = (state_ ^ c) * 0x100000001b3u;
  }
  double operator()() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<double>(z >> 40) * 0x1p-23 - 1;
  }

 private:
  std::uint64_t state_;
};

std::optional<Safetensors> open_beside(const fs::path& path, const std::string& suffix) {
  const fs::path beside = path.parent_path() / (path.stem().string() + suffix + ".safetensors");
  if (!fs::exists(beside)) return std::nullopt;
  return Safetensors::open(beside);
}

Molecule molecule_of(const Safetensors& file, std::size_t b) {
  const auto atom_ptr = file.values<std::int32_t>("raw.atom_ptr"), edge_ptr = file.values<std::int32_t>("raw.edge_ptr");
  const auto features = file.values<std::int32_t>("raw.atom_feat"), edges = file.values<std::int32_t>("raw.edge_index"),
             bonds = file.values<std::int32_t>("raw.bond_feat");
  Molecule m;
  for (auto i = static_cast<std::size_t>(atom_ptr[b]); i < static_cast<std::size_t>(atom_ptr[b + 1]); ++i) {
    AtomCodes codes;
    for (std::size_t f = 0; f < codes.size(); ++f) codes[f] = static_cast<std::uint8_t>(features[9 * i + f]);
    m.atoms.push_back(codes);
  }
  // Each bond is there in both directions.
  const std::size_t edge_count = edges.size() / 2;
  for (auto e = static_cast<std::size_t>(edge_ptr[b]); e < static_cast<std::size_t>(edge_ptr[b + 1]); e += 2)
    m.bonds.push_back({static_cast<std::uint32_t>(edges[e]), static_cast<std::uint32_t>(edges[edge_count + e]),
                       static_cast<std::uint8_t>(bonds[3 * e]), static_cast<std::uint8_t>(bonds[3 * e + 1]),
                       static_cast<std::uint8_t>(bonds[3 * e + 2])});
  const auto positions = file.values<float>("raw.pos");
  m.positions.assign(positions.begin() + 3 * atom_ptr[b], positions.begin() + 3 * atom_ptr[b + 1]);
  m.conformers = 1;
  m.conformer_source = ConformerSource::file;
  return m;
}

}  // namespace

GoldenCase::GoldenCase(const fs::path& path)
    : name(path.stem().string()),
      file(Safetensors::open(path)),
      parameters(open_beside(path, ".params")),
      gradients(open_beside(path, ".grads")),
      training(open_beside(path, ".train")) {
  const json c = json::parse(file.metadata().at("config"));
  finetuning = c.contains("num_classes");
  config.name = name;
  config.layers = c.at("encoder_layers");
  config.width = c.at("encoder_embed_dim");
  config.ffn = c.at("encoder_ffn_embed_dim");
  config.heads = c.at("encoder_attention_heads");
  config.kernels = c.at("num_3d_bias_kernel");
  config.distance_hidden = c.at("blend_pred_3d_hidden_dim");
  config.target = DistanceTarget::displacement;
  config.attention_dropout = config.activation_dropout = config.hidden_dropout = config.drop_path = 0;
  if (finetuning) {
    config.tasks = c.at("num_classes");
    config.with_distance = c.at("add_3d");
  }

  const auto atom_ptr = file.values<std::int32_t>("raw.atom_ptr");
  RelationScratch scratch;
  for (std::size_t b = 0; b + 1 < atom_ptr.size(); ++b) batch.add(molecule_of(file, b), b, b, 0, scratch);
  // The reference takes an atom exactly at the origin for one without a position.
  for (std::size_t i = 0; i < batch.position_known.size(); ++i)
    batch.position_known[i] =
        batch.positions[3 * i] != 0 || batch.positions[3 * i + 1] != 0 || batch.positions[3 * i + 2] != 0;
  if (finetuning) return;

  const json factors = json::parse(file.metadata().at("factors"));
  objective.spd_factor = factors.at("spd");
  objective.edge_factor = factors.at("edge");
  objective.distance_factor = factors.at("d3");
  objective.denoise_factor = factors.at("denoise");
  // One mask for the whole padded batch: each molecule reads its corner.
  const auto pair_mask = file.values<std::int32_t>("in.pair_mask"),
             atom_mask = file.values<std::int32_t>("in.atom_mask");
  const auto padded_noise = file.values<float>("in.noise_masked");
  const auto padded = static_cast<std::size_t>(file.at("in.pair_mask").shape.at(0));
  for (std::size_t b = 0; b + 1 < atom_ptr.size(); ++b) {
    const auto n = static_cast<std::size_t>(atom_ptr[b + 1] - atom_ptr[b]);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j)
        pair_visible.push_back(static_cast<std::uint8_t>(1 << pair_mask[i * padded + j]));
      atom_visible.push_back(static_cast<std::uint8_t>(1 << atom_mask[b * padded + i]));
      for (std::size_t axis = 0; axis < 3; ++axis) noise.push_back(padded_noise[(b * padded + i) * 3 + axis]);
    }
  }
  counts = count_targets(batch, atom_visible);
}

std::vector<float> GoldenCase::parameter(const ParameterInfo& info) const {
  const std::vector<double> check = file.values<double>("pcheck." + info.name);  // scale, offset, flag, …
  Uniform u(file.metadata().at("param_seed") + ":" + info.name);
  std::vector<float> values(static_cast<std::size_t>(info.count));
  for (float& v : values) v = static_cast<float>(check.at(1) + check.at(0) * u());
  if (check.at(2) != 0) std::fill_n(values.begin(), info.count / info.shape.at(0), 0.f);
  return values;
}

double GoldenCase::projection(const std::string& name, std::span<const double> values) {
  Uniform u("proj:" + name);
  double sum = 0;
  for (const double v : values) sum += v * u();
  return sum;
}

std::vector<fs::path> golden_files() {
  const char* variable = std::getenv("MOLEBLEND_GOLDEN");
  const fs::path own = fs::path(MOLEBLEND_SOURCE_DIR) / "tests/golden/data";
  const fs::path full = variable ? fs::path(variable) : fs::path(MOLEBLEND_SOURCE_DIR) / "../shared/golden";
  std::vector<fs::path> files;
  for (const fs::path& folder : {own, full}) {
    if (!fs::is_directory(folder)) continue;
    for (const auto& entry : fs::directory_iterator(folder)) {
      const fs::path& p = entry.path();
      // <case>.safetensors, not <case>.grads.safetensors and the like.
      if (p.extension() == ".safetensors" && !p.stem().has_extension()) files.push_back(p);
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::filesystem::path> training_files() {
  std::vector<std::filesystem::path> files = golden_files();
  std::erase_if(files, [](const std::filesystem::path& path) {
    return !std::filesystem::exists(path.parent_path() / (path.stem().string() + ".train.safetensors"));
  });
  return files;
}

std::string case_name(const ::testing::TestParamInfo<std::filesystem::path>& info) {
  const bool own = info.param.parent_path().filename() == "data";
  return (own ? "own_" : "full_") + info.param.stem().string();
}

}  // namespace moleblend::testing
