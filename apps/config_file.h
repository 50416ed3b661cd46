#pragma once
// --config FILE: flags of a verb from a TOML file.

#include <string>
#include <vector>

namespace moleblend {

/// The flags of a TOML file as arguments: `steps = 1000` becomes --steps=1000, `blend = [0.2, 0.2, 0.6]` --blend=0.2,0.2,0.6. Throws
/// UsageError for a file that can't be read or has sections.
std::vector<std::string> config_arguments(const std::string& path);

/// The same for a text; `name` stands in messages.
std::vector<std::string> config_arguments_of(const std::string& text, const std::string& name);

/// `arguments` of a verb, and those of `more` whose flag is not among them.
std::vector<std::string> with_defaults(std::vector<std::string> arguments, const std::vector<std::string>& more);

/// The command line with what its --config file says; flags on the command line win. (CLI11 reads configuration files for the program
/// itself only, not for its subcommands.)
std::vector<std::string> expand_config(std::vector<std::string> arguments);

}  // namespace moleblend
