// What goes wrong before or around the work itself: one line on standard error that names the cause and a remedy, exit status 2 for
// usage and 1 for failure, and nothing half-written left behind.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <ostream>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

/// The names that cases share. Everything lies in one folder.
struct Place {
  const TemporaryFolder& folder;
  std::string molecules = folder / "molecules.smi";
  std::string data = folder / "data";
  std::string run = folder / "run";
  std::string output = folder / "output";

  void prepare() const {
    write_sample_molecules(molecules, 12);
    must_succeed({"prepare", "--input", molecules, "--output", data, "--quiet"});
  }
  void pretrain(const Arguments& more = {}) const {
    Arguments arguments{"pretrain", "--data", data, "--output", run, "--model", "tiny", "--steps", "2", "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    must_succeed(arguments);
  }
  fs::path shard() const {
    for (const auto& entry : fs::directory_iterator(data)) {
      if (entry.path().extension() == ".mbs") return entry.path();
    }
    throw std::runtime_error("no shard in " + data);
  }

 private:
  static void must_succeed(const Arguments& arguments) {
    const Outcome outcome = run_program(arguments);
    if (outcome.status != 0) throw std::runtime_error("making the case failed: " + outcome.err);
  }
};

struct Case {
  std::string name;
  int status;                                         // expected
  std::vector<std::string> words;                     // that the message has: what it is about
  std::function<Arguments(const Place& place)> make;  // makes the bad input, and the command that meets it
  bool begun = false;                                 // the fault is met only when the run has begun
};
void PrintTo(const Case& one, std::ostream* out) {
  *out << one.name;
}

Arguments pretrain_arguments(const Place& place, Arguments more = {}) {
  Arguments arguments{"pretrain", "--data", place.data, "--output", place.output,
                      "--model",  "tiny",   "--steps",  "2",        "--quiet"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

Arguments prepare_arguments(const Place& place, const std::string& input, Arguments more = {}) {
  Arguments arguments{"prepare", "--input", input, "--output", place.output, "--quiet"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

const std::vector<Case> kCases = {
    // ---- usage -----------------------------------------------------------------------------------------------------------------
    {"NoVerb", 2, {"--help"}, [](const Place&) { return Arguments{}; }},
    {"UnknownVerb", 2, {"pretrian"}, [](const Place&) { return Arguments{"pretrian"}; }},
    {"UnknownFlag",
     2,
     {"--bach-size"},
     [](const Place& place) {
       return pretrain_arguments(place, {"--bach-size", "4"});
     }},
    {"FlagWithoutValue",
     2,
     {"--data"},
     [](const Place&) {
       return Arguments{"pretrain", "--data"};
     }},
    {"StepsNotANumber",
     2,
     {"--steps", "many"},
     [](const Place& place) {
       return Arguments{"pretrain", "--data", place.data, "--output", place.output, "--steps", "many"};
     }},
    {"NegativeBatchSize",
     2,
     {"batch-size"},
     [](const Place& place) {
       place.prepare();
       return pretrain_arguments(place, {"--batch-size", "-3"});
     }},
    {"UnknownModel",
     2,
     {"enormous"},
     [](const Place& place) {
       place.prepare();
       return Arguments{"pretrain", "--data",   place.data, "--output", place.output,
                        "--model",  "enormous", "--steps",  "2"};
     }},
    {"PartOutOfRange",
     2,
     {"part", "5/4"},
     [](const Place& place) {
       place.prepare();
       return prepare_arguments(place, place.molecules, {"--part", "5/4"});
     }},
    {"ConfigFileMissing",
     2,
     {"nowhere.toml"},
     [](const Place& place) {
       return pretrain_arguments(place, {"--config", place.folder / "nowhere.toml"});
     }},
    // ---- molecule files --------------------------------------------------------------------------------------------------------
    {"MissingFile",
     1,
     {"nowhere.smi"},
     [](const Place& place) { return prepare_arguments(place, place.folder / "nowhere.smi"); }},
    {"EmptyFile",
     1,
     {"empty.smi"},
     [](const Place& place) {
       write_file(place.folder.path() / "empty.smi", "");
       return prepare_arguments(place, place.folder / "empty.smi");
     }},
    {"NoSmilesColumn",
     2,
     {"table.csv", "smiles"},
     [](const Place& place) {
       write_file(place.folder.path() / "table.csv", "name,value\nethanol,1\n");
       return prepare_arguments(place, place.folder / "table.csv");
     }},
    {"NoSuchLabelColumn",
     2,
     {"table.csv", "potency"},
     [](const Place& place) {
       write_file(place.folder.path() / "table.csv", "smiles,value\nCCO,1\n");
       return prepare_arguments(place, place.folder / "table.csv", {"--label-columns", "potency"});
     }},
    {"UnknownFormat",
     2,
     {"molecules.qqq"},
     [](const Place& place) {
       write_file(place.folder.path() / "molecules.qqq", "CCO\n");
       return prepare_arguments(place, place.folder / "molecules.qqq");
     }},
    {"OutputFolderNotEmpty",
     2,
     {"output"},
     [](const Place& place) {
       place.prepare();
       fs::create_directory(place.output);
       write_file(fs::path(place.output) / "mine.txt", "not the program's");
       return prepare_arguments(place, place.molecules);
     }},
    // ---- data sets -------------------------------------------------------------------------------------------------------------
    {"NoDataSet", 1, {"data"}, [](const Place& place) { return pretrain_arguments(place); }},
    {"DamagedDatasetJson",
     1,
     {"dataset.json"},
     [](const Place& place) {
       place.prepare();
       write_file(fs::path(place.data) / "dataset.json", "{\"schema\": 1, ");
       return pretrain_arguments(place);
     }},
    {"MissingShard",
     1,
     {"shard"},
     [](const Place& place) {
       place.prepare();
       fs::remove(place.shard());
       return pretrain_arguments(place);
     }},
    {"TruncatedShard",
     1,
     {"shard"},
     [](const Place& place) {
       place.prepare();
       fs::resize_file(place.shard(), fs::file_size(place.shard()) / 2);
       return pretrain_arguments(place);
     }},
    {"CorruptShard",
     1,
     {"shard"},
     [](const Place& place) {
       place.prepare();
       std::string bytes = read_file(place.shard());
       // Past the header and the tables, into every record.
       for (std::size_t k = bytes.size() / 4; k + 40 < bytes.size(); k += 40)
         bytes[k] = static_cast<char>(bytes[k] ^ 0x20);
       write_file(place.shard(), bytes);
       return pretrain_arguments(place);
     },
     true},
    // ---- runs and checkpoints --------------------------------------------------------------------------------------------------
    {"RunFolderTaken",
     2,
     {"run", "--resume"},
     [](const Place& place) {
       place.prepare();
       place.pretrain();
       return Arguments{"pretrain", "--data", place.data, "--output", place.run,
                        "--model",  "tiny",   "--steps",  "2",        "--quiet"};
     }},
    {"ResumeWithoutRun",
     1,
     {"run"},
     [](const Place& place) {
       return Arguments{"pretrain", "--resume", place.run};
     }},
    {"CheckpointOfAnotherModel",
     1,
     {"checkpoint"},
     [](const Place& place) {
       place.prepare();
       place.pretrain();
       return Arguments{"pretrain", "--data",     place.data,
                        "--output", place.output, "--model",
                        "small",    "--init",     last_checkpoint(place.run).string(),
                        "--steps",  "2",          "--quiet"};
     }},
    {"DamagedCheckpoint",
     1,
     {"model.safetensors"},
     [](const Place& place) {
       place.prepare();
       place.pretrain();
       const fs::path weights = last_checkpoint(place.run) / "model.safetensors";
       std::string bytes = read_file(weights);
       bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x01);
       write_file(weights, bytes);
       return Arguments{"evaluate", "--data", place.data, "--checkpoint", last_checkpoint(place.run).string()};
     }},
    {"CudaWithoutCuda",
     1,
     {"--device cuda", "use --device cpu"},
     [](const Place& place) {
       place.prepare();
       setenv("CUDA_VISIBLE_DEVICES", "-1", 1);  // a machine with a GPU is one without for this
       return pretrain_arguments(place, {"--device", "cuda"});
     }},
    {"EvaluateWithCudaWithoutCuda",
     1,
     {"--device cuda", "use --device cpu"},
     [](const Place& place) {
       place.prepare();
       place.pretrain();
       setenv("CUDA_VISIBLE_DEVICES", "-1", 1);
       return Arguments{"evaluate", "--data", place.data, "--checkpoint", place.run, "--device", "cuda"};
     }},
    {"NoSuchDevice",
     2,
     {"--device", "tpu", "cpu or cuda"},
     [](const Place& place) {
       place.prepare();
       return pretrain_arguments(place, {"--device", "tpu"});
     }},
};

class BadInput : public ::testing::TestWithParam<Case> {};

TEST_P(BadInput, IsOneLineAndLeavesNothing) {
  const TemporaryFolder folder;
  const Place place{folder};
  const Arguments arguments = GetParam().make(place);
  const std::vector<std::string> before = names_below(folder.path());

  const Outcome outcome = run_program(arguments, std::chrono::minutes(2));

  EXPECT_EQ(outcome.status, GetParam().status) << outcome.err;
  const std::vector<std::string> lines = lines_of(outcome.err);
  ASSERT_EQ(lines.size(), 1u) << outcome.err;
  EXPECT_TRUE(lines[0].starts_with("moleblend: ")) << lines[0];
  // A failure is told as "what, where, why; remedy". Of a wrong flag, what it must be is the remedy.
  EXPECT_TRUE(outcome.status != 1 || lines[0].find("; ") != std::string::npos) << "no remedy: " << lines[0];
  for (const std::string& word : GetParam().words) {
    EXPECT_NE(lines[0].find(word), std::string::npos) << "no \"" << word << "\" in: " << lines[0];
  }
  std::vector<std::string> after = names_below(folder.path());
  // A run that had begun keeps its settings and log, to go on from when its data are whole again, but no checkpoint.
  if (GetParam().begun) {
    std::erase_if(after, [](const std::string& name) {
      return name == "output" || name == "output/.lock" || name == "output/config.toml" ||
             name == "output/metrics.jsonl";
    });
  }
  EXPECT_EQ(after, before) << "left behind";
}

INSTANTIATE_TEST_SUITE_P(Table, BadInput, ::testing::ValuesIn(kCases), [](const auto& one) { return one.param.name; });

/// A refused molecule is no failure: it is named in rejected.csv, and the others make the data set.
TEST(BadMolecule, CostsThatMoleculeOnly) {
  const TemporaryFolder folder;
  write_file(folder.path() / "mixed.smi",
             "CCO ethanol\nC1CC broken_ring\nc1ccccc1 benzene\nXx unknown_element\nCC(=O)O acetic_acid\n");
  const Outcome outcome =
      run_program({"prepare", "--input", folder / "mixed.smi", "--output", folder / "data", "--quiet"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const std::string rejected = read_file(folder.path() / "data" / "rejected.csv");
  EXPECT_EQ(lines_of(rejected).size(), 3u) << rejected;
  EXPECT_NE(rejected.find("broken_ring"), std::string::npos) << rejected;
  EXPECT_NE(rejected.find("unknown_element"), std::string::npos) << rejected;
}

}  // namespace
}  // namespace moleblend::end_to_end
