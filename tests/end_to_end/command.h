#pragma once
// Runs the program as a user does, in a process of its own, and looks at what it leaves behind.

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace moleblend::end_to_end {

struct Outcome {
  int status = -1;  // exit status; 128 + signal if a signal ended it, as a shell says it
  std::string out, err;
};

/// Runs `moleblend arguments…` with an empty standard input and no terminal, and waits for it. A process that is not done by the
/// deadline is killed, and counts as ended by SIGKILL. The sanitizers' own exit status, should they find something, is 99: a program
/// that fails as it should can't be taken for one that is broken.
Outcome run_program(const std::vector<std::string>& arguments,
                    std::chrono::seconds deadline = std::chrono::minutes(10));

/// The same of any command; its first word is looked for in the PATH.
Outcome run_command(const std::vector<std::string>& words, std::chrono::seconds deadline = std::chrono::minutes(10));
/// The path of the program.
std::string program();

/// Runs the program, which must succeed: a failure of the test that tells the command if not. Returns its standard output.
std::string succeed(const std::vector<std::string>& arguments);

/// The same started by another program, as in {"nice", "-n", "5"}: the words before the program's own name.
Outcome run_program_under(const std::vector<std::string>& words, const std::vector<std::string>& arguments,
                          std::chrono::seconds deadline = std::chrono::minutes(10));

/// Starts the program and kills it with SIGKILL once `now` says so. False if it ended by itself before.
bool kill_program_when(const std::vector<std::string>& arguments, const std::function<bool()>& now,
                       std::chrono::seconds deadline = std::chrono::minutes(10));

/// Starts the program and kills it with SIGKILL once `file` has at least `lines` lines. False if it ended by itself before.
bool kill_program_after(const std::vector<std::string>& arguments, const std::filesystem::path& file, int lines,
                        std::chrono::seconds deadline = std::chrono::minutes(10));

/// A folder of the test's own, removed at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// A name inside it, as an argument.
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& content);
std::vector<std::string> lines_of(const std::string& text);

/// The names of everything below a folder, relative to it, in order; empty if there is no such folder.
std::vector<std::string> names_below(const std::filesystem::path& folder);

/// Writes about `count` molecules, spread over the project's own list, as a SMILES file.
void write_sample_molecules(const std::filesystem::path& path, int count);

/// Writes them as a table with a label: columns `smiles` and `oxygens`, the number of O in the SMILES.
void write_labelled_molecules(const std::filesystem::path& path, int count);

/// The newest checkpoint of a run.
std::filesystem::path last_checkpoint(const std::filesystem::path& run);

}  // namespace moleblend::end_to_end
