// Labels, learning rates, answers and the loop of fine-tuning.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/model/cpu_model.h"
#include "engine/property/labels.h"
#include "engine/property/learning_rates.h"
#include "engine/property/predictor.h"
#include "engine/property/presets.h"
#include "engine/property/result.h"
#include "engine/property/splits.h"
#include "engine/property/trainer.h"
#include "engine/training/checkpoint_store.h"
#include "io/support/error.h"
#include "tests/engine/temporary_folder.h"
#include "tests/property/labelled_data.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

void ignore(const std::string&) {}

template <class E, class F>
std::string message_of(F&& call) {
  try {
    call();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

class Finetune : public ::testing::Test {
 protected:
  Finetune() {
    testing::write_labelled_dataset(folder_.path() / "data", 90);
    data_ = std::make_unique<Dataset>(Dataset::open(folder_.path() / "data"));
    settings_.model = ModelConfig::named("tiny");
    settings_.model.drop_path = 0;
    settings_.model.with_distance = false;
    settings_.head.task = PropertyTask::regression;
    settings_.head.targets = {{.column = "hetero", .unit = "%"}};
    settings_.loader.batch_size = 16;
    settings_.epochs = 4;
    settings_.schedule.peak = 2e-3;
  }

  /// Reads labels, splits, and fits what training fits.
  void read() {
    labels_ = std::make_unique<Labels>(*data_, settings_.head);
    const Parts parts = random_parts(data_->size(), {}, 3);
    train_ = labels_->usable(parts.train), valid_ = labels_->usable(parts.valid), test_ = labels_->usable(parts.test);
    fit_targets(settings_.head, count_labels(*labels_, train_), settings_.balance_classes, ignore);
    settings_.model.tasks = static_cast<std::int64_t>(settings_.head.targets.size());
    settings_.schedule.steps = steps_of(settings_.epochs, train_.size(), settings_.loader.batch_size);
  }

  /// Goes on where the folder's newest checkpoint is, or starts; 2 threads.
  FinetuneOutcome run(const std::string& name, Model& model, std::optional<std::int64_t> stop_at = std::nullopt) {
    const fs::path path = folder_.path() / name;
    fs::create_directories(path / "checkpoints");
    const auto found = CheckpointStore(path / "checkpoints", {}).newest(ignore);
    if (found) load_checkpoint(found->path, model);
    return finetune({.data = *data_,
                     .labels = *labels_,
                     .train = train_,
                     .valid = valid_,
                     .model = model,
                     .settings = settings_,
                     .seed = 11,
                     .run = path,
                     .program_version = "test",
                     .first_step = found ? found->state.step : 0,
                     .best = found ? found->state.best : std::nullopt,
                     .stop_at = stop_at,
                     .quiet = true});
  }
  std::unique_ptr<Model> fresh() const {
    auto model = make_cpu_model(settings_.model, 2);
    initialise(*model, 1, false);
    return model;
  }
  static std::vector<float> values(const Model& model) {
    std::vector<float> v(static_cast<std::size_t>(model.parameter_count()));
    model.read(0, v);
    return v;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Dataset> data_;
  FinetuneSettings settings_;
  std::unique_ptr<Labels> labels_;
  Subset train_, valid_, test_;
};

TEST_F(Finetune, LabelsAreReadScaledAndChecked) {
  PropertyHead head{.targets = {{.column = "ring"}, {.column = "hetero", .factor = 0.01}}};
  const Labels labels(*data_, head);
  EXPECT_EQ(labels.tasks(), 2);
  for (int k = 0; k < 90; ++k) {
    const std::vector<double> expected = testing::labels_of(testing::small_molecule(k), k);
    const auto found = labels.of(static_cast<std::uint64_t>(k));
    for (const auto& [f, e] : {std::pair{found[0], expected[1]}, {found[1], 0.01 * expected[0]}}) {
      if (std::isnan(e))
        EXPECT_TRUE(std::isnan(f)) << k;
      else
        EXPECT_EQ(f, e) << k;
    }
    EXPECT_EQ(labels.usable(static_cast<std::uint64_t>(k)), !std::isnan(expected[0]) || !std::isnan(expected[1])) << k;
  }
  // 5 has no label at all; 62 is 8 mod 9 and 6 mod 7.
  EXPECT_EQ(labels.without_label(), 2u);
  EXPECT_EQ(labels.without_positions(), 0u);

  PropertyHead all;
  EXPECT_EQ(Labels(*data_, all, "ring").tasks(), 2);
  EXPECT_EQ(all.targets[0].column, "hetero");
  EXPECT_EQ(all.targets[1].column, "seven");
}

TEST_F(Finetune, WithPositionsAloneMoleculesWithoutThemAreLeftOut) {
  settings_.head.shown = {false, true};
  const Labels labels(*data_, settings_.head);
  std::uint64_t left_out = 0;
  for (int k = 0; k < 90; ++k) {
    const bool labelled = !std::isnan(testing::labels_of(testing::small_molecule(k), k)[0]);
    left_out += labelled && k % 4 == 3;
    EXPECT_EQ(labels.usable(static_cast<std::uint64_t>(k)), labelled && k % 4 != 3);
  }
  EXPECT_EQ(labels.without_positions(), left_out);
}

TEST_F(Finetune, LabelsThatCantBeAreNamed) {
  PropertyHead head{.task = PropertyTask::classification, .targets = {{.column = "hetero"}}};
  const std::string wrong = message_of<Error>([&] { Labels(*data_, head); });
  EXPECT_NE(wrong.find("'hetero'"), std::string::npos) << wrong;
  EXPECT_NE(wrong.find("molecule-"), std::string::npos) << wrong;
  EXPECT_NE(wrong.find("--task regression"), std::string::npos) << wrong;
  head.targets = {{.column = "no such"}};
  const std::string unknown = message_of<UsageError>([&] { Labels(*data_, head); });
  EXPECT_NE(unknown.find("no such"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("hetero, ring, seven"), std::string::npos) << unknown;
}

TEST_F(Finetune, TargetsAreFittedToTheTrainingPart) {
  PropertyHead head{.targets = {{.column = "hetero"}}};
  const Labels labels(*data_, head);
  const auto counts = count_labels(labels, Subset::all(90));
  double sum = 0, squares = 0;
  std::int64_t present = 0;
  for (int k = 0; k < 90; ++k)
    if (const double label = testing::labels_of(testing::small_molecule(k), k)[0]; !std::isnan(label))
      sum += label, squares += label * label, ++present;
  fit_targets(head, counts, false, ignore);
  const double mean = sum / static_cast<double>(present);
  EXPECT_EQ(counts[0].present, present);
  EXPECT_NEAR(head.targets[0].mean, mean, 1e-12 * mean);  // sums of 80 numbers in another order
  EXPECT_NEAR(head.targets[0].std, std::sqrt(squares / static_cast<double>(present) - mean * mean), 1e-10 * mean);

  PropertyHead constant{.targets = {{.column = "seven"}}};
  const Labels sevens(*data_, constant);
  const std::string message =
      message_of<Error>([&] { fit_targets(constant, count_labels(sevens, Subset::all(90)), false, ignore); });
  EXPECT_NE(message.find("'seven' is 7 for every molecule"), std::string::npos) << message;
  const std::string none =
      message_of<Error>([&] { fit_targets(constant, count_labels(sevens, Subset{5}), false, ignore); });
  EXPECT_NE(none.find("no label"), std::string::npos) << none;

  PropertyHead classes{.task = PropertyTask::classification, .targets = {{.column = "ring"}}};
  const Labels rings(*data_, classes);
  const auto ring_counts = count_labels(rings, Subset::all(90));
  fit_targets(classes, ring_counts, true, ignore);
  EXPECT_DOUBLE_EQ(classes.targets[0].positive_weight,
                   static_cast<double>(ring_counts[0].present - ring_counts[0].positive) /
                       static_cast<double>(ring_counts[0].positive));
  std::string warned;
  fit_targets(classes, count_labels(rings, Subset{0, 1}), true, [&](const std::string& text) { warned = text; });
  EXPECT_NE(warned.find("only labels 0"), std::string::npos) << warned;
}

TEST_F(Finetune, LearningRatesFallWithTheDistanceFromTheHead) {
  settings_.model.tasks = 1;
  const auto model = fresh();
  EXPECT_TRUE(learning_rates(*model, 1, false).empty());
  const auto factor_of = [&](const std::vector<RateRange>& ranges, const std::string& part) {
    std::set<double> factors;
    for (const ParameterInfo& p : model->parameters()) {
      if (p.name.find(part) == std::string::npos) continue;
      double factor = 0;
      for (const RateRange& r : ranges)
        if (r.begin <= p.offset && p.offset + p.count <= r.end) factor = r.factor;
      factors.insert(factor);
    }
    EXPECT_EQ(factors.size(), 1u) << part;
    return factors.empty() ? -1 : *factors.begin();
  };
  const auto decayed = learning_rates(*model, 0.5, false);  // tiny has two layers
  EXPECT_EQ(factor_of(decayed, "proj_out."), 1);
  EXPECT_EQ(factor_of(decayed, "layers.1."), 0.5);
  EXPECT_EQ(factor_of(decayed, "layers.0."), 0.25);
  EXPECT_EQ(factor_of(decayed, "atom_feature."), 0.125);
  EXPECT_EQ(factor_of(decayed, "molecule_attn_bias."), 0.125);
  for (std::size_t k = 1; k < decayed.size(); ++k) EXPECT_LE(decayed[k - 1].end, decayed[k].begin);
  const auto frozen = learning_rates(*model, 1, true);
  EXPECT_EQ(factor_of(frozen, "proj_out."), 1);
  EXPECT_EQ(factor_of(frozen, "molecule_encoder."), 0);
}

TEST_F(Finetune, LearnsWhatGraphsShow) {
  testing::write_labelled_dataset(folder_.path() / "more", 300);
  data_ = std::make_unique<Dataset>(Dataset::open(folder_.path() / "more"));
  settings_.epochs = MOLEBLEND_SANITIZED ? 2 : 40;  // with a sanitizer only what the program does, not what it learns
  settings_.schedule.peak = 1e-3;
  settings_.schedule.warmup = 60;
  read();
  const auto model = fresh();
  const FinetuneOutcome outcome = run("run", *model);
  EXPECT_TRUE(outcome.finished);
  ASSERT_TRUE(outcome.best);
  load_parameters(CheckpointStore(folder_.path() / "run" / "checkpoints", {}).best(ignore)->path, *model,
                  Absent::refuse);
  const PartResult test = score_part(settings_.head, labels_->of(test_), predict(*model, settings_.head, *data_, test_),
                                     count_labels(*labels_, train_), 1);
  // Of a share that the atoms' elements say outright, an honest model leaves less than half of the spread.
  EXPECT_TRUE(MOLEBLEND_SANITIZED || test.metrics[0].scores.mean < 0.5 * test.metrics[0].constant)
      << test.metrics[0].scores.mean << " against " << test.metrics[0].constant;
  EXPECT_TRUE(test.metrics[0].interval.low <= test.metrics[0].scores.mean &&
              test.metrics[0].scores.mean <= test.metrics[0].interval.high);
}

TEST_F(Finetune, AStoppedRunGoesOnToTheSameBytes) {
  settings_.loader.threads = 2;
  read();
  const auto whole = fresh();
  const FinetuneOutcome undisturbed = run("whole", *whole);
  EXPECT_TRUE(undisturbed.finished);
  {
    const auto first = fresh();
    const FinetuneOutcome stopped = run("parts", *first, 7);
    EXPECT_EQ(stopped.step, 7);
    EXPECT_FALSE(stopped.finished);
  }
  const auto second = fresh();
  const FinetuneOutcome resumed = run("parts", *second);
  EXPECT_TRUE(resumed.finished);
  EXPECT_EQ(resumed.best, undisturbed.best);
  EXPECT_TRUE(values(*whole) == values(*second));
  // Finished: nothing is left to do.
  EXPECT_EQ(run("parts", *second).step, undisturbed.step);
}

TEST_F(Finetune, AFrozenEncoderStaysAsItIs) {
  settings_.freeze = true;
  read();
  const auto model = fresh();
  const std::vector<float> before = values(*model);
  run("frozen", *model);
  const std::vector<float> after = values(*model);
  std::set<std::string> changed;
  for (const ParameterInfo& p : model->parameters())
    if (!std::equal(before.begin() + p.offset, before.begin() + p.offset + p.count, after.begin() + p.offset))
      changed.insert(p.name);
  EXPECT_EQ(changed, (std::set<std::string>{"encoder.proj_out.dense.weight", "encoder.proj_out.dense.bias",
                                            "encoder.proj_out.out_proj.weight", "encoder.proj_out.out_proj.bias"}));
}

TEST_F(Finetune, PatienceEndsTheTraining) {
  settings_.epochs = 200;
  settings_.patience = 3;
  settings_.schedule.peak = 0;  // nothing is learnt, so the first validation stays the best
  read();
  const auto model = fresh();
  const FinetuneOutcome outcome = run("run", *model);
  EXPECT_TRUE(outcome.finished);
  ASSERT_TRUE(outcome.best);
  // The first step that completes an epoch, and three epochs after it.
  const auto first = static_cast<std::int64_t>((train_.size() + 15) / 16);
  EXPECT_EQ(outcome.best->step, first);
  EXPECT_EQ(outcome.step, static_cast<std::int64_t>((4 * train_.size() + 15) / 16));
}

TEST_F(Finetune, AMetricThatIsNotDefinedStopsTheRun) {
  settings_.head = {.task = PropertyTask::classification, .targets = {{.column = "ring"}}};
  settings_.metric = Metric::roc_auc;
  read();
  std::vector<std::uint64_t> one_class;
  for (const std::uint64_t m : valid_)
    if (labels_->of(m)[0] == 0) one_class.push_back(m);
  ASSERT_FALSE(one_class.empty());
  valid_ = one_class;
  const auto model = fresh();
  const std::string message = message_of<Error>([&] { run("run", *model); });
  EXPECT_NE(message.find("roc_auc is not defined on the validation part"), std::string::npos) << message;
}

TEST_F(Finetune, AnswersDoNotDependOnTheBatch) {
  read();
  const auto model = fresh();
  Predictor one({{model.get(), settings_.head}}, 1), many({{model.get(), settings_.head}}, 4096);
  std::vector<double> singly;
  Molecule molecule;
  for (std::uint64_t m = 0; m < 20; ++m) {
    data_->read(m, molecule);
    one.add(molecule);
    EXPECT_TRUE(one.full());
    singly.push_back(one.run().front().at(0));
    many.add(molecule);
  }
  const std::vector<double> together = many.run().front();
  ASSERT_EQ(together.size(), 20u);
  // Float products whose sums are split otherwise: some units in the last place of answers of the order of the labels' spread.
  for (std::size_t k = 0; k < 20; ++k) EXPECT_NEAR(together[k], singly[k], 1e-5 * settings_.head.targets[0].std) << k;
  EXPECT_TRUE(many.run().front().empty());
}

TEST_F(Finetune, AnswersAreMeansOverConformers) {
  settings_.head.shown = {true, true};
  settings_.model.with_distance = true;
  settings_.head.all_conformers = true;
  read();
  const auto model = fresh();
  // Weights of the size that training gives them, so that what is seen shows in the answer.
  std::vector<float> weights = values(*model);
  for (float& w : weights) w *= 4;
  model->write(0, weights);
  Molecule molecule = testing::small_molecule(6), second = molecule;
  for (float& x : second.positions) x *= 1.3f;
  Predictor predictor({{model.get(), settings_.head}});
  predictor.add(molecule);
  predictor.add(second);
  const std::vector<double> each = predictor.run().front();
  EXPECT_GT(std::abs(each[0] - each[1]), 1e-3 * settings_.head.targets[0].std)
      << "positions must matter for the test to say anything";
  molecule.conformers = 2;
  molecule.positions.insert(molecule.positions.end(), second.positions.begin(), second.positions.end());
  predictor.add(molecule);
  const std::vector<double> mean = predictor.run().front();
  ASSERT_EQ(mean.size(), 1u);
  EXPECT_NEAR(mean[0], (each[0] + each[1]) / 2, 1e-5 * settings_.head.targets[0].std);

  PropertyHead first = settings_.head;
  first.all_conformers = false;
  Predictor of_first({{model.get(), first}});
  of_first.add(molecule);
  EXPECT_NEAR(of_first.run().front().at(0), each[0], 1e-5 * settings_.head.targets[0].std);
}

TEST(Presets, AreWholeAndKnownByName) {
  std::set<std::string> names;
  for (const TaskPreset& preset : task_presets()) {
    EXPECT_TRUE(names.insert(preset.name).second) << preset.name;
    FinetuneSettings settings;
    apply(task_preset(preset.name), settings);
    EXPECT_NO_THROW(settings.check()) << preset.name;
    EXPECT_EQ(is_classification(settings.metric), settings.head.task == PropertyTask::classification) << preset.name;
    EXPECT_EQ(settings.head.targets.empty(), settings.head.task == PropertyTask::classification) << preset.name;
  }
  EXPECT_EQ(std::count_if(names.begin(), names.end(), [](const std::string& n) { return n.starts_with("qm9-"); }), 12);
  const std::string message = message_of<UsageError>([] { task_preset("no-such"); });
  EXPECT_NE(message.find("esol"), std::string::npos) << message;
}

TEST(FinetuneResult, MeansOverRuns) {
  using Json = nlohmann::ordered_json;
  const auto part = [](double rmse) {
    return Json{{"molecules", 5}, {"rmse", rmse}, {"rmse_low", 0}, {"rmse_high", 9},
                {"mae", nullptr}, {"r2", 1},      {"spearman", 1}};
  };
  const Json mean = mean_of_runs({part(1), part(2), part(6)}, PropertyTask::regression);
  EXPECT_DOUBLE_EQ(mean.at("rmse").get<double>(), 3);
  EXPECT_DOUBLE_EQ(mean.at("rmse_std").get<double>(), std::sqrt(7.0));  // of 1, 2 and 6, with n − 1
  EXPECT_TRUE(mean.at("mae").is_null());
  EXPECT_FALSE(mean.contains("rmse_low"));
  EXPECT_EQ(mean.at("molecules"), 5);
  EXPECT_TRUE(mean_of_runs({part(4)}, PropertyTask::regression).contains("rmse_low"));
}

TEST(FinetuneSettings, HeadsAndSplitsComeBackFromJson) {
  PropertyHead head{.task = PropertyTask::regression,
                    .readout = Readout::mean,
                    .shown = {false, true},
                    .targets = {{.column = "a", .factor = 2, .unit = "u", .mean = 0.1, .std = 3}},
                    .all_conformers = true};
  const PropertyHead back = property_head_from(to_json(head));
  EXPECT_EQ(back.task, head.task);
  EXPECT_EQ(back.readout, head.readout);
  EXPECT_EQ(back.shown, head.shown);
  EXPECT_EQ(back.targets, head.targets);
  EXPECT_EQ(back.all_conformers, head.all_conformers);
  FinetuneSettings settings;
  settings.split = {
      .rule = "scaffold", .fractions = {0.5, 0.25, 0.25}, .counts = {3, 4}, .file = "f", .column = "c", .seed = 9};
  const SplitChoice split = split_choice_from(to_json(settings, 1).at("split"));
  EXPECT_EQ(split.rule, "scaffold");
  EXPECT_EQ(split.fractions, settings.split.fractions);
  EXPECT_EQ(split.counts, settings.split.counts);
  EXPECT_EQ(split.file + split.column, "fc");
  EXPECT_EQ(split.seed, 9u);
}

}  // namespace
}  // namespace moleblend
