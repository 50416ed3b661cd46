#pragma once
// A model simple enough to know what it must do: parameters p pulled towards a point that the batch names. What it
// learns depends on every molecule, on its key and on the order of the steps, and on nothing else, so bookkeeping
// errors of a training loop show.

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "engine/model/model.h"
#include "kernels/random/philox.h"

namespace moleblend::testing {

class FakeModel : public Model {
 public:
  explicit FakeModel(std::vector<std::pair<std::string, std::vector<std::int64_t>>> tensors = {{"a.weight", {3, 2}},
                                                                                               {"a.bias", {3}}}) {
    config_.name = "tiny";
    std::int64_t offset = 0;
    for (auto& [name, shape] : tensors) {
      std::int64_t count = 1;
      for (const std::int64_t n : shape) count *= n;
      parameters_.push_back({name, shape, offset, count, ParameterInfo::Kind::linear, false});
      offset += count + 1;  // a gap, as alignment leaves them
    }
    for (std::vector<float>* v : {&values_[0], &values_[1], &values_[2], &gradient_})
      v->assign(static_cast<std::size_t>(offset), 0.f);
    for (const ParameterInfo& p : parameters_)
      for (std::int64_t k = 0; k < p.count; ++k)
        values_[0][static_cast<std::size_t>(p.offset + k)] = 0.1f * static_cast<float>(k + 1);
  }

  const ModelConfig& config() const override { return config_; }
  const std::vector<ParameterInfo>& parameters() const override { return parameters_; }
  std::int64_t parameter_count() const override { return static_cast<std::int64_t>(gradient_.size()); }
  std::string place() const override { return "nowhere"; }
  std::size_t batch_bytes(const Packed&, bool) const override { return 0; }
  void read(int moment, std::span<float> out) const override {
    std::copy(values_[moment].begin(), values_[moment].end(), out.begin());
  }
  void write(int moment, std::span<const float> in) override {
    std::copy(in.begin(), in.end(), values_[moment].begin());
  }
  void read_gradient(std::span<float> out) const override {
    std::copy(gradient_.begin(), gradient_.end(), out.begin());
  }
  std::string join(Ranks& ranks) override {
    ranks_ = &ranks;
    return {};
  }
  void zero_gradients() override { std::fill(gradient_.begin(), gradient_.end(), 0.f); }

  PretrainResult pretrain(const Batch& batch, const PretrainStep& step) override {
    dropout_seen |= step.dropout;
    // The target of a molecule is a number in [0, 1) made from its key; losses are divided by a global count, as the
    // contract says.
    PretrainResult result;
    const double molecules = static_cast<double>(std::max<std::int64_t>(step.counts.spd_pairs, 1));
    for (std::int64_t b = 0; b < batch.molecules(); ++b) {
      if (batch.index[b] == poisoned) result.spd = std::numeric_limits<double>::quiet_NaN();
      const double target =
          unit_float(static_cast<std::uint32_t>(batch.key[b] >> 16)) + (batch.key[b] == spiking ? 1e3 : 0);
      for (const ParameterInfo& p : parameters_)
        for (std::int64_t k = p.offset; k < p.offset + p.count; ++k) {
          const double difference = values_[0][static_cast<std::size_t>(k)] - target;
          result.spd += 0.5 * difference * difference / molecules;
          result.spd_detail.loss += 0.5 * difference * difference;
          if (step.gradients) gradient_[static_cast<std::size_t>(k)] += static_cast<float>(difference / molecules);
        }
      result.spd_detail.count += 1;
    }
    result.total = result.spd;
    return result;
  }
  double property(const Batch&, const PropertyStep&, std::vector<double>*) override {
    throw std::logic_error("not a property model");
  }

  /// Each row says which molecule it is of, and from what it was made.
  void encode(const Batch& batch, const EncodeStep& step, std::vector<float>& rows) override {
    rows.clear();
    for (std::int64_t b = 0; b < batch.molecules(); ++b) {
      const std::int64_t atoms = batch.packed().atoms_of(b);
      for (std::int64_t row = 0; row < (step.readout ? 1 : atoms); ++row)
        for (std::int64_t k = 0; k < config_.width; ++k)
          rows.push_back(static_cast<float>(batch.index[static_cast<std::size_t>(b)]) +
                         (batch.has_positions[static_cast<std::size_t>(b)] ? 0.5f : 0.f) +
                         0.001f * static_cast<float>(row));
    }
  }

  void sum_gradients() override { ranks_->sum(std::span(gradient_)); }
  double gradient_norm() override {
    double squares = 0;
    for (const float g : gradient_) squares += double(g) * g;
    return std::sqrt(squares);
  }
  double update(const AdamSettings& settings, double rate, std::int64_t step) override {
    steps_seen.push_back(step);
    rates_seen.push_back(rate);
    const double norm = gradient_norm();
    if (!std::isfinite(norm)) return norm;
    for (std::size_t k = 0; k < gradient_.size(); ++k) {
      values_[1][k] = static_cast<float>(settings.beta1 * values_[1][k] + (1 - settings.beta1) * gradient_[k]);
      values_[2][k] =
          static_cast<float>(settings.beta2 * values_[2][k] + (1 - settings.beta2) * gradient_[k] * gradient_[k]);
      values_[0][k] -= static_cast<float>(rate * values_[1][k] / (std::sqrt(values_[2][k]) + 1e-3));
    }
    return norm;
  }

  std::vector<float> values(int moment) const { return values_[moment]; }
  /// Makes every number of one buffer different.
  void fill(int moment, float start) {
    for (const ParameterInfo& p : parameters_)
      for (std::int64_t k = 0; k < p.count; ++k)
        values_[moment][static_cast<std::size_t>(p.offset + k)] = start += 0.25f;
  }

  bool dropout_seen = false;
  std::uint64_t poisoned = ~std::uint64_t{0};  // molecule whose loss is NaN, and whose gradient is not
  std::uint64_t spiking = 0;                   // key of the molecule and epoch whose loss lies far above all others
  std::vector<std::int64_t> steps_seen;
  std::vector<double> rates_seen;

 private:
  Ranks* ranks_ = &sole_rank();
  ModelConfig config_ = ModelConfig::named("tiny");
  std::vector<ParameterInfo> parameters_;
  std::vector<float> values_[3], gradient_;
};

}  // namespace moleblend::testing
