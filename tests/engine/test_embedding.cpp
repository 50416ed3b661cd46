// From a source of molecules to the matrix and its index: nothing lost, nothing out of order, and no half-written files.

#include <gtest/gtest.h>

#include <cstring>

#include "engine/evaluation/embedding.h"
#include "engine/evaluation/trained_model.h"
#include "io/loader/molecule_batches.h"
#include "io/prepare/reader_pool.h"
#include "io/support/csv.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "tests/engine/fake_model.h"
#include "tests/engine/small_dataset.h"
#include "tests/engine/temporary_folder.h"

namespace moleblend::testing {
namespace {

/// Molecules of small_molecule(), every fourth without positions; those of some numbers refused.
class FakeSource : public MoleculeSource {
 public:
  FakeSource(int count, std::vector<int> refused) : count_(count), refused_(std::move(refused)) {}
  bool next(SourcedMolecule& out) override {
    if (failing_at == next_) throw Error("the source fails; mend it");
    if (next_ == count_) return false;
    out.number = static_cast<std::uint64_t>(next_);
    out.kept = std::find(refused_.begin(), refused_.end(), next_) == refused_.end();
    out.reason = out.kept ? "" : "atom " + std::to_string(next_) + " is odd";
    out.molecule = {};
    if (out.kept)
      out.molecule = small_molecule(next_);
    else
      out.molecule.identifier = "refused, " + std::to_string(next_);
    ++next_;
    return true;
  }
  Progress progress() const override {
    return {static_cast<std::uint64_t>(next_), static_cast<std::uint64_t>(count_), "molecules"};
  }
  std::vector<std::string> remarks() const override { return {"a remark"}; }

  int failing_at = -1;

