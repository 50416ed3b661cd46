#pragma once
// The network, forward and backward, written once for every device: Device is Cpu or Gpu, T is what activations are stored in.
// Its operations are the overloads of kernels/ for the device; what they share lies in the device's memory.

#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>

#include "engine/model/batch_view.h"
#include "engine/model/layout.h"
#include "engine/model/model.h"
#include "engine/model/step_parts.h"
#include "engine/ranks/gradient_sum.h"
#include "kernels/attention/attention.h"
#include "kernels/common/carve.h"
#include "kernels/denoise_head/denoise_head.h"
#include "kernels/property_loss/property_loss.h"

namespace moleblend {

/// Optional outputs of a pretraining pass, for inspection: buffers of the caller in the device's memory, or null.
template <class T>
struct PretrainProbe {
  Wide<T>* spd_logits = nullptr;            // [P, 11]
  Wide<T>* edge_logits = nullptr;           // [P, 120]
  Wide<T>* distance_predictions = nullptr;  // [P, 3] or [P, 1]
  Wide<T>* denoise_prediction = nullptr;    // [N, 3]
};

template <class Device, class T>
class Network final : public Model {
 public:
  using W = Wide<T>;  // of parameters, their gradients and all sums

  /// Parameters and moments are zero. `place`: what the Device is made of (Cpu: threads and precision of products; Gpu: ordinal). A network
  /// that does not learn has neither gradient nor moments, a quarter of the memory; what needs them throws std::logic_error.
  Network(const ModelConfig& config, typename Device::Place place, bool learns = true);

  const ModelConfig& config() const override { return config_; }
  const std::vector<ParameterInfo>& parameters() const override { return layout_.parameters(); }
  std::int64_t parameter_count() const override { return layout_.size(); }
  void read(int moment, std::span<float> out) const override;
  void write(int moment, std::span<const float> in) override;
  void read_gradient(std::span<float> out) const override;
  std::string place() const override;
  std::size_t batch_bytes(const Packed& packed, bool gradients) const override;
  std::string join(Ranks& ranks) override;
  void zero_gradients() override;
  PretrainResult pretrain(const Batch& batch, const PretrainStep& step) override;
  double property(const Batch& batch, const PropertyStep& step, std::vector<double>* logits) override;
  void encode(const Batch& batch, const EncodeStep& step, std::vector<float>& rows) override;
  void sum_gradients() override;
  double gradient_norm() override;
  double update(const AdamSettings& settings, double learning_rate, std::int64_t step) override;
  void watch() override;
  std::vector<PartTime> part_times() override;

  // For checks. Pointers are to the device's memory.
  Device& device() { return device_; }
  const ParameterLayout& layout() const { return layout_; }
  std::span<W> values(int moment) { return {values_[moment], static_cast<std::size_t>(layout_.size())}; }
  std::span<const W> gradient() const { return {gradient_, static_cast<std::size_t>(layout_.size())}; }
  /// As products read it: in T.
  const T* weight(std::int64_t offset) const {
    if constexpr (std::is_same_v<T, W>)
      return values_[0] + offset;
    else
      return shadow_ + offset;
  }
  PretrainProbe<T> probe;

