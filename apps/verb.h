#pragma once
// The verbs of the command line. Each apps/<verb>.cpp adds one subcommand.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moleblend {

/// Flags that every verb has.
struct CommonFlags {
  bool json = false;   // machine-readable output on stdout
  bool quiet = false;  // no progress, warnings and errors only
  std::string config;  // already read when a verb runs: its flags are among the verb's (config_file.h)
};

/// Thrown by a verb that has said all it has to say and ends with this status.
struct ExitStatus {
  int status;
};

/// Adds a subcommand with the common flags and --config.
CLI::App* add_verb(CLI::App& program, const std::string& name, const std::string& description, CommonFlags& flags);

/// The flags among a verb's arguments, such as those in a run's config.toml, that `add` knows. Throws what CLI11 throws.
template <class Flags>
Flags parse_flags(void (*add)(CLI::App&, Flags&), std::vector<std::string> arguments) {
  CLI::App app;
  Flags flags;
  CommonFlags common;
  add(app, flags);
  app.add_flag("--json", common.json);
  app.add_flag("--quiet", common.quiet);
  std::reverse(arguments.begin(), arguments.end());
  app.parse(arguments);
  return flags;
}

/// A setting's value becomes that of its flag, if that was given.
template <class T, class U>
void override_with(T& value, const std::optional<U>& given) {
  if (given) value = *given;
}

/// A warning on standard error.
void warn(const std::string& text);

// Each verb's own, in apps/<verb>.cpp.
void add_prepare(CLI::App& program);
void add_inspect(CLI::App& program);
void add_pretrain(CLI::App& program);
void add_replay(CLI::App& program);
void add_evaluate(CLI::App& program);
void add_finetune(CLI::App& program);
void add_predict(CLI::App& program);
void add_embed(CLI::App& program);
void add_bench(CLI::App& program);

}  // namespace moleblend
