#include "tests/end_to_end/command.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace moleblend::end_to_end {
namespace {
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kPollInterval = std::chrono::milliseconds(5);
// Short beside what is waited for: a line of a log, a folder that is there while a checkpoint is written.
constexpr auto kBriefInterval = std::chrono::microseconds(500);

/// The environment of this process, with exit status 99 for what the sanitizers find. Threads that wait let go of their core: tests share
/// the machine with each other.
std::vector<std::string> environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) entries.emplace_back(*entry);
  for (const std::string name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"}) {
    const char* given = std::getenv(name.c_str());
    std::erase_if(entries, [&](const std::string& entry) { return entry.starts_with(name + "="); });
    entries.push_back(name + "=" + (given ? std::string(given) + ":" : "") + "exitcode=99");
  }
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) entries.push_back("OMP_WAIT_POLICY=passive");
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

/// The command of the program with these arguments, after the words of what starts it.
std::vector<std::string> with_program(const std::vector<std::string>& arguments, std::vector<std::string> words = {}) {
  words.push_back(program());
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

/// Starts a command with its output going to the two files.
pid_t start(std::vector<std::string> words, const fs::path& out, const fs::path& err) {
  std::vector<std::string> variables = environment();

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t pid = 0;
  const int error =
      posix_spawnp(&pid, words[0].c_str(), &actions, nullptr, pointers(words).data(), pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::system_error(error, std::generic_category(), words[0]);
  return pid;
}

/// The wait status if the process has ended.
bool ended(pid_t pid, int& wait_status) {
  return waitpid(pid, &wait_status, WNOHANG) == pid;
}

int exit_status(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

int kill_and_wait(pid_t pid) {
  kill(pid, SIGKILL);
  int wait_status = 0;
  waitpid(pid, &wait_status, 0);
  return wait_status;
}
}  // namespace

std::string program() {
  return MOLEBLEND_BINARY_DIR "/moleblend";
}

Outcome run_program(const std::vector<std::string>& arguments, std::chrono::seconds deadline) {
  return run_program_under({}, arguments, deadline);
}

Outcome run_program_under(const std::vector<std::string>& words, const std::vector<std::string>& arguments,
                          std::chrono::seconds deadline) {
  return run_command(with_program(arguments, words), deadline);
}

Outcome run_command(const std::vector<std::string>& words, std::chrono::seconds deadline) {
  const TemporaryFolder folder;
  const fs::path out = folder / "out", err = folder / "err";
  const auto end = Clock::now() + deadline;
  const pid_t pid = start(words, out, err);
  int wait_status = 0;
  while (!ended(pid, wait_status)) {
    if (Clock::now() > end) {
      wait_status = kill_and_wait(pid);
      break;
    }
    std::this_thread::sleep_for(kPollInterval);
  }
  return {exit_status(wait_status), read_file(out), read_file(err)};
}

std::string succeed(const std::vector<std::string>& arguments) {
  const Outcome outcome = run_program(arguments);
  std::string command = "moleblend";
  for (const std::string& argument : arguments) command += " " + argument;
  EXPECT_EQ(outcome.status, 0) << command << "\n" << outcome.err;
  return outcome.out;
}

bool kill_program_when(const std::vector<std::string>& arguments, const std::function<bool()>& now,
                       std::chrono::seconds deadline) {
  const TemporaryFolder folder;
  const auto end = Clock::now() + deadline;
  const pid_t pid = start(with_program(arguments), folder / "out", folder / "err");
  int wait_status = 0;
  while (!ended(pid, wait_status)) {
    const bool reached = now();
    if (reached || Clock::now() > end) {
      kill_and_wait(pid);
      return reached;
    }
    std::this_thread::sleep_for(kBriefInterval);
  }
  return false;
}

bool kill_program_after(const std::vector<std::string>& arguments, const fs::path& file, int lines,
                        std::chrono::seconds deadline) {
  return kill_program_when(
      arguments, [&] { return fs::exists(file) && static_cast<int>(lines_of(read_file(file)).size()) >= lines; },
      deadline);
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (fs::temp_directory_path() / "moleblend-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::generic_category(), name);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;  // a folder that can't be removed must not hide what the test found
  fs::remove_all(path_, ignored);
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

void write_file(const fs::path& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> names_below(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code gone;  // a program at work takes away what was there a moment ago
  for (fs::recursive_directory_iterator entry(folder, gone), end; entry != end; entry.increment(gone))
    names.push_back(entry->path().lexically_relative(folder).string());
  std::sort(names.begin(), names.end());
  return names;
}

void write_sample_molecules(const fs::path& path, int count) {
  const std::vector<std::string> all = lines_of(read_file(MOLEBLEND_SOURCE_DIR "/examples/molecules.smi"));
  const std::size_t stride = all.size() / static_cast<std::size_t>(count);
  std::string content;
  for (int k = 0; k < count; ++k) content += all.at(static_cast<std::size_t>(k) * stride) + "\n";
  write_file(path, content);
}

void write_labelled_molecules(const fs::path& path, int count) {
  write_sample_molecules(path, count);
  std::string table = "smiles,oxygens\n";
  for (const std::string& line : lines_of(read_file(path))) {
    const std::string smiles = line.substr(0, line.find_first_of(" \t"));
    table += smiles + "," + std::to_string(std::count(smiles.begin(), smiles.end(), 'O')) + "\n";
  }
  write_file(path, table);
}

fs::path last_checkpoint(const fs::path& run) {
  fs::path last;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints")) {
    if (entry.path().filename().string().starts_with("step-")) last = std::max(last, entry.path());
  }
  if (last.empty()) throw std::runtime_error("no checkpoint in " + run.string());
  return last;
}

}  // namespace moleblend::end_to_end
