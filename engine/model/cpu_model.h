#pragma once
// The network on the CPU, forward and backward, in float or (for checks) double.

#include "engine/model/layout.h"
#include "engine/model/model.h"
#include "kernels/attention/attention.h"
#include "kernels/common/carve.h"

namespace moleblend {

/// Optional outputs of a pretraining pass, for inspection: buffers of the caller, or null.
template <class T>
struct PretrainProbe {
  T* spd_logits = nullptr;            // [P, 11]
  T* edge_logits = nullptr;           // [P, 120]
  T* distance_predictions = nullptr;  // [P, 3] or [P, 1]
  T* denoise_prediction = nullptr;    // [N, 3]
};

template <class T>
class CpuModel final : public Model {
 public:
  CpuModel(const ModelConfig& config, int threads);

  const ModelConfig& config() const override { return config_; }
  const std::vector<ParameterInfo>& parameters() const override { return layout_.parameters(); }
  std::int64_t parameter_count() const override { return layout_.size(); }
  void read(int moment, std::span<float> out) const override;
  void write(int moment, std::span<const float> in) override;
  void read_gradient(std::span<float> out) const override;
  void zero_gradients() override;
  PretrainResult pretrain(const Batch& batch, const PretrainStep& step) override;
  double property(const Batch& batch, const PropertyStep& step, std::vector<double>* logits) override;
  double update(const AdamSettings& settings, double learning_rate, std::int64_t step) override;

  // For checks.
  const ParameterLayout& layout() const { return layout_; }
  std::span<T> values(int moment) { return buffers_[static_cast<std::size_t>(moment)]; }
  std::span<const T> gradient() const { return gradient_; }
  PretrainProbe<T> probe;

  /// What a layer keeps for its backward pass.
  struct LayerState {
    T* qkv;                        // [T, 3 D]
    T* attended;                   // [T, D]
    T *normalised1, *rstd1, *mid;  // [T, D], [T], [T, D] after the first LayerNorm
    T *hidden, *activated;         // [T, F] before and after gelu
    T *normalised2, *rstd2, *out;  // [T, D], [T], [T, D]
  };
  /// What a pass keeps, carved from one block sized by the batch; valid until the next pass.
  struct State {
    std::uint8_t *pair_visible, *atom_visible;  // [P], [N]
    float* noise;                               // [N, 3] ångström
    T* positions;                               // [N, 3] noised
    T* bias;                                    // [H · token_pairs]
    T *gaussian_sum, *gaussian_term;            // [N, K], [N, D]
    T *embedded, *normalised, *rstd, *first;    // [T, D] before LayerNorm; … ; [T, D] after
    T* branch;                                  // [T, D] of the sub-layer at work, before the residual
    std::vector<LayerState> layer;
    // Heads.
    T* atoms;                             // [N, D] last layer's atoms
    T *pair_raw, *pair_features;          // [N, 192] before and after gelu + LayerNorm
    T *distance_weight, *distance_bias;   // the 3D head's product of factors
    T* denoise_qkv;                       // [N, 3 D]
    T *dense, *dense_activated, *logits;  // property head: [rows, D], [rows, D], [rows, tasks]
    T* readout;                           // [B, max(D, tasks)]
    // Gradients, transient.
    T *dx, *dbranch, *dwide;  // [T, D], [T, D], [T, max(3 D, F)]
    T* dnarrow;               // [T, D]
    T* dbias;                 // [H · token_pairs]
    T *dgaussian_sum, *dgaussian_term;
    T* dpair_features;  // [N, 192]
    T *ddistance_weight, *ddistance_bias;
  };
  const State& state() const { return state_; }

 private:
  void carve(Carver& carver, const Packed& packed, bool gradients);
  void reserve(const Packed& packed, bool gradients);
  void draw(const Batch& batch, const PretrainStep& step);
  void encode(const Batch& batch, bool dropout);
  /// dx of the last layer's output is in state_.dx; adds all gradients of the encoder and the embeddings.
  void encode_backward(const Batch& batch, bool dropout);
  PretrainResult heads(const Batch& batch, const PretrainStep& step);

  T* parameter(std::int64_t offset) { return buffers_[0].data() + offset; }
  T* gradient(std::int64_t offset) { return gradient_.data() + offset; }
  void linear(std::int64_t rows, std::int64_t in, std::int64_t out, ParameterLayout::Linear map, const T* x, T* y);
  void linear_gradients(std::int64_t rows, std::int64_t in, std::int64_t out, ParameterLayout::Linear map, const T* x,
                        const T* dy, T* dx, bool add_to_dx);
  RelationBiasInput<T> relation_input(const Batch& batch);
  AttentionInput<T> attention_input(const Batch& batch, std::size_t l, bool dropout);
  Dropout drop_path(std::size_t l, bool dropout) const;

  ModelConfig config_;
  ParameterLayout layout_;
  Cpu cpu_;
  std::vector<T> buffers_[3];  // parameters, Adam's m and v
  std::vector<T> gradient_;
  ScratchBlock memory_;
  State state_;
};

}  // namespace moleblend
