#include "engine/model/layout.h"

#include <fmt/format.h>

namespace moleblend {

namespace {
constexpr std::int64_t kAlignment = 16;  // values: 64 bytes of float
const std::string kEncoder = "encoder.molecule_encoder.";
}  // namespace

void ParameterLayout::align() {
  size_ = (size_ + kAlignment - 1) / kAlignment * kAlignment;
}

std::int64_t ParameterLayout::add(std::string name, std::vector<std::int64_t> shape, Kind kind, bool padding_row) {
  std::int64_t count = 1;
  for (const std::int64_t s : shape) count *= s;
  parameters_.push_back({std::move(name), std::move(shape), size_, count, kind, padding_row});
  size_ += count;
  return parameters_.back().offset;
}

ParameterLayout::Linear ParameterLayout::add_adjacent(const std::vector<std::string>& names, std::int64_t out,
                                                      std::int64_t in) {
  const bool norm = in == 0;
  Linear offsets;
  align();
  offsets.weight = size_;
  for (const std::string& name : names)
    add(name + ".weight", norm ? std::vector{out} : std::vector{out, in}, norm ? Kind::norm_weight : Kind::linear);
  align();
  offsets.bias = size_;
  for (const std::string& name : names) add(name + ".bias", {out}, norm ? Kind::norm_bias : Kind::bias);
  return offsets;
}

ParameterLayout::ParameterLayout(const ModelConfig& c) {
  const std::int64_t D = c.width, H = c.heads, K = c.kernels;
  const auto table = [&](const std::string& name, std::int64_t rows, std::int64_t columns, Kind kind,
                         bool padding_row) {
    align();
    return add(kEncoder + name + ".weight", {rows, columns}, kind, padding_row);
  };
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    return add_adjacent({name}, out, in);
  };
  const auto norm = [&](const std::string& name, std::int64_t width) { return add_adjacent({name}, width, 0); };
  constexpr std::int64_t kRows = kAtomFeatureRows;

  atom_table = table("atom_feature.atom_encoder", kRows * kAtomFeatures + 1, D, Kind::embedding, true);
  in_degree_table = table("atom_feature.in_degree_encoder", kRows, D, Kind::embedding, true);
  out_degree_table = table("atom_feature.out_degree_encoder", kRows, D, Kind::embedding, true);
  graph_token = table("atom_feature.graph_token", 1, D, Kind::embedding, false);

  edge_table = table("molecule_attn_bias.edge_encoder", kRows * 3 + 1, H, Kind::embedding, true);
  edge_hop = table("molecule_attn_bias.edge_dis_encoder", 128 * H * H, 1, Kind::embedding, false);
  spd_table = table("molecule_attn_bias.spatial_pos_encoder", kRows, H, Kind::embedding, true);
  bias_graph_token = table("molecule_attn_bias.graph_token_virtual_distance", 1, H, Kind::embedding, false);

  gaussian_mean = gaussian_std = gaussian_mul = gaussian_bias = -1;
  distance1 = distance2 = gaussian_projection = {-1, -1};
  if (c.with_distance) {
    gaussian_mean = table("molecule_3d_bias.gbf.means", 1, K, Kind::gaussian_mean, false);
    gaussian_std = table("molecule_3d_bias.gbf.stds", 1, K, Kind::gaussian_std, false);
    gaussian_mul = table("molecule_3d_bias.gbf.mul", kRows * 3, 1, Kind::gaussian_mul, true);
    gaussian_bias = table("molecule_3d_bias.gbf.bias", kRows * 3, 1, Kind::gaussian_bias, true);
    distance1 = linear(kEncoder + "molecule_3d_bias.gbf_proj.layer1", K, K);
    distance2 = linear(kEncoder + "molecule_3d_bias.gbf_proj.layer2", H, K);
    gaussian_projection = linear(kEncoder + "molecule_3d_bias.edge_proj", D, K);
  }

  embedding_norm = norm(kEncoder + "emb_layer_norm", D);
  for (std::int64_t l = 0; l < c.layers; ++l) {
    const std::string name = fmt::format("{}layers.{}.", kEncoder, l), attention = name + "self_attn.";
    layers.push_back({
        .qkv = add_adjacent({attention + "q_proj", attention + "k_proj", attention + "v_proj"}, D, D),
        .out = linear(attention + "out_proj", D, D),
        .attention_norm = norm(name + "self_attn_layer_norm", D),
        .fc1 = linear(name + "fc1", c.ffn, D),
        .fc2 = linear(name + "fc2", D, c.ffn),
        .final_norm = norm(name + "final_layer_norm", D),
    });
  }

  denoise_qkv = force = pair_maps = pair_norm = spd_head = edge_head = distance_inner = distance_outer = {-1, -1};
  property_dense = property_out = {-1, -1};
  if (c.tasks > 0) {
    property_dense = linear("encoder.proj_out.dense", D, D);
    property_out = linear("encoder.proj_out.out_proj", c.tasks, D);
  } else {
    const std::string denoise = kEncoder + "atom_proc.";
    denoise_qkv = add_adjacent({denoise + "q_proj", denoise + "k_proj", denoise + "v_proj"}, D, D);
    force = add_adjacent({denoise + "force_proj1", denoise + "force_proj2", denoise + "force_proj3"}, 1, D);

    std::vector<std::string> maps, norms;
    for (const std::string head : {"blend_spd_pred_head", "blend_edge_pred_head", "blend_3d_pred_head"})
      for (const std::string side : {"row", "column"}) {
        maps.push_back(kEncoder + head + ".transform_n2_head." + side + "_head");
        norms.push_back(kEncoder + head + ".transform_n2_head." + side + "_LayerNorm");
      }
    pair_maps = add_adjacent(maps, kPairWidth, D);
    pair_norm = add_adjacent(norms, kPairWidth, 0);
    constexpr std::int64_t kPairFeatures = kPairWidth * kPairWidth;
    spd_head = linear(kEncoder + "blend_spd_pred_head.linear", kSpdClasses, kPairFeatures);
    edge_head = linear(kEncoder + "blend_edge_pred_head.linear_map_feature", kPathHops * kEdgeClasses, kPairFeatures);
    const std::string head3d = kEncoder + "blend_3d_pred_head.";
    distance_inner = linear(head3d + "linear", c.distance_hidden, kPairFeatures);
    // The reference's three maps give a displacement; the distance target needs one, under a name of its own.
    distance_outer = c.target == DistanceTarget::displacement
                         ? add_adjacent({head3d + "force_proj1", head3d + "force_proj2", head3d + "force_proj3"}, 1,
                                        c.distance_hidden)
                         : linear(head3d + "distance_proj", 1, c.distance_hidden);
  }
  align();
}

}  // namespace moleblend
