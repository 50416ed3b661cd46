// The batch scripts of scripts/slurm, with commands of SLURM that only do what the scripts need of them: the commands that they print are
// ones that the program takes, and a job that is stopped goes back to the queue and on.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "tests/end_to_end/command.h"

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

class Launchers : public ::testing::Test {
 protected:
  void SetUp() override {
    write_sample_molecules(folder / "molecules.smi", 40);
    succeed({"prepare", "--input", folder / "molecules.smi", "--output", data, "--quiet"});
    // srun runs the command after its flags; scontrol notes what it is asked for.
    tool("srun", "while [[ $1 == -* ]]; do shift; done\nexec \"$@\"\n");
    tool("scontrol", "echo \"$*\" >> '" + folder / "scontrol" + "'\n");
  }

  void tool(const std::string& name, const std::string& text) {
    fs::create_directories(folder / "tools");
    const fs::path path = folder.path() / "tools" / name;
    write_file(path, "#!/usr/bin/env bash\n" + text);
    fs::permissions(path, fs::perms::owner_all);
  }

  /// A batch script in an environment as a job of SLURM has it.
  Outcome script(const std::string& name, const Arguments& arguments, Arguments environment = {}) {
    Arguments words{"env", "MOLEBLEND=" + program(), "PATH=" + folder / "tools" + ":" + std::getenv("PATH")};
    words.insert(words.end(), environment.begin(), environment.end());
    words.push_back(MOLEBLEND_SOURCE_DIR "/scripts/slurm/" + name + ".sbatch");
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_command(words, std::chrono::minutes(3));
  }

  /// The program's arguments in a command that a script has printed.
  static Arguments arguments_in(const std::string& line) {
    std::istringstream words(line);
    Arguments arguments;
    bool found = false;
    for (std::string word; words >> word;) {
      if (found) arguments.push_back(word);
      found = found || word == program();
    }
    return arguments;
  }

  TemporaryFolder folder;
  const std::string data = folder / "data";
};

TEST_F(Launchers, PretrainPrintsACommandThatTheProgramTakesAndThenOneThatGoesOn) {
  const Arguments flags{"--dry-run", "--data", data, "--output", folder / "run", "--model", "tiny", "--steps", "3"};
  const Outcome dry = script("pretrain", flags, {"SLURM_CPUS_PER_TASK=1"});
  ASSERT_EQ(dry.status, 0) << dry.err;
  EXPECT_TRUE(dry.out.starts_with("srun --mpi=pmix ")) << dry.out;
  succeed(arguments_in(dry.out));
  const Outcome again = script("pretrain", flags, {"SLURM_CPUS_PER_TASK=1"});
  EXPECT_NE(again.out.find("--resume " + folder / "run"), std::string::npos) << again.out;
  succeed(arguments_in(again.out));
}

TEST_F(Launchers, APretrainingJobThatIsStoppedGoesBackToTheQueueAndOn) {
  // Long enough that the signal comes before the end; sanitizers' steps take several times as long.
  const Arguments flags{
      "--data",  data,     "--output", folder / "run", "--model", "tiny", "--steps", MOLEBLEND_SANITIZED ? "24" : "60",
      "--quiet", "--seed", "3",        "--threads",    "1"};
  const Arguments job{"SLURM_JOB_ID=17"};
  // What SLURM does before a time limit: SIGUSR1 to the batch script alone.
  tool("srun",
       "while [[ $1 == -* ]]; do shift; done\n"
       "script=$PPID\n"
       "(while (($(cat '" +
           folder / "run/metrics.jsonl" +
           "' 2>/dev/null | wc -l) < 10)); do sleep 0.02; done; kill -USR1 $script) &\n"
           "exec \"$@\"\n");
  EXPECT_EQ(script("pretrain", flags, job).status, 138);
  EXPECT_EQ(read_file(folder / "scontrol"), "requeue 17\n");
  tool("srun", "while [[ $1 == -* ]]; do shift; done\nexec \"$@\"\n");
  const Outcome rest = script("pretrain", flags, job);
  EXPECT_EQ(rest.status, 0) << rest.err;
  EXPECT_EQ(read_file(folder / "scontrol"), "requeue 17\n") << "a finished run is not put in the queue again";

  Arguments straight{"pretrain"};
  straight.insert(straight.end(), flags.begin(), flags.end());
  straight[4] = folder / "straight";
  succeed(straight);
  EXPECT_TRUE(read_file(last_checkpoint(folder / "run") / "model.safetensors") ==
              read_file(last_checkpoint(folder / "straight") / "model.safetensors"));
}

TEST_F(Launchers, TheLastTaskOfAnArrayMergesTheParts) {
  const Arguments flags{"--input", folder / "molecules.smi", "--output", folder / "whole", "--block-size", "5",
                        "--quiet"};
  const Outcome dry = script("prepare_array", {"--dry-run", "--input", "x", "--output", "y"});
  EXPECT_EQ(lines_of(dry.out).size(), 2u) << dry.out;
  for (const std::string task : {"2", "3", "1"}) {
    EXPECT_FALSE(fs::exists(folder / "whole"));
    const Outcome done = script("prepare_array", flags, {"SLURM_ARRAY_TASK_ID=" + task, "SLURM_ARRAY_TASK_COUNT=3"});
    EXPECT_EQ(done.status, 0) << done.err;
  }
  succeed(
      {"prepare", "--input", folder / "molecules.smi", "--output", folder / "at once", "--block-size", "5", "--quiet"});
  const std::vector<std::string> names = names_below(folder / "at once");
  EXPECT_EQ(names, names_below(folder / "whole"));
  for (const std::string& name : names) {
    if (name == ".lock") continue;  // names the process that wrote
    EXPECT_TRUE(read_file(folder.path() / "whole" / name) == read_file(folder.path() / "at once" / name)) << name;
  }
}

TEST_F(Launchers, BenchMeasuresEachNumberOfNodes) {
  const Arguments flags{"--per-rank",       "4",       "--data", data,      "--output",
                        folder / "scaling", "--model", "tiny",   "--steps", "6"};
  const Outcome run = script("bench", flags, {"SLURM_JOB_ID=17", "SLURM_JOB_NUM_NODES=3"});
  EXPECT_EQ(run.status, 0) << run.err;
  const std::vector<std::string> table = lines_of(read_file(folder / "scaling/scaling.txt"));
  ASSERT_EQ(table.size(), 3u) << run.out;
  EXPECT_NE(table[0].find("molecules/s"), std::string::npos);
  EXPECT_EQ(table[1].find("     1      1        4"), 0u) << table[1];
  EXPECT_NE(table[1].find("100.0%"), std::string::npos) << table[1];
  EXPECT_EQ(table[2].find("     2      2        8"), 0u) << table[2];
}

}  // namespace
}  // namespace moleblend::end_to_end
