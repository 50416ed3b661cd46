#pragma once
// A network as a plain bf16 program has it: the CPU's operations in float, with every array that one operation hands to another rounded
// to bf16, and products that read rounded weights. It is the measure of what bf16 costs, and so of what the GPU's bf16 may cost.

#include "engine/model/network_impl.h"
#include "kernels/common/precision.h"

namespace moleblend {
namespace testing {
struct PlainBf16 : Cpu {
  using Cpu::Cpu;
};
}  // namespace testing

template <>
class DeviceBatch<testing::PlainBf16> : public DeviceBatch<Cpu> {
 public:
  using DeviceBatch<Cpu>::DeviceBatch;
};

namespace testing {

inline void round_all(float* values, std::int64_t count) {
  if (values)
    for (std::int64_t k = 0; k < count; ++k) values[k] = to_float(to_bf16(values[k]));
}
inline std::vector<float> rounded_copy(const float* values, std::int64_t count) {
  std::vector<float> copy(values, values + count);
  round_all(copy.data(), count);
  return copy;
}
inline Cpu& cpu(PlainBf16& device) {
  return device;
}

template <class T>
void linear_forward(PlainBf16& d, const LinearForward<T>& a) {
  LinearForward<T> b = a;
  const auto weight = rounded_copy(a.weight, a.in * a.out), bias = rounded_copy(a.bias, a.bias ? a.out : 0);
  b.weight = weight.data();
  if (a.bias) b.bias = bias.data();
  linear_forward<T>(cpu(d), b);
  round_all(a.y, a.rows * a.out);
}
template <class T>
void linear_backward(PlainBf16& d, const LinearBackward<T>& a) {
  LinearBackward<T> b = a;
  const auto weight = rounded_copy(a.weight, a.in * a.out);
  b.weight = weight.data();
  linear_backward<T>(cpu(d), b);
  round_all(a.dx, a.rows * a.in);
}
template <class T>
void relation_bias_forward(PlainBf16& d, const RelationBiasForward<T>& a) {
  relation_bias_forward<T>(cpu(d), a);
  round_all(a.bias, a.in.heads * a.in.packed.token_pairs());
  round_all(a.gaussian_sum, a.in.packed.atoms() * a.in.kernels);
}
template <class T>
void relation_bias_backward(PlainBf16& d, const RelationBiasBackward<T>& a) {
  relation_bias_backward<T>(cpu(d), a);
}
template <class T>
void atom_embedding_forward(PlainBf16& d, const AtomEmbeddingForward<T>& a) {
  atom_embedding_forward<T>(cpu(d), a);
  round_all(a.x, a.packed.tokens() * a.width);
}
template <class T>
void atom_embedding_backward(PlainBf16& d, const AtomEmbeddingBackward<T>& a) {
  atom_embedding_backward<T>(cpu(d), a);
  round_all(a.dgaussian_term, a.packed.atoms() * a.width);
}
template <class T>
void attention_forward(PlainBf16& d, const AttentionForward<T>& a) {
  attention_forward<T>(cpu(d), a);
  round_all(a.out, a.in.packed.tokens() * a.in.width);
}
template <class T>
void attention_backward(PlainBf16& d, const AttentionBackward<T>& a) {
  attention_backward<T>(cpu(d), a);
  round_all(a.dqkv, a.in.packed.tokens() * 3 * a.in.width);
}
template <class T>
void residual_norm_forward(PlainBf16& d, const ResidualNormForward<T>& a) {
  residual_norm_forward<T>(cpu(d), a);
  round_all(a.y, a.packed.tokens() * a.width);
  round_all(a.normalised, a.packed.tokens() * a.width);
}
template <class T>
void residual_norm_backward(PlainBf16& d, const ResidualNormBackward<T>& a) {
  residual_norm_backward<T>(cpu(d), a);
  round_all(a.dx, a.packed.tokens() * a.width);
  round_all(a.dbranch, a.packed.tokens() * a.width);
}
template <class T>
void gelu_forward(PlainBf16& d, const GeluForward<T>& a) {
  gelu_forward<T>(cpu(d), a);
  round_all(a.y, a.rows * a.features);
}
template <class T>
void gelu_backward(PlainBf16& d, const GeluBackward<T>& a) {
  gelu_backward<T>(cpu(d), a);
  round_all(a.dx, a.rows * a.features);
}
template <class T>
void pair_map_forward(PlainBf16& d, const PairMapForward<T>& a) {
  pair_map_forward<T>(cpu(d), a);
  round_all(a.y, a.rows * a.maps * kPairWidth);
}
template <class T>
void pair_map_backward(PlainBf16& d, const PairMapBackward<T>& a) {
  pair_map_backward<T>(cpu(d), a);
  round_all(a.dx, a.rows * a.maps * kPairWidth);
}
/// A head reads rounded weights and leaves rounded gradients of its features.
template <class Loss, class Run>
void with_rounded_head(const Loss& a, const Run& run) {
  Loss b = a;
  const auto weight = rounded_copy(a.head.weight, a.head.outputs * kPairWidth * kPairWidth);
  b.head.weight = weight.data();
  run(b);
  round_all(a.head.dfeatures, a.packed.atoms() * a.head.stride);
}
template <class T>
void spd_loss(PlainBf16& d, const SpdLoss<T>& a) {
  with_rounded_head(a, [&](const SpdLoss<T>& b) { spd_loss<T>(cpu(d), b); });
}
template <class T>
void edge_loss(PlainBf16& d, const EdgeLoss<T>& a) {
  with_rounded_head(a, [&](const EdgeLoss<T>& b) { edge_loss<T>(cpu(d), b); });
}
template <class T>
void distance_loss(PlainBf16& d, const DistanceLoss<T>& a) {
  with_rounded_head(a, [&](const DistanceLoss<T>& b) { distance_loss<T>(cpu(d), b); });
}
template <class T>
void denoise_head(PlainBf16& d, const DenoiseHead<T>& a) {
  denoise_head<T>(cpu(d), a);
  round_all(a.dqkv, a.packed.atoms() * 3 * a.width);
}
template <class T>
void readout_forward(PlainBf16& d, const Packed& packed, Readout readout, std::int64_t features, const T* x, T* out) {
  readout_forward<T>(cpu(d), packed, readout, features, x, out);
  round_all(out, packed.molecules * features);
}
template <class T>
void property_loss(PlainBf16& d, const PropertyLoss<T>& a) {
  property_loss<T>(cpu(d), a);
  round_all(a.dlogits, a.molecules * a.tasks);
}

}  // namespace testing
}  // namespace moleblend
