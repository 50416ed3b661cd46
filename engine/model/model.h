#pragma once
// The network on a device, behind one interface: the training loop, evaluation and checkpoints know only this.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/config.h"
#include "engine/ranks/ranks.h"
#include "io/loader/batch.h"
#include "kernels/common/cpu.h"

namespace moleblend {

/// One named tensor of the network; names and layouts are the reference's.
struct ParameterInfo {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t offset, count;  // in the flat buffers
  enum class Kind {
    linear,
    bias,
    embedding,
    norm_weight,
    norm_bias,
    gaussian_mean,
    gaussian_std,
    gaussian_mul,
    gaussian_bias
  } kind;
  bool padding_row;  // row 0 of the table is zero and stays so
};

/// Everything a loss is averaged over, counted over the global batch before its first forward pass.
struct TargetCounts {
  std::int64_t spd_pairs = 0, edge_hops = 0, distance_molecules = 0, denoise_atoms = 0;
  TargetCounts& operator+=(const TargetCounts& o);
};
/// Counts of one micro-batch; repeats the draws of its atoms.
TargetCounts count_targets(const Batch& batch, const Objective& objective);
/// The same for atoms that show what they are told (bits of AtomVisible, [N]).
TargetCounts count_targets(const Batch& batch, std::span<const std::uint8_t> atom_visible);

/// Draws handed in from outside instead of being drawn from the keys (checks against the reference).
struct FixedDraws {
  std::span<const std::uint8_t> pair_visible;  // [P]
  std::span<const std::uint8_t> atom_visible;  // [N]
  std::span<const float> noise;                // [N, 3] ångström
};

struct PretrainStep {
  const Objective* objective;
  TargetCounts counts;    // of the global batch
  bool dropout = true;    // off for evaluation
  bool gradients = true;  // off for evaluation
  /// The last pass before update(): of a model that has joined ranks, gradients go to the others as they become final.
  bool last = false;
  const FixedDraws* draws = nullptr;
  /// Called once while the device works: the batch of the next pass, which must stay where it is until then, or null. May be empty, and a
  /// device that has nothing to gain from it does not call it.
  std::function<const Batch*()> upcoming = nullptr;
};

/// Losses of a micro-batch, already divided by the global counts, so that micro-batches (and ranks) simply add up; and
/// the scores that evaluation reports.
struct PretrainResult {
  double spd = 0, edge = 0, distance = 0, denoise = 0, total = 0;  // unweighted parts; total is weighted
  PairLossResult spd_detail, edge_detail, distance_detail;
  double denoise_cosine = 0;  // Σ over atoms
  std::int64_t denoise_atoms = 0;
  PretrainResult& operator+=(const PretrainResult& o);
};

/// Fine-tuning and prediction.
struct PropertyStep {
  PropertyTask task = PropertyTask::regression;
  Readout readout = Readout::cls;
  bool show_2d = true, show_3d = false;
  std::span<const double> labels = {};           // [B, tasks]; empty: forward only
  std::span<const double> mean = {}, std = {};   // [tasks], regression
  std::span<const double> positive_weight = {};  // [tasks], classification: of labels 1; empty: all 1
  std::int64_t label_count = 0;                  // present labels of the global batch
  bool dropout = true, gradients = true;
  bool freeze_encoder = false;  // gradients of the head alone
  bool last = false;            // as in PretrainStep
};

/// Parameters [begin, end) of the flat buffers learn with the learning rate times `factor`.
struct RateRange {
  std::int64_t begin, end;
  double factor;
  bool operator==(const RateRange&) const = default;
};

/// What is shown to the encoder, and which rows of its last layer are wanted.
struct EncodeStep {
  bool show_2d = true, show_3d = false;           // as in PropertyStep
  std::optional<Readout> readout = Readout::cls;  // a row a molecule; none: a row an atom
};

struct AdamSettings {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0, clip_norm = 5;
  /// Disjoint; what is in none stays as it is. Empty: everything learns alike.
  std::vector<RateRange> ranges = {};
};

/// Time of the device that one part of the work took.
struct PartTime {
  std::string_view name;
  double seconds;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelConfig& config() const = 0;
  virtual const std::vector<ParameterInfo>& parameters() const = 0;
  virtual std::int64_t parameter_count() const = 0;
  /// Where it runs, for people: "cpu, 8 threads, fp32", "cuda, NVIDIA H200 with 150.1 GB, bf16".
  virtual std::string place() const = 0;
  /// Bytes of the device's memory that a pass over such a batch takes, beside parameters, moments and scratch.
  virtual std::size_t batch_bytes(const Packed& packed, bool gradients) const = 0;

  /// Flat buffers of parameter_count() values, converted to and from float. `moment`: 0 = parameters, 1 and 2 = Adam's
  /// m and v.
  virtual void read(int moment, std::span<float> out) const = 0;
  virtual void write(int moment, std::span<const float> in) = 0;
  virtual void read_gradient(std::span<float> out) const = 0;

  /// Called by all ranks: from now on gradients are those of all together. `ranks` outlives the model. Returns how they are added up, for
  /// people; nothing for one rank.
  virtual std::string join(Ranks& ranks) = 0;

  virtual void zero_gradients() = 0;
  /// Forward, losses and (if asked for) backward of one micro-batch; gradients are added.
  virtual PretrainResult pretrain(const Batch& batch, const PretrainStep& step) = 0;
  /// Forward (and backward) of the property head; `logits` [B, tasks] in the label's unit for regression. Returns Σ
  /// loss / label_count.
  virtual double property(const Batch& batch, const PropertyStep& step, std::vector<double>* logits) = 0;
  /// Forward pass of the encoder alone, without dropouts, of a pretraining or a property model: rows [B, D], or [N, D] of the atoms in
  /// their order.
  virtual void encode(const Batch& batch, const EncodeStep& step, std::vector<float>& rows) = 0;
  /// Ends what a pass with `last` began: update() uses Σ over the ranks. `ranks` belongs to the model from that pass until this returns,
  /// and is the caller's again between this and the next pass. Nothing to do for one rank.
  virtual void sum_gradients() = 0;
  /// The global norm of the gradient, after sum_gradients(). Changes nothing.
  virtual double gradient_norm() = 0;
  /// Clips by the global norm and updates; `step` >= 1 is Adam's t. Returns the norm before clipping. A non-finite norm
  /// changes nothing.
  virtual double update(const AdamSettings& settings, double learning_rate, std::int64_t step) = 0;

  /// From now on takes the time of each part of the work, where a model knows its parts; costs a little.
  virtual void watch() {}
  /// Since the last call (or watch()), every part once, in a fixed order. Waits for the device.
  virtual std::vector<PartTime> part_times() { return {}; }
};

/// A network on the CPU with parameters of zero. `double_precision` is for checks; one that does not learn has no gradient and no moments.
std::unique_ptr<Model> make_cpu_model(const ModelConfig& config, Cpu::Place place, bool double_precision = false,
                                      bool learns = true);

/// Initial values (METHOD section 8), drawn from `seed` and each parameter's name. `reference`: the Gaussian tables too
/// from N(0, 0.02).
void initialise(Model& model, std::uint64_t seed, bool reference);

}  // namespace moleblend
