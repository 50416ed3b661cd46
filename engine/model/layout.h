#pragma once
// Where each parameter lies in the flat buffers. Parameters, gradients and Adam's moments have the same layout: one
// gradient buffer means one norm, one update and, with many ranks, one all-reduce.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/model.h"
#include "kernels/relation_bias/relation_bias.h"

namespace moleblend {

/// Offsets of the tensors that operations use. Tensors that one operation reads together are adjacent (q, k and v; the
/// six maps of the pair heads), so that one product serves them; each keeps the reference's name in a checkpoint.
class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelConfig& config);

  const std::vector<ParameterInfo>& parameters() const { return parameters_; }
  /// Length of a flat buffer. Gaps between tensors (alignment to 64 bytes of float) stay zero.
  std::int64_t size() const { return size_; }

  /// The relation encodings' tables in a flat buffer; null where the network has none.
  template <class U>
  RelationTables<U> relation_tables(U* base) const {
    const auto at = [&](std::int64_t offset) -> U* { return offset < 0 ? nullptr : base + offset; };
    return {.spd_table = at(spd_table),
            .edge_table = at(edge_table),
            .edge_hop = at(edge_hop),
            .graph_token = at(bias_graph_token),
            .gaussian_mul = at(gaussian_mul),
            .gaussian_bias = at(gaussian_bias),
            .gaussian_mean = at(gaussian_mean),
            .gaussian_std = at(gaussian_std),
            .distance_w1 = at(distance1.weight),
            .distance_b1 = at(distance1.bias),
            .distance_w2 = at(distance2.weight),
            .distance_b2 = at(distance2.bias)};
  }

  struct Linear {
    std::int64_t weight, bias;
  };
  struct Layer {
    Linear qkv, out, attention_norm, fc1, fc2, final_norm;
  };
  // Embeddings.
  std::int64_t atom_table, in_degree_table, out_degree_table, graph_token;
  // Relation encodings.
  std::int64_t spd_table, edge_table, edge_hop, bias_graph_token;
  std::int64_t gaussian_mean, gaussian_std, gaussian_mul, gaussian_bias;
  Linear distance1, distance2, gaussian_projection;
  // Encoder.
  Linear embedding_norm;
  std::vector<Layer> layers;
  // Pretraining heads. Maps: SPD row, SPD column, edge row, edge column, 3D row, 3D column.
  Linear denoise_qkv, force, pair_maps, pair_norm, spd_head, edge_head, distance_inner, distance_outer;
  // Property head.
  Linear property_dense, property_out;

 private:
  using Kind = ParameterInfo::Kind;
  void align();
  std::int64_t add(std::string name, std::vector<std::int64_t> shape, Kind kind, bool padding_row = false);
  /// Weights of all names one after another, then their biases. `in` = 0: a norm (weight and bias of `out` values).
  Linear add_adjacent(const std::vector<std::string>& names, std::int64_t out, std::int64_t in);

  std::vector<ParameterInfo> parameters_;
  std::int64_t size_ = 0;
};

}  // namespace moleblend