 private:
  int count_, next_ = 0;
  std::vector<int> refused_;
};

std::vector<float> values_of(const std::filesystem::path& npy) {
  const std::string bytes = read_file(npy);
  std::vector<float> values((bytes.size() - 128) / sizeof(float));
  std::memcpy(values.data(), bytes.data() + 128, values.size() * sizeof(float));
  return values;
}

std::vector<std::vector<std::string>> rows_of(const std::filesystem::path& csv) {
  CsvReader reader{TextSource(csv)};
  std::vector<std::vector<std::string>> rows;
  for (std::vector<std::string> row; reader.next(row);) rows.push_back(row);
  return rows;
}

class Embed : public ::testing::Test {
 protected:
  EmbeddingOptions options(const EncodeStep& step, std::int64_t batch_atoms = 20) const {
    EmbeddingOptions o;
    o.step = step;
    o.batch_atoms = batch_atoms;
    o.output = folder_.path() / "matrix.npy";
    o.index = folder_.path() / "matrix.csv";
    o.quiet = true;
    return o;
  }
  TemporaryFolder folder_;
  FakeModel model_;
};

TEST_F(Embed, EveryRecordHasItsLineAndEveryMoleculeItsRow) {
  FakeSource source(50, {0, 7, 8, 49});
  const EmbeddingSummary summary = embed(model_, source, options({}));
  EXPECT_EQ(summary.records, 50u);
  EXPECT_EQ(summary.molecules, 46u);
  EXPECT_EQ(summary.refused, 4u);
  EXPECT_EQ(summary.rows, 46u);
  EXPECT_EQ(summary.without_3d, 0u);
  EXPECT_EQ(summary.reasons, (std::map<std::string, std::uint64_t>{{"atom N is odd", 4}}));
  EXPECT_EQ(summary.remarks, std::vector<std::string>{"a remark"});
  const auto values = values_of(folder_.path() / "matrix.npy");
  const auto D = static_cast<std::size_t>(model_.config().width);
  ASSERT_EQ(values.size(), 46 * D);
  const auto index = rows_of(folder_.path() / "matrix.csv");
  ASSERT_EQ(index.size(), 51u);
  EXPECT_EQ(index[0], (std::vector<std::string>{"row", "atoms", "identifier", "smiles", "shown", "error"}));
  EXPECT_EQ(index[8], (std::vector<std::string>{"", "", "refused, 7", "", "", "atom 7 is odd"}));
  std::size_t row = 0;
  for (int k = 0; k < 50; ++k) {
    const auto& line = index[static_cast<std::size_t>(k) + 1];
    if (!line[5].empty()) continue;
    EXPECT_EQ(line, (std::vector<std::string>{std::to_string(row), std::to_string(3 + k % 6),
                                              "molecule-" + std::to_string(k), "?", "2d", ""}));
    EXPECT_EQ(values[row++ * D], static_cast<float>(k)) << "no positions are shown";
  }
  EXPECT_EQ(row, 46u);
}

TEST_F(Embed, AtomsHaveRowsOfTheirOwn) {
  FakeSource source(10, {4});
  const EmbeddingSummary summary = embed(model_, source, options({.readout = std::nullopt}));
  const auto values = values_of(folder_.path() / "matrix.npy");
  const auto index = rows_of(folder_.path() / "matrix.csv");
  const auto D = static_cast<std::size_t>(model_.config().width);
  std::size_t next = 0;
  for (std::size_t k = 0; k < 10; ++k) {
    if (k == 4) continue;
    EXPECT_EQ(index[k + 1][0], std::to_string(next));
    for (std::size_t atom = 0; atom < 3 + k % 6; ++atom)
      EXPECT_EQ(values[next++ * D], static_cast<float>(k) + 0.001f * static_cast<float>(atom));
  }
  EXPECT_EQ(summary.rows, next);
  EXPECT_EQ(values.size(), next * D);
}

TEST_F(Embed, WithoutPositionsItSaysWhatItShowed) {
  FakeSource both(8, {}), only_3d(8, {});
  const EmbeddingSummary summary = embed(model_, both, options({.show_2d = true, .show_3d = true}));
  EXPECT_EQ(summary.molecules, 8u);
  EXPECT_EQ(summary.without_3d, 2u);
  auto index = rows_of(folder_.path() / "matrix.csv");
  EXPECT_EQ(index[1][4], "both");
  EXPECT_EQ(index[4][4], "2d");
  EXPECT_EQ(values_of(folder_.path() / "matrix.npy")[0], 0.5f) << "positions are shown";

  const EmbeddingSummary in_3d = embed(model_, only_3d, options({.show_2d = false, .show_3d = true}));
  EXPECT_EQ(in_3d.molecules, 6u);
  EXPECT_EQ(in_3d.refused, 2u);
  index = rows_of(folder_.path() / "matrix.csv");
  EXPECT_EQ(index[1][4], "3d");
  EXPECT_EQ(index[4][0], "");
  EXPECT_EQ(index[4][5], "it has no positions");
}

TEST_F(Embed, LeavesNothingOfWhatFails) {
  FakeSource failing(50, {}), refused(3, {0, 1, 2}), stopped(50, {});
  failing.failing_at = 40;
  EXPECT_THROW(embed(model_, failing, options({})), Error);
  try {
    embed(model_, refused, options({}));
    FAIL() << "nothing was embedded";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("none of 3 records could be embedded (most often: atom N is odd); "),
              std::string::npos)
        << e.what();
  }
  EmbeddingOptions o = options({});
  int asked = 0;
  o.stopped = [&] { return ++asked > 2 ? 15 : 0; };
  EXPECT_THROW(embed(model_, stopped, o), Interrupted);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(Embed, NumbersThatAreNotFiniteAreNoEmbedding) {
  class Broken : public FakeModel {
   public:
    void encode(const Batch& batch, const EncodeStep& step, std::vector<float>& rows) override {
      FakeModel::encode(batch, step, rows);
      rows.back() = std::numeric_limits<float>::quiet_NaN();
    }
  } broken;
  FakeSource source(5, {});
  EXPECT_THROW(embed(broken, source, options({})), Error);
}

TEST(MoleculeBatches, AreBoundedAndInOrder) {
  FakeSource source(100, {3, 50});
  MoleculeBatches batches(source, {.batch_atoms = 16, .positions = true, .require_positions = false});
  std::uint64_t next = 0;
  while (const MoleculeBatch* found = batches.next()) {
    EXPECT_LE(found->batch.atoms(), 16);
    std::size_t molecule = 0;
    for (const SourcedMolecule& item : found->items) {
      EXPECT_EQ(item.number, next++);
      if (item.kept) {
        EXPECT_EQ(found->batch.index.at(molecule++), item.number);
      }
    }
    EXPECT_EQ(static_cast<std::int64_t>(molecule), found->batch.molecules());
  }
  EXPECT_EQ(next, 100u);
  EXPECT_EQ(batches.next(), nullptr);
}

TEST(MoleculeBatches, ALargeMoleculeStandsAlone) {
  FakeSource source(12, {});
  MoleculeBatches batches(source, {.batch_atoms = 4, .positions = false, .require_positions = false});
  int count = 0;
  for (; batches.next() != nullptr; ++count) {
  }
  EXPECT_EQ(count, 12) << "no two molecules of 3 to 8 atoms go into 4";
}

TEST(TrainedModel, IsFoundByRunByCheckpointAndByFile) {
  const TemporaryFolder folder;
  ModelConfig config = ModelConfig::named("tiny");
  config.layers = 3;
  config.target = DistanceTarget::displacement;
  const auto model = make_cpu_model(config, 1);
  initialise(*model, 5, false);
  CheckpointState state;
  state.model = config;
  state.settings = nlohmann::ordered_json::object();
  state.step = 4;
  const auto checkpoint = folder.path() / "run" / "checkpoints" / checkpoint_name(4);
  create_folders(checkpoint.parent_path());
  save_checkpoint(checkpoint, *model, state);
  std::filesystem::copy_file(checkpoint / "model.safetensors", folder.path() / "alone.safetensors");

  std::vector<float> expected(static_cast<std::size_t>(model->parameter_count())), found(expected.size());
  model->read(0, expected);
  for (const auto& path :
       {folder.path() / "run", checkpoint, checkpoint / "model.safetensors", folder.path() / "alone.safetensors"}) {
    const TrainedModel trained = find_trained_model(path, [](const std::string& text) { FAIL() << text; });
    EXPECT_EQ(trained.state.has_value(), path.filename() != "alone.safetensors");
    const auto loaded = load_model(trained, {});
    loaded->read(0, found);
    EXPECT_EQ(found, expected) << path;
  }
  const auto nowhere = [&] { find_trained_model(folder.path() / "nowhere", [](const std::string&) {}); };
  EXPECT_THROW(nowhere(), Error);
}

TEST(TrainedModel, OfAFileHasTheSizesOfItsTensors) {
  const TemporaryFolder folder;
  for (const std::int64_t tasks : {std::int64_t{0}, std::int64_t{3}}) {
    ModelConfig config = ModelConfig::named("tiny");
    config.tasks = tasks;
    config.with_distance = tasks == 0;
    config.ffn = 32, config.kernels = 24, config.distance_hidden = 40;
    const auto model = make_cpu_model(config, 1);
    CheckpointState state;
    state.model = config;
    state.settings = nlohmann::ordered_json::object();
    save_checkpoint(folder.path() / "step-00000000", *model, state);
    const auto file = folder.path() / "file.safetensors";
    std::filesystem::copy_file(folder.path() / "step-00000000" / "model.safetensors", file,
                               std::filesystem::copy_options::overwrite_existing);
    const ModelConfig found = find_trained_model(file, [](const std::string&) {}).config;
    EXPECT_EQ(found.layers, config.layers);
    EXPECT_EQ(found.width, config.width);
    EXPECT_EQ(found.heads, config.heads);
    EXPECT_EQ(found.ffn, config.ffn);
    EXPECT_EQ(found.tasks, config.tasks);
    EXPECT_EQ(found.with_distance, config.with_distance);
    if (tasks > 0) continue;
    EXPECT_EQ(found.kernels, config.kernels);
    EXPECT_EQ(found.distance_hidden, config.distance_hidden);
    EXPECT_EQ(found.target, config.target);
  }
}

}  // namespace
}  // namespace moleblend::testing
