// Checkpoints: what is saved comes back, nothing damaged or foreign is believed, and the right ones are kept.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/training/checkpoint_store.h"
#include "engine/training/run_log.h"
#include "engine/training/safetensors.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "tests/engine/fake_model.h"
#include "tests/engine/temporary_folder.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using testing::FakeModel;
using testing::TemporaryFolder;

CheckpointState state_at(std::int64_t step, std::optional<BestValidation> best = std::nullopt) {
  return {.step = step,
          .model = ModelConfig::named("tiny"),
          .settings = {{"batch_size", 32}, {"lr", 0.1}},
          .dataset_fingerprint = "f00d",
          .program_version = "0.1.0",
          .best = best};
}

void flip_byte(const fs::path& path, std::size_t at) {
  std::string bytes = read_file(path);
  bytes.at(at) ^= 0x10;
  std::ofstream(path, std::ios::binary) << bytes;
}

void nobody_warns(const std::string& text) {
  ADD_FAILURE() << text;
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    return e.what();
  }
  return "";
}

TEST(Checkpoint, WhatIsSavedComesBack) {
  const TemporaryFolder folder;
  FakeModel model;
  for (const int moment : {0, 1, 2}) model.fill(moment, static_cast<float>(100 * moment));
  const fs::path path = folder.path() / checkpoint_name(7);
  EXPECT_EQ(path.filename(), "step-00000007");
  save_checkpoint(path, model, state_at(7, BestValidation{5, 0.1}));

  const CheckpointState state = read_checkpoint(path);
  EXPECT_EQ(state.step, 7);
  EXPECT_EQ(state.settings.dump(), state_at(7).settings.dump());
  EXPECT_EQ(state.dataset_fingerprint, "f00d");
  EXPECT_EQ(state.program_version, "0.1.0");
  EXPECT_EQ(state.precision, "fp32");
  EXPECT_EQ(state.model.width, 64);
  EXPECT_EQ(state.best, (BestValidation{5, 0.1}));

  FakeModel other;
  load_checkpoint(path, other);
  for (const int moment : {0, 1, 2}) EXPECT_EQ(other.values(moment), model.values(moment)) << moment;
  const Safetensors file = Safetensors::open(path / "model.safetensors");
  EXPECT_EQ(file.at("a.weight").shape, (std::vector<std::int64_t>{3, 2}));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(Safetensors::open(path / "optimizer.safetensors").values<float>("adam_v.a.bias")[0], model.values(2)[7]);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(Checkpoint, SameStateSameBytes) {
  const TemporaryFolder folder;
  const FakeModel model;
  save_checkpoint(folder.path() / "1", model, state_at(7));
  save_checkpoint(folder.path() / "2", model, state_at(7));
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json"})
    EXPECT_EQ(read_file(folder.path() / "1" / file), read_file(folder.path() / "2" / file)) << file;
}

TEST(Checkpoint, AnotherConfigurationIsRefusedByName) {
  const TemporaryFolder folder;
  FakeModel model;
  const fs::path path = folder.path() / "c";
  save_checkpoint(path, model, state_at(1));
  FakeModel wider({{"a.weight", {4, 2}}, {"a.bias", {3}}}),
      deeper({{"a.weight", {3, 2}}, {"a.bias", {3}}, {"b.bias", {1}}}), shallower({{"a.weight", {3, 2}}});
  const std::vector<float> before = wider.values(0);
  const std::string text = error_of([&] { load_checkpoint(path, wider); });
  EXPECT_NE(text.find("another configuration"), std::string::npos) << text;
  EXPECT_NE(text.find("'a.weight' is [3, 2] there and [4, 2] in this model"), std::string::npos) << text;
  EXPECT_EQ(wider.values(0), before) << "a refused checkpoint changes nothing";
  EXPECT_NE(error_of([&] { load_checkpoint(path, deeper); }).find("b.bias"), std::string::npos);
  EXPECT_NE(error_of([&] { load_checkpoint(path, shallower); }).find("a.bias"), std::string::npos);

  // Parameters alone, for another task: what the file lacks may stay, other shapes may not.
  model.fill(0, 50);
  save_checkpoint(path, model, state_at(1));
  EXPECT_THROW(load_parameters(path, deeper, Absent::refuse), Error);
  EXPECT_EQ(load_parameters(path, deeper, Absent::keep), std::vector<std::string>{"b.bias"});
  EXPECT_EQ(deeper.values(0)[0], model.values(0)[0]);
  EXPECT_THROW(load_parameters(path, wider, Absent::keep), Error);
  EXPECT_TRUE(load_parameters(path / "model.safetensors", shallower, Absent::refuse).empty());
  EXPECT_EQ(shallower.values(0)[0], model.values(0)[0]);
  EXPECT_THROW(load_parameters(folder.path() / "nothing", model, Absent::keep), Error);
}

TEST(Checkpoint, DamageIsSeenWhereverItIs) {
  const TemporaryFolder folder;
  const FakeModel model;
  const fs::path path = folder.path() / "c";
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    save_checkpoint(path, model, state_at(1));
    const std::size_t size = fs::file_size(path / file);
    for (const std::size_t at : {std::size_t{0}, size / 2, size - 2}) {
      save_checkpoint(path, model, state_at(1));
      flip_byte(path / file, at);
      EXPECT_THROW(read_checkpoint(path), Error) << file << " byte " << at;
    }
    save_checkpoint(path, model, state_at(1));
    fs::resize_file(path / file, size - 10);
    EXPECT_THROW(read_checkpoint(path), Error) << file << " cut";
    fs::remove(path / file);
    EXPECT_THROW(read_checkpoint(path), Error) << file << " gone";
  }
  write_file(path / "state.json", std::string(100'000, '['));
  const std::string text = error_of([&] { read_checkpoint(path); });
  EXPECT_NE(text.find("nested too deeply"), std::string::npos) << text;
}

TEST(CheckpointStore, TheNewestWholeOneIsFoundAndDamagedOnesAreNamed) {
  const TemporaryFolder folder;
  const FakeModel model;
  CheckpointStore store(folder.path(), {.keep_last = 9});
  EXPECT_FALSE(store.newest(nobody_warns));
  for (const int step : {5, 20, 100, 1000}) store.save(model, state_at(step));
  EXPECT_EQ(store.newest(nobody_warns)->state.step, 1000);
  flip_byte(folder.path() / "step-00001000" / "model.safetensors", 200);
  fs::remove(folder.path() / "step-00000100" / "state.json");
  fs::create_directories(folder.path() / ".writing-step-00002000-1");
  fs::create_directories(folder.path() / "step-x");
  std::string warnings;
  const auto found = store.newest([&](const std::string& w) { warnings += w + "\n"; });
  ASSERT_TRUE(found);
  EXPECT_EQ(found->state.step, 20);
  EXPECT_NE(warnings.find("step-00001000"), std::string::npos);
  EXPECT_NE(warnings.find("step-00000100"), std::string::npos);
  store.clean();
  EXPECT_FALSE(fs::exists(folder.path() / ".writing-step-00002000-1"));
  // Saved again after going back: the damaged one is replaced.
  store.save(model, state_at(1000));
  EXPECT_EQ(store.newest(nobody_warns)->state.step, 1000);
}

TEST(CheckpointStore, KeepsTheNewestTheBestAndThePermanentOnes) {
  const TemporaryFolder folder;
  const FakeModel model;
  CheckpointStore store(folder.path(), {.keep_last = 2, .keep_every = 40});
  EXPECT_FALSE(store.best(nobody_warns));
  for (int step = 10; step <= 100; step += 10)
    store.save(model, state_at(step, BestValidation{step <= 30 ? step : 30, 1.0 / step}));
  std::vector<std::string> kept;
  for (const auto& entry : fs::directory_iterator(folder.path()))
    if (entry.is_directory()) kept.push_back(entry.path().filename());
  std::sort(kept.begin(), kept.end());
  EXPECT_EQ(kept, (std::vector<std::string>{"step-00000030", "step-00000040", "step-00000080", "step-00000090",
                                            "step-00000100"}));
  EXPECT_EQ(store.best(nobody_warns)->state.step, 30);
}

TEST(CheckpointStore, APathMeansACheckpointOrARun) {
  const TemporaryFolder folder;
  const FakeModel model;
  CheckpointStore store(folder.path() / "checkpoints", {.keep_last = 2});
  EXPECT_THROW(find_checkpoint(folder.path(), Prefer::best, nobody_warns), Error);
  store.save(model, state_at(1));
  EXPECT_EQ(find_checkpoint(folder.path(), Prefer::best, nobody_warns).state.step, 1) << "no best: the newest";
  store.save(model, state_at(2, BestValidation{2, 0.5}));
  store.save(model, state_at(3, BestValidation{2, 0.5}));
  EXPECT_EQ(find_checkpoint(folder.path(), Prefer::best, nobody_warns).state.step, 2);
  EXPECT_EQ(find_checkpoint(folder.path(), Prefer::newest, nobody_warns).state.step, 3);
  EXPECT_EQ(find_checkpoint(folder.path() / "checkpoints" / "step-00000003", Prefer::best, nobody_warns).state.step, 3);
  EXPECT_THROW(find_checkpoint(folder.path() / "nothing", Prefer::best, nobody_warns), Error);
}

TEST(RunLog, LinesAfterTheCheckpointAreCutOff) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "metrics.jsonl";
  const auto line = [](int step) { return nlohmann::ordered_json{{"step", step}, {"loss", 1.0 / step}}; };
  {
    RunLog log(path, 0);
    for (const int step : {1, 2, 3, 4}) log.write(line(step));
    log.sync();
  }
  std::ofstream(path, std::ios::app) << R"({"step":5,"lo)";  // cut short by a crash
  {
    RunLog log(path, 2);
    log.write(line(3));
  }
  EXPECT_EQ(read_file(path), line(1).dump() + "\n" + line(2).dump() + "\n" + line(3).dump() + "\n");
  { RunLog log(path, 0); }
  EXPECT_EQ(read_file(path), "");
}

}  // namespace
}  // namespace moleblend
