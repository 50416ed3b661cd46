// `moleblend finetune`, `predict` and `evaluate` of fine-tuned models: what was learnt is scored, answers follow the input's order, a run
// that was stopped ends with the same bytes, and what can't be learnt is refused in one line.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

/// Exit status and the one line that says why.
void expect_refusal(const Arguments& arguments, int status, const std::vector<std::string>& words) {
  const Outcome outcome = run_program(arguments);
  EXPECT_EQ(outcome.status, status) << outcome.out << outcome.err;
  std::vector<std::string> errors;
  for (const std::string& line : lines_of(outcome.err))
    if (!line.starts_with("moleblend: warning")) errors.push_back(line);
  EXPECT_EQ(errors.size(), 1u) << outcome.err;
  for (const std::string& word : words)
    EXPECT_NE(outcome.err.find(word), std::string::npos) << word << "\n" << outcome.err;
}

/// A table of molecules whose labels can be read off their SMILES, and the data set of it.
class FinetuneVerb : public ::testing::Test {
 protected:
  void SetUp() override {
    write_sample_molecules(folder / "molecules.smi", 60);
    std::string table = "name,smiles,oxygens,has_nitrogen,words,seven,nothing,mixed,one_class,part\n";
    int k = 0;
    for (const std::string& line : lines_of(read_file(folder / "molecules.smi"))) {
      const std::string smiles = line.substr(0, line.find_first_of(" \t"));
      const auto oxygens = std::count(smiles.begin(), smiles.end(), 'O');
      const bool nitrogen = smiles.find_first_of("nN") != std::string::npos;
      table += "m" + std::to_string(k) + "," + smiles + "," + (k % 10 == 3 ? "" : std::to_string(oxygens)) + "," +
               std::to_string(nitrogen) + ",some text,7,," + (k % 2 == 0 ? "high" : std::to_string(oxygens)) + "," +
               (k % 6 == 0 ? "1" : "0") + "," + std::to_string(k % 3) + "\n";
      ++k;
    }
    write_file(molecules, table);
    prepared = Json::parse(succeed({"prepare", "--input", molecules, "--id-column", "name", "--label-columns",
                                    "oxygens,has_nitrogen,words,seven,nothing,mixed,one_class,part", "--output", data,
                                    "--json", "--quiet"}));
    ASSERT_FALSE(HasFailure());
  }

