// The tables that forward and backward of the relation bias build first.

#include "kernels/relation_bias/encodings.cuh"

namespace moleblend::relation {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

/// A thread has an entry of the hop table: 5 · 60 vectors instead of a matrix product a pair.
__global__ void __launch_bounds__(kThreads) build_hops(const Input in, const DeviceEncodings e) {
  const std::int64_t heads = in.heads, at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= kPathHops * kHopRows * heads) return;
  const std::int64_t h = at % heads, d = at / heads / kHopRows;
  const auto code = static_cast<std::uint8_t>(at / heads % kHopRows);
  const float* table = in.tables.edge_table;
  const auto mean = [&](std::int64_t q) {
    float sum = 0;
    for (int f = 0; f < kBondFeatures; ++f) sum += table[edge_row(code, f) * heads + q];
    return sum / 3.0f;
  };
  float value = 0;
  if (code > 0) {
    const float* w = in.tables.edge_hop + d * heads * heads + h;
    for (std::int64_t q = 0; q < heads; ++q) value += mean(q) * w[q * heads];
  }
  e.hop[at] = value;
  if (d == 0) e.bond_mean[at] = code > 0 ? mean(h) : 0.0f;
}

/// The distance encoder's parameters as its kernels want them; a thread has a place in [max(KP, HP), KP].
__global__ void __launch_bounds__(kThreads) build_distance(const Input in, const DeviceEncodings e) {
  const std::int64_t kernels = in.kernels, heads = in.heads, at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t row = at / e.kernels, column = at % e.kernels;
  const bool inside = column < kernels;
  if (row == 0) {
    // π as the reference has it.
    const double sigma = inside ? fabs(static_cast<double>(in.tables.gaussian_std[column])) + 0.01 : 1.0;
    e.mean[column] = inside ? in.tables.gaussian_mean[column] : 0.0f;
    e.inverse_sigma[column] = inside ? static_cast<float>(1 / sigma) : 0.0f;
    e.height[column] = inside ? static_cast<float>(1 / (sqrt(2 * 3.14159) * sigma)) : 0.0f;
    e.b1[column] = inside ? in.tables.distance_b1[column] : 0.0f;
  }
  if (column == 0 && row < e.heads) e.b2[row] = row < heads ? in.tables.distance_b2[row] : 0.0f;
  const float w1 = inside && row < kernels ? in.tables.distance_w1[row * kernels + column] : 0.0f;
  const float w2 = inside && row < heads ? in.tables.distance_w2[row * kernels + column] : 0.0f;
  if (e.w1) {
    if (row < e.kernels) e.w1[at] = round_to_bf16(w1);
    if (row < e.heads) e.w2[at] = round_to_bf16(w2);
  } else {
    if (row < kernels) e.w1_transposed[column * kernels + row] = w1;
    if (row < heads) e.w2_transposed[column * heads + row] = w2;
  }
}

}  // namespace

DeviceEncodings DeviceEncodings::carve(Carver& carver, const Input& in, bool tensor_cores) {
  DeviceEncodings e{};
  e.kernels = tensor_cores ? padded_kernels(in.kernels) : in.kernels;
  e.heads = tensor_cores ? padded_heads(in.heads) : in.heads;
  e.bond_mean = carver.take<float>(kHopRows * in.heads);
  e.hop = carver.take<float>(kPathHops * kHopRows * in.heads);
  if (!has_distances(in)) return e;
  e.mean = carver.take<float>(e.kernels);
  e.inverse_sigma = carver.take<float>(e.kernels);
  e.height = carver.take<float>(e.kernels);
  e.b1 = carver.take<float>(e.kernels);
  e.b2 = carver.take<float>(e.heads);
  if (tensor_cores) {
    e.w1 = carver.take<bf16>(e.kernels * e.kernels);
    e.w2 = carver.take<bf16>(e.heads * e.kernels);
  } else {
    e.w1_transposed = carver.take<float>(e.kernels * e.kernels);
    e.w2_transposed = carver.take<float>(e.kernels * e.heads);
  }
  return e;
}

void build_encodings(Gpu& gpu, const Input& in, const DeviceEncodings& e) {
  launch(gpu, build_hops, dim3(blocks_for(kPathHops * kHopRows * in.heads, kThreads)), dim3(kThreads), 0, in, e);
  if (has_distances(in)) {
    launch(gpu, build_distance, dim3(blocks_for(std::max(e.kernels, e.heads) * e.kernels, kThreads)), dim3(kThreads), 0,
           in, e);
  }
}

}  // namespace moleblend::relation
