// Model::encode: the rows that a property head would read, whatever the head, the batch and the dropouts.

#include <gtest/gtest.h>

#include <cmath>

#include "engine/model/cpu_model.h"
#include "tests/kernels/check.h"
#include "tests/model/random_batch.h"

namespace moleblend::testing {
namespace {

ModelConfig config(std::int64_t tasks) {
  ModelConfig c = ModelConfig::named("tiny");
  c.width = 48, c.heads = 2, c.ffn = 32, c.kernels = 8, c.distance_hidden = 12;
  c.hidden_dropout = 0.1;
  c.drop_path = 0.3;
  c.tasks = tasks;
  return c;
}

std::vector<Molecule> molecules() {
  return {random_molecule(1, 1), random_molecule(7, 2), random_molecule(12, 5), random_molecule(4, 3, false),
          random_molecule(9, 4)};
}

/// The same values for the parameters of the same name.
template <class T>
void fill(CpuModel<T>& model) {
  initialise(model, 7, false);
  for (const ParameterInfo& p : model.parameters()) {
    const auto noise = random_values(static_cast<std::size_t>(p.count), std::hash<std::string>()(p.name), 0.15);
    for (std::size_t k = 0; k < noise.size(); ++k)
      model.values(0)[static_cast<std::size_t>(p.offset) + k] += static_cast<T>(noise[k]);
  }
}

template <class T>
std::vector<T> values_of(CpuModel<T>& model, const std::string& name) {
  for (const ParameterInfo& p : model.parameters())
    if (p.name == name) {
      const auto begin = model.values(0).begin() + p.offset;
      return {begin, begin + p.count};
    }
  throw std::logic_error("no parameter " + name);
}

std::vector<float> encode(Model& model, const Batch& batch, const EncodeStep& step) {
  std::vector<float> rows;
  model.encode(batch, step, rows);
  return rows;
}

// Rows leave the model as float: rounding of 6e-8, of values of order one.
constexpr double kFloat = 1e-6;

/// The head by hand on the rows gives the model's own predictions: the rows are the graph tokens, and see what the head's do.
TEST(Encode, RowsAreWhatThePropertyHeadReads) {
  CpuModel<double> model(config(1), 2);
  fill(model);
  const Batch batch = batch_of(molecules(), {0, 1, 2, 3, 4});
  const auto D = static_cast<std::size_t>(model.config().width);
  const auto dense = values_of(model, "encoder.proj_out.dense.weight"),
             dense_bias = values_of(model, "encoder.proj_out.dense.bias"),
             out = values_of(model, "encoder.proj_out.out_proj.weight"),
             out_bias = values_of(model, "encoder.proj_out.out_proj.bias");
  const std::pair<bool, bool> shown[] = {{true, false}, {false, true}, {true, true}};
  for (const auto& [show_2d, show_3d] : shown) {
    std::vector<double> predictions;
    PropertyStep step;
    step.show_2d = show_2d, step.show_3d = show_3d;
    step.dropout = step.gradients = false;
    model.property(batch, step, &predictions);
    const auto rows = encode(model, batch, {.show_2d = show_2d, .show_3d = show_3d});
    ASSERT_EQ(rows.size(), 5 * D);
    for (std::size_t b = 0; b < 5; ++b) {
      double logit = out_bias[0];
      for (std::size_t i = 0; i < D; ++i) {
        double x = dense_bias[i];
        for (std::size_t j = 0; j < D; ++j) x += dense[i * D + j] * static_cast<double>(rows[b * D + j]);
        logit += out[i] * 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
      }
      EXPECT_TRUE(std::abs(logit - predictions[b]) <= 10 * kFloat) << logit << " and " << predictions[b];
    }
  }
}

TEST(Encode, AtomsAreRowsAndTheirMeanIsTheMean) {
  CpuModel<double> model(config(0), 1);
  fill(model);
  const Batch batch = batch_of(molecules(), {0, 1, 2, 3, 4});
  const auto D = static_cast<std::size_t>(model.config().width);
  const auto atoms = encode(model, batch, {.readout = std::nullopt}),
             mean = encode(model, batch, {.readout = Readout::mean}), cls = encode(model, batch, {});
  ASSERT_EQ(atoms.size(), static_cast<std::size_t>(batch.atoms()) * D);
  ASSERT_EQ(mean.size(), 5 * D);
  EXPECT_NE(mean, cls);
  for (std::size_t b = 0; b < 5; ++b)
    for (std::size_t k = 0; k < D; ++k) {
      const auto first = static_cast<std::size_t>(batch.atom_offset[b]),
                 end = static_cast<std::size_t>(batch.atom_offset[b + 1]);
      double sum = 0;
      for (std::size_t i = first; i < end; ++i) sum += static_cast<double>(atoms[i * D + k]);
      const double expected = sum / static_cast<double>(end - first);
      EXPECT_TRUE(std::abs(static_cast<double>(mean[b * D + k]) - expected) <= kFloat) << b << ", " << k;
    }
}

TEST(Encode, HeadsDoNotMatter) {
  CpuModel<float> pretrained(config(0), 1), property(config(3), 1);
  fill(pretrained);
  fill(property);
  const Batch batch = batch_of(molecules(), {0, 1, 2, 3, 4});
  EXPECT_EQ(encode(pretrained, batch, {.show_3d = true}), encode(property, batch, {.show_3d = true}));
}

TEST(Encode, AModelThatDoesNotLearnGivesTheSameRows) {
  CpuModel<float> learns(config(0), 1), answers(config(0), 1, false);
  fill(learns);
  std::vector<float> values(static_cast<std::size_t>(learns.parameter_count()));
  learns.read(0, values);
  answers.write(0, values);
  const Batch batch = batch_of(molecules(), {0, 1, 2, 3, 4});
  EXPECT_EQ(encode(learns, batch, {.show_3d = true}), encode(answers, batch, {.show_3d = true}));
  const Objective objective;
  const PretrainStep step{.objective = &objective, .counts = count_targets(batch, objective), .gradients = false};
  EXPECT_EQ(learns.pretrain(batch, step).total, answers.pretrain(batch, step).total);
  EXPECT_THROW(answers.zero_gradients(), std::logic_error);
  EXPECT_THROW(answers.pretrain(batch, {.objective = &objective, .counts = step.counts}), std::logic_error);
  EXPECT_THROW(answers.update({}, 1e-3, 1), std::logic_error);
  EXPECT_THROW(answers.read(1, values), std::logic_error);
  EXPECT_THROW(answers.read_gradient(values), std::logic_error);
}

TEST(Encode, NothingIsDrawnAndNothingStays) {
  CpuModel<float> model(config(0), 2);
  fill(model);
  const Batch batch = batch_of(molecules(), {0, 1, 2, 3, 4}, 1), other_keys = batch_of(molecules(), {0, 1, 2, 3, 4}, 2);
  const auto rows = encode(model, batch, {.show_3d = true});
  EXPECT_EQ(rows, encode(model, other_keys, {.show_3d = true}));
  const Objective objective;
  model.pretrain(batch, {.objective = &objective, .counts = count_targets(batch, objective)});
  EXPECT_EQ(rows, encode(model, batch, {.show_3d = true}));
}

TEST(Encode, OtherMoleculesOfTheBatchDoNotMatter) {
  CpuModel<double> model(config(0), 1);
  fill(model);
  const auto together = encode(model, batch_of(molecules(), {0, 1, 2, 3, 4}), {.show_3d = true});
  const std::size_t D = together.size() / 5;
  for (std::uint64_t b = 0; b < 5; ++b) {
    const auto alone = encode(model, batch_of(molecules(), {b}), {.show_3d = true});
    for (std::size_t k = 0; k < D; ++k)
      EXPECT_TRUE(std::abs(static_cast<double>(alone[k] - together[b * D + k])) <= kFloat) << b << ", " << k;
  }
}

TEST(Encode, ShowsWhatItIsTold) {
  CpuModel<float> model(config(0), 1);
  fill(model);
  std::vector<Molecule> moved = molecules();
  for (Molecule& m : moved)
    for (std::size_t k = 0; k < m.positions.size(); k += 3) m.positions[k] *= 1.5f;
  const Batch batch = batch_of(molecules(), {0, 1, 2, 3, 4}), stretched = batch_of(moved, {0, 1, 2, 3, 4});
  const auto D = static_cast<std::size_t>(model.config().width);
  const auto row = [&](const std::vector<float>& rows, std::size_t b) {
    return std::vector<float>(rows.begin() + static_cast<std::ptrdiff_t>(b * D),
                              rows.begin() + static_cast<std::ptrdiff_t>((b + 1) * D));
  };
  const EncodeStep in_2d{}, in_3d{.show_2d = false, .show_3d = true}, in_both{.show_2d = true, .show_3d = true};
  EXPECT_EQ(encode(model, batch, in_2d), encode(model, stretched, in_2d)) << "positions are not shown";
  for (const EncodeStep& step : {in_3d, in_both}) {
    const auto before = encode(model, batch, step), after = encode(model, stretched, step);
    EXPECT_NE(row(before, 1), row(after, 1)) << "positions are shown";
    EXPECT_NE(row(before, 1), row(encode(model, batch, in_2d), 1));
    EXPECT_EQ(row(before, 3), row(encode(model, batch, in_2d), 3)) << "without positions: the graph";
  }
  EXPECT_NE(row(encode(model, batch, in_3d), 1), row(encode(model, batch, in_both), 1));
}

}  // namespace
}  // namespace moleblend::testing