  Arguments finetune(const std::string& output, const Arguments& more = {}) const {
    Arguments arguments{"finetune", "--data",       data, "--output", folder / output, "--model",   "tiny", "--epochs",
                        "3",        "--batch-size", "16", "--task",   "regression",    "--threads", "2",    "--quiet"};
    if (std::find(more.begin(), more.end(), "--labels") == more.end())
      arguments.insert(arguments.end(), {"--labels", "oxygens"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  TemporaryFolder folder;
  const std::string molecules = folder / "table.csv", data = folder / "data";
  Json prepared;  // what prepare said
};

TEST_F(FinetuneVerb, SeedsAreScoredAndAnswerTogether) {
  const Json result = Json::parse(succeed(finetune("run", {"--seeds", "2", "--json"})));
  EXPECT_EQ(result.at("seeds").size(), 2u);
  const auto labelled = result.at("molecules").at("train").get<int>() + result.at("molecules").at("valid").get<int>() +
                        result.at("molecules").at("test").get<int>();
  EXPECT_EQ(labelled + result.at("molecules").at("without_label").get<int>(),
            result.at("molecules").at("data").get<int>());
  for (const char* part : {"train", "valid", "test"})
    for (const char* metric : {"rmse", "mae", "r2", "rmse_std", "rmse_constant"})
      EXPECT_TRUE(result.at(part).at(metric).is_number()) << part << " " << metric;
  const double first = result.at("seeds")[0].at("test").at("rmse"),
               second = result.at("seeds")[1].at("test").at("rmse");
  EXPECT_NE(first, second);
  EXPECT_NEAR(result.at("test").at("rmse"), (first + second) / 2, 1e-12);
  for (const char* name : {"config.toml", "result.json", "split.csv", "seed-1/test.csv", "seed-2/metrics.jsonl"})
    EXPECT_TRUE(fs::exists(folder.path() / "run" / name)) << name;

  // The same checkpoint scores the same again, and the split can be given as the file that the run wrote.
  const Json again = Json::parse(
      succeed({"evaluate", "--checkpoint", folder / "run/seed-1", "--data", data, "--json", "--threads", "2"}));
  EXPECT_EQ(again.at("part"), "test");
  EXPECT_DOUBLE_EQ(again.at("test").at("rmse"), first);
  EXPECT_EQ(again.at("part_fingerprint"), result.at("split").at("test"));
  const Json given =
      Json::parse(succeed(finetune("given", {"--split", "given", "--split-file", folder / "run/split.csv", "--json"})));
  EXPECT_DOUBLE_EQ(given.at("test").at("rmse"), first);

  expect_refusal({"embed", "--checkpoint", folder / "run", "--data", data, "--output", folder / "x.npy"}, 1,
                 {"run of `moleblend finetune`", "seed-"});
  // Both seeds answer: their mean, and how far they are apart.
  succeed({"predict", "--checkpoint", folder / "run", "--input", molecules, "--id-column", "name", "--output",
           folder / "answers.csv", "--threads", "2", "--quiet"});
  const std::vector<std::string> rows = lines_of(read_file(folder / "answers.csv"));
  ASSERT_EQ(rows.size(), lines_of(read_file(molecules)).size());
  EXPECT_EQ(rows[0], "identifier,smiles,oxygens,oxygens spread,error");
  for (std::size_t k = 1; k < rows.size(); ++k)
    EXPECT_TRUE(rows[k].starts_with("m" + std::to_string(k - 1) + ",")) << rows[k];
}

TEST_F(FinetuneVerb, AStoppedRunEndsWithTheSameBytes) {
  succeed(finetune("whole"));
  succeed(finetune("parts", {"--stop-at", "4"}));
  EXPECT_FALSE(fs::exists(folder.path() / "parts" / "result.json"));
  succeed({"finetune", "--resume", folder / "parts", "--stop-at", "1000", "--quiet"});
  const fs::path a = last_checkpoint(folder / "whole/seed-1"), b = last_checkpoint(folder / "parts/seed-1");
  EXPECT_EQ(a.filename(), b.filename());
  EXPECT_TRUE(read_file(a / "model.safetensors") == read_file(b / "model.safetensors"));
  EXPECT_TRUE(read_file(a / "optimizer.safetensors") == read_file(b / "optimizer.safetensors"));
  EXPECT_EQ(read_file(folder / "whole/seed-1/test.csv"), read_file(folder / "parts/seed-1/test.csv"));
  // Finished: the scores are read, not made again.
  const auto written = fs::last_write_time(folder.path() / "parts/seed-1/result.json");
  succeed({"finetune", "--resume", folder / "parts", "--quiet"});
  EXPECT_EQ(fs::last_write_time(folder.path() / "parts/seed-1/result.json"), written);
  expect_refusal({"finetune", "--resume", folder / "parts", "--lr", "0.1"}, 2, {"lr", "config.toml"});
}

TEST_F(FinetuneVerb, StartsFromAPretrainedEncoder) {
  succeed({"pretrain", "--data", data, "--output", folder / "encoder", "--model", "tiny", "--steps", "2", "--quiet"});
  Arguments arguments = finetune("run", {"--init", folder / "encoder", "--freeze", "--json"});
  arguments.erase(std::find(arguments.begin(), arguments.end(), "--model"),
                  std::find(arguments.begin(), arguments.end(), "--model") + 2);
  const Json result = Json::parse(succeed(arguments));
  EXPECT_NE(result.at("init").get<std::string>().find("encoder"), std::string::npos);
  expect_refusal({"predict", "--checkpoint", folder / "encoder", "--input", molecules, "--output", folder / "x.csv"}, 1,
                 {"pretrained encoder", "finetune"});
  expect_refusal(finetune("other", {"--init", folder / "run/seed-1", "--labels", "oxygens,has_nitrogen"}), 1,
                 {"1 tasks and these are 2"});
}

TEST_F(FinetuneVerb, ClassificationGivesProbabilities) {
  const Json result = Json::parse(succeed(
      finetune("run", {"--task", "classification", "--labels", "has_nitrogen", "--balance-classes", "--json"})));
  EXPECT_EQ(result.at("chosen_by"), "roc_auc");
  EXPECT_TRUE(result.at("test").at("pr_auc").is_number());
  const std::string mixed = folder / "mixed.smi";
  write_file(mixed, "CCN one\nC1CC broken\nCCO two\n");
  const Outcome outcome = run_program({"predict", "--checkpoint", folder / "run", "--input", mixed, "--output",
                                       folder / "answers.csv", "--json", "--quiet"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const Json summary = Json::parse(outcome.out);
  EXPECT_EQ(summary.at("molecules"), 2);
  EXPECT_EQ(summary.at("refused"), 1);
  const std::vector<std::string> rows = lines_of(read_file(folder / "answers.csv"));
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_TRUE(rows[2].starts_with("broken,")) << rows[2];
  EXPECT_FALSE(rows[2].ends_with(",")) << "the error column says why: " << rows[2];
  for (const std::size_t k : {1u, 3u}) {
    const std::string answer = rows[k].substr(rows[k].find(',', rows[k].find(',') + 1) + 1);
    const double probability = std::stod(answer);
    EXPECT_TRUE(probability > 0 && probability < 1) << rows[k];
    EXPECT_TRUE(rows[k].ends_with(",")) << rows[k];
  }
}

TEST_F(FinetuneVerb, TextAmongLabelsIsCountedAndMissing) {
  const auto records = prepared.at("kept").get<std::int64_t>();
  EXPECT_EQ(prepared.at("unreadable_labels"), records + (records + 1) / 2) << "all of `words`, every second of `mixed`";
  const Json result = Json::parse(succeed(finetune("run", {"--labels", "mixed", "--json"})));
  EXPECT_EQ(result.at("molecules").at("without_label"), (records + 1) / 2);
}

// Validation is every third molecule, and of those none has a label 1 of `one_class`.
TEST_F(FinetuneVerb, ATaskOfOneClassInValidationHasNoSayInTheChoice) {
  const Arguments split = {"--task", "classification", "--split", "given", "--split-column", "part"};
  const auto with = [&](Arguments more) {
    more.insert(more.end(), split.begin(), split.end());
    return more;
  };
  expect_refusal(finetune("refused", with({"--labels", "one_class"})), 1,
                 {"roc_auc is not defined on the validation part", "one_class", "--metric"});
  EXPECT_FALSE(fs::exists(folder.path() / "refused")) << "it ends before it begins";
  const Outcome outcome = run_program(finetune("run", with({"--labels", "has_nitrogen,one_class", "--json"})));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(lines_of(outcome.err).size(), 1u) << outcome.err;
  for (const char* word : {"1 of 2 tasks (one_class)", "validation", "no say"})
    EXPECT_NE(outcome.err.find(word), std::string::npos) << word << "\n" << outcome.err;
  const Json valid = Json::parse(outcome.out).at("valid");
  EXPECT_TRUE(valid.at("roc_auc").is_number());
  EXPECT_TRUE(valid.at("tasks").at("one_class").at("roc_auc").is_null());
  EXPECT_TRUE(valid.at("tasks").at("has_nitrogen").at("roc_auc").is_number());
}

// Records that the reader refused are no molecules of the data set, so none is trained on, scored or forgotten.
TEST_F(FinetuneVerb, RefusedRecordsAreCountedAndLeftOut) {
  const std::string table = folder / "broken.csv";
  write_file(table, read_file(molecules) + "broken,C1CC,1,0,,7,,1,0,0\n");
  const Json with_broken = Json::parse(succeed({"prepare", "--input", table, "--id-column", "name", "--label-columns",
                                                "oxygens", "--output", folder / "with-broken", "--json", "--quiet"}));
  EXPECT_EQ(with_broken.at("rejected"), 1);
  EXPECT_EQ(with_broken.at("kept"), prepared.at("kept"));
  const Json result = Json::parse(succeed(finetune("run", {"--data", folder / "with-broken", "--json"})));
  EXPECT_EQ(result.at("molecules").at("data"), prepared.at("kept"));
  EXPECT_EQ(read_file(folder / "run/split.csv").find("broken"), std::string::npos);
}

TEST_F(FinetuneVerb, WhatCantBeLearntIsRefusedInOneLine) {
  expect_refusal(finetune("a", {"--labels", "seven"}), 1, {"'seven' is 7 for every molecule", "--labels"});
  expect_refusal(finetune("b", {"--labels", "words"}), 1, {"no molecule of the training part has a label"});
  expect_refusal(finetune("m", {"--labels", "nothing"}), 1, {"no molecule of the training part has a label"});
  expect_refusal(finetune("n", {"--labels", "oxygens,nothing"}), 1, {"'nothing' has no label", "--labels"});
  expect_refusal(finetune("c", {"--labels", "weight"}), 2, {"no label column 'weight'", "oxygens"});
  expect_refusal(finetune("d", {"--labels", "oxygens", "--task", "classification"}), 1,
                 {"'oxygens'", "0, 1 or missing"});
  expect_refusal(finetune("e", {"--metric", "roc_auc"}), 2, {"roc_auc", "regression"});
  expect_refusal(finetune("f", {"--split", "by-eye"}), 2, {"by-eye", "scaffold"});
  expect_refusal(finetune("g", {"--split-counts", "100,10"}), 2, {"100", "--fractions"});
  expect_refusal(finetune("h", {"--preset", "no-such"}), 2, {"no-such", "esol"});
  expect_refusal(finetune("i", {"--epochs", "0"}), 2, {"--epochs"});
  expect_refusal(finetune("j", {"--show", "3d"}), 1, {"positions"});
  expect_refusal(
      {"finetune", "--data", data, "--output", folder / "k", "--init", folder / "nothing", "--task", "regression"}, 1,
      {"nothing", "check the path"});
  expect_refusal({"finetune", "--data", data, "--output", folder / "l"}, 2, {"--task"});
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"})
    EXPECT_FALSE(fs::exists(folder.path() / name)) << name;
}

}  // namespace
}  // namespace moleblend::end_to_end