  /// What a layer keeps for its backward pass.
  struct LayerState {
    T* qkv;                 // [T, 3 D]
    T* attended;            // [T, D]
    T *normalised1, *mid;   // [T, D] inside and after the first LayerNorm
    T *hidden, *activated;  // [T, F] before and after gelu
    T *normalised2, *out;   // [T, D]
    W *rstd1, *rstd2;       // [T]
  };
  /// Losses and scores, written by the operations and read once at the end of a pass.
  struct Results {
    PairLossResult spd, edge, distance;
    DenoiseResult denoise;
    PropertyLossResult property;
    double norm = 0;
  };
  /// What a pass keeps, carved from one block sized by the batch; valid until the next pass.
  struct State {
    std::uint8_t *pair_visible, *atom_visible;  // [P], [N]
    float* noise;                               // [N, 3] ångström
    W* positions;                               // [N, 3] noised
    T* bias;                                    // [H · token_pairs]
    T *gaussian_sum, *gaussian_term;            // [N, K], [N, D]
    T *embedded, *normalised, *first;           // [T, D] before, inside and after the first LayerNorm
    W* rstd;                                    // [T]
    T* branch;                                  // [T, D] of the sub-layer at work, before the residual
    std::vector<LayerState> layer;
    // Heads.
    T* atoms;                             // [N, D] last layer's atoms
    T *pair_raw, *pair_features;          // [N, 192] before and after gelu + LayerNorm
    T* distance_weight;                   // the 3D head's product of factors
    W* distance_bias;                     //
    T* denoise_qkv;                       // [N, 3 D]
    T *dense, *dense_activated, *logits;  // property head: [rows, D], [rows, D], [rows, tasks]
    T* readout;                           // [B, max(D, tasks)]
    double *labels, *mean, *std;          // [B, tasks], [tasks], [tasks]
    double* positive_weight;              // [tasks]
    // Gradients, transient.
    T *dx, *dbranch, *dwide;  // [T, D], [T, D], [T, max(3 D, F)]
    T* dnarrow;               // [T, D]
    W* dbias;                 // [H · token_pairs]
    T *dgaussian_sum, *dgaussian_term;
    T* dpair_features;  // [N, 192]
    W *ddistance_weight, *ddistance_bias;
  };
  const State& state() const { return state_; }

 private:
  static void carve(State& state, Carver& carver, const ModelConfig& config, const Packed& packed, bool gradients);
  void reserve(const Packed& packed, bool gradients);
  void draw(const BatchView& batch, const PretrainStep& step);
  /// Outside pretraining: the same relations for all pairs, and clean positions.
  void show(const BatchView& batch, bool graph, bool distance);
  void encode(const BatchView& batch, bool dropout);
  /// dx of the last layer's output is in state_.dx; adds all gradients of the encoder and the embeddings. `last`: nothing is added to a
  /// gradient after this pass.
  void encode_backward(const BatchView& batch, bool dropout, bool last);
  /// Returns whether there is anything to denoise.
  bool heads(const BatchView& batch, const PretrainStep& step);
  PretrainResult collect(const PretrainStep& step, bool denoises);

  void need_gradient() const {
    if (!gradient_) throw std::logic_error("a network that does not learn has no gradient and no moments");
  }
  void read_from(const W* from, std::span<float> out) const;
  /// The device, for work of this part.
  Device& at(StepPart part) {
    if (marks_) marks_->mark(static_cast<int>(part));
    return device_;
  }

  W* parameter(std::int64_t offset) { return values_[0] + offset; }
  W* gradient(std::int64_t offset) { return gradient_ + offset; }
  void linear(std::int64_t rows, std::int64_t in, std::int64_t out, ParameterLayout::Linear map, const T* x, T* y);
  void linear_gradients(std::int64_t rows, std::int64_t in, std::int64_t out, ParameterLayout::Linear map, const T* x,
                        const T* dy, T* dx, bool add_to_dx, bool with_bias = true);
  RelationBiasInput<T> relation_input(const BatchView& batch);
  AttentionInput<T> attention_input(const BatchView& batch, std::size_t l, bool dropout);
  Dropout drop_path(std::size_t l, bool dropout) const;

  ModelConfig config_;
  ParameterLayout layout_;
  // Read-only calls of Model wait for the device, which is not a change that its callers see.
  mutable Device device_;
  typename Device::Block parameters_;  // holds the next four, and the results
  W* values_[3];                       // parameters, Adam's m and v
  W* gradient_;
  T* shadow_;  // the parameters in T; null where T is W
  Results* results_;
  typename Device::Block memory_;
  DeviceBatch<Device> batch_;
  State state_;
  std::optional<typename Device::Marks> marks_;
  std::unique_ptr<GradientSum> sum_;  // of many ranks
};

}  // namespace moleblend
