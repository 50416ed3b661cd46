// Recovery evaluation: baselines against what can be counted by hand, parts, and figures that don't change from run to run.

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/evaluation/fixed_batches.h"
#include "engine/evaluation/recovery.h"
#include "tests/engine/small_dataset.h"
#include "tests/engine/temporary_folder.h"

namespace moleblend {
namespace {

/// A chain of three carbons, 1.5 Å a bond, 2.5 Å between the ends.
Molecule propane() {
  Molecule m;
  m.identifier = "propane";
  for (int i = 0; i < 3; ++i) m.atoms.push_back({5, 0, static_cast<std::uint8_t>(i == 1 ? 2 : 1), 5, 2, 0, 2, 0, 0});
  m.bonds = {{0, 1, 0, 0, 0}, {1, 2, 1, 0, 0}};  // a single and a double bond
  m.conformer_source = ConformerSource::file;
  m.conformers = 1;
  const float h = std::sqrt(1.5f * 1.5f - 1.25f * 1.25f);
  m.positions = {0, 0, 0, 1.25f, h, 0, 2.5f, 0, 0};
  return m;
}

Batch batch_of(const Molecule& molecule) {
  Batch batch;
  RelationScratch scratch;
  batch.add(molecule, 0, 1, 0, scratch);
  return batch;
}

std::vector<std::uint8_t> all_show(const Batch& batch, std::uint8_t what) {
  return std::vector<std::uint8_t>(batch.spd.size(), what);
}

TEST(Lookup, IsWhatCanBeCountedByHand) {
  const Batch batch = batch_of(propane());
  // Without noise; six ordered pairs: four of SPD 1 at 1.5 Å, two of SPD 2 at 2.5 Å.
  const std::vector<float>& shown = batch.positions;
  LookupTables tables;
  tables.fit(batch, shown);
  tables.finish();
  // Distances fall into bins of 0.02 Å, whose middle is predicted.
  constexpr double kHalfBin = 0.0100001;
  const auto score = [&](std::uint8_t visible) {
    BaselineSum constant, lookup;
    tables.score(batch, all_show(batch, visible), shown, constant, lookup);
    EXPECT_EQ(constant.spd_pairs, 6);
    EXPECT_EQ(constant.spd_correct, 4);
    EXPECT_EQ(constant.edge_hops, 8);  // one hop for each of four pairs, two for two
    EXPECT_EQ(constant.distance_pairs, 6);
    EXPECT_NEAR(constant.distance_error, 2 * 1.0, 6 * kHalfBin) << "the median is 1.5 Å";
    EXPECT_EQ(lookup.spd_pairs, 6);
    return lookup;
  };
  const BaselineSum spd = score(kShowSpd), edge = score(kShowEdge), distance = score(kShowDistance);
  EXPECT_EQ(spd.spd_correct, 6);
  EXPECT_NEAR(spd.distance_error, 0, 6 * kHalfBin) << "a median for each SPD";
  EXPECT_EQ(edge.edge_correct, 8);
  EXPECT_EQ(edge.spd_correct, 6) << "the hops of a path of fewer than five are its length";
  EXPECT_EQ(distance.distance_error, 0) << "a shown distance is copied";
  EXPECT_EQ(distance.spd_correct, 6);
}

TEST(Lookup, AShownDistanceIsCopiedWithItsNoise) {
  const Batch batch = batch_of(propane());
  std::vector<float> shown = batch.positions;
  shown[0] -= 1;  // the first atom moves along the x axis
  LookupTables tables;
  tables.fit(batch, shown);
  tables.finish();
  BaselineSum constant, lookup;
  tables.score(batch, all_show(batch, kShowDistance), shown, constant, lookup);
  const double moved = std::sqrt(2.25 * 2.25 + 1.5 * 1.5 - 1.25 * 1.25);
  EXPECT_NEAR(lookup.distance_error, 2 * (moved - 1.5) + 2 * 1.0, 1e-5);  // positions are floats
}

TEST(Lookup, KnowsNothingOfWhatItNeverSaw) {
  LookupTables tables;
  tables.fit(batch_of(propane()), batch_of(propane()).positions);
  tables.finish();
  // A molecule without positions shows SPD and edge and has no distances to recover; SPD 3 is new to the tables.
  Molecule butane = propane();
  butane.atoms.push_back(butane.atoms[2]);
  butane.bonds.push_back({2, 3, 0, 0, 0});
  butane.conformers = 0;
  butane.positions.clear();
  butane.conformer_source = ConformerSource::none;
  const Batch batch = batch_of(butane);
  BaselineSum constant, lookup;
  tables.score(batch, all_show(batch, kShowEdge), batch.positions, constant, lookup);
  EXPECT_EQ(constant.distance_pairs, 0);
  EXPECT_EQ(constant.spd_pairs, 12);
  EXPECT_EQ(lookup.spd_correct, 10) << "all but the two pairs of SPD 3";
}

class Evaluation : public ::testing::Test {
 protected:
  Evaluation() {
    testing::write_small_dataset(folder_.path() / "data", 40);
    data_ = std::make_unique<Dataset>(Dataset::open(folder_.path() / "data"));
    all_ = Subset::all(40);
  }
  testing::TemporaryFolder folder_;
  std::unique_ptr<Dataset> data_;
  Subset all_;
};

TEST_F(Evaluation, BatchesHoldEveryMoleculeOnceWithinTheirBound) {
  std::vector<std::uint64_t> seen;
  FixedBatches batches(*data_, all_, 5, 0, 12);
  for (Batch batch; batches.next(batch);) {
    EXPECT_LE(batch.atoms(), 12);
    seen.insert(seen.end(), batch.index.begin(), batch.index.end());
  }
  EXPECT_EQ(seen, all_);
  // A bound below every molecule: each stands alone.
  FixedBatches single(*data_, all_, 5, 0, 1);
  int count = 0;
  for (Batch batch; single.next(batch); ++count) EXPECT_EQ(batch.molecules(), 1);
  EXPECT_EQ(count, 40);
}

TEST_F(Evaluation, SamplesAndFingerprintsNameMolecules) {
  const Subset some = sample(all_, 10, 3);
  EXPECT_EQ(some.size(), 10u);
  EXPECT_TRUE(std::is_sorted(some.begin(), some.end()));
  EXPECT_EQ(std::set(some.begin(), some.end()).size(), 10u);
  EXPECT_EQ(some, sample(all_, 10, 3));
  EXPECT_NE(some, sample(all_, 10, 4));
  EXPECT_EQ(sample(all_, 99, 3), all_);
  EXPECT_NE(fingerprint(*data_, some), fingerprint(*data_, all_));
  const Split split = random_split(40, 0.5, 3);
  EXPECT_EQ(fingerprint(*data_, split.valid), fingerprint(*data_, random_split(40, 0.5, 3).valid));
  std::set<std::string> names = {fingerprint(*data_, all_), fingerprint(*data_, split.valid)};
  names.insert(fingerprint(*data_, split.train));
  names.insert(fingerprint(*data_, random_split(40, 0.5, 4).valid));
  names.insert(fingerprint(*data_, random_split(40, 0.4, 3).valid));
  EXPECT_EQ(names.size(), 5u) << "part, seed and fraction are in the name";
  const Subset few = sample(split.valid, 99, 3);
  EXPECT_EQ(few.size(), split.valid.size()) << "all of a smaller part";
  EXPECT_TRUE(std::is_sorted(few.begin(), few.end()));
  EXPECT_EQ(fingerprint(*data_, some), fingerprint(*data_, sample(all_, 10, 3)));
}

TEST_F(Evaluation, FiguresDoNotChangeFromRunToRunAndHaveTheirPlaces) {
  const auto model = make_cpu_model(ModelConfig::named("tiny"), 1);
  initialise(*model, 1, false);
  const RecoveryOptions options{.seed = 9, .draws = 2, .batch_atoms = 50};
  const Recovery first = recover(*model, *data_, all_, all_, {}, options);
  const auto json = to_json(first, DistanceTarget::distance);
  EXPECT_EQ(json.dump(), to_json(recover(*model, *data_, all_, all_, {}, options), DistanceTarget::distance).dump());
  EXPECT_NE(
      json.dump(),
      to_json(recover(*model, *data_, all_, all_, {}, {.seed = 10, .draws = 2}), DistanceTarget::distance).dump());
  EXPECT_EQ(first.molecules, 30u);
  EXPECT_EQ(first.left_out, 10u);
  ASSERT_EQ(first.inputs.size(), 3u);
  EXPECT_FALSE(json["2d"].contains("denoise_cosine")) << "2D only has no atom that drew 3D";
  EXPECT_TRUE(json["3d"]["denoise_cosine"].contains("model"));
  for (const InputRecovery& input : first.inputs) {
    EXPECT_GE(input.lookup.spd_correct, input.constant.spd_correct) << input.key;
    EXPECT_GE(input.lookup.edge_correct, input.constant.edge_correct) << input.key;
    EXPECT_LE(input.lookup.distance_error, input.constant.distance_error) << input.key;
    EXPECT_EQ(input.constant.spd_pairs, first.inputs[0].constant.spd_pairs);
    EXPECT_GE(input.model.spd_accuracy, 0);
    EXPECT_LE(input.model.spd_accuracy, 1);
  }
  // In 2D every pair shows SPD or its edges; only paths of five hops and more, which few of these chains have, are not told by either.
  EXPECT_GT(static_cast<double>(first.inputs[0].lookup.spd_correct),
            0.95 * static_cast<double>(first.inputs[0].lookup.spd_pairs));
  const std::string text = table(first, DistanceTarget::distance);
  EXPECT_NE(text.find("2D only   denoising cosine          –"), std::string::npos) << text;
}

TEST_F(Evaluation, BatchSizeDoesNotChangeFigures) {
  const auto model = make_cpu_model(ModelConfig::named("tiny"), 1);
  initialise(*model, 1, false);
  const Recovery small = recover(*model, *data_, all_, all_, {}, {.batch_atoms = 10});
  const Recovery large = recover(*model, *data_, all_, all_, {}, {.batch_atoms = 1000});
  for (std::size_t k = 0; k < 3; ++k) {
    EXPECT_EQ(small.inputs[k].lookup.spd_correct, large.inputs[k].lookup.spd_correct);
    EXPECT_EQ(small.inputs[k].lookup.distance_error, large.inputs[k].lookup.distance_error);
    // Sums of floats in another order.
    EXPECT_NEAR(small.inputs[k].model.distance, large.inputs[k].model.distance, 1e-4);
    EXPECT_NEAR(small.inputs[k].model.spd_loss, large.inputs[k].model.spd_loss, 1e-4);
  }
}

TEST_F(Evaluation, WithoutPositionsOnly2DIsEvaluated) {
  std::vector<std::uint64_t> flat;
  for (std::uint64_t k = 3; k < 40; k += 4) flat.push_back(k);
  const auto model = make_cpu_model(ModelConfig::named("tiny"), 1);
  initialise(*model, 1, false);
  const Recovery recovery = recover(*model, *data_, flat, all_, {}, {});
  ASSERT_EQ(recovery.inputs.size(), 1u);
  EXPECT_EQ(recovery.inputs[0].key, "2d");
  EXPECT_EQ(recovery.molecules, flat.size());
  EXPECT_FALSE(to_json(recovery, DistanceTarget::distance)["2d"].contains("distance_mae"));
}

}  // namespace
}  // namespace moleblend
