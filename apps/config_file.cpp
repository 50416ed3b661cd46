#include "apps/config_file.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {
namespace {

/// "--steps" of "--steps=1000"; empty for what is no flag.
std::string flag_of(const std::string& argument) {
  return argument.starts_with("--") ? argument.substr(0, argument.find('=')) : std::string();
}

}  // namespace

std::vector<std::string> config_arguments_of(const std::string& text, const std::string& name) {
  std::vector<CLI::ConfigItem> items;
  try {
    std::istringstream stream(text);
    items = CLI::ConfigTOML().from_config(stream);
  } catch (const std::exception& e) {  // CLI11's own errors, and in some versions the standard library's
    throw UsageError("{} can't be read as settings ({}); write a line for each flag, as in `steps = 1000`", name,
                     e.what());
  }
  std::vector<std::string> arguments;
  for (const CLI::ConfigItem& item : items) {
    if (!item.parents.empty() || item.name == "++" || item.name == "--")
      throw UsageError("{} has a section [{}]; write the flags without sections, as in `steps = 1000`", name,
                       item.fullname());
    std::string value;
    for (const std::string& input : item.inputs) value += (value.empty() ? "" : ",") + input;
    arguments.push_back("--" + item.name + "=" + value);
  }
  return arguments;
}

std::vector<std::string> config_arguments(const std::string& path) {
  std::string text;
  try {
    text = read_file(path);
  } catch (const Error&) {
    throw UsageError("can't read the configuration file {}; check the path", path);
  }
  return config_arguments_of(text, path);
}

std::vector<std::string> with_defaults(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  const std::vector<std::string> given = arguments;
  for (const std::string& argument : more)
    if (std::none_of(given.begin(), given.end(), [&](const std::string& g) { return flag_of(g) == flag_of(argument); }))
      arguments.push_back(argument);
  return arguments;
}

std::vector<std::string> expand_config(std::vector<std::string> arguments) {
  for (std::size_t k = 0; k < arguments.size(); ++k) {
    if (flag_of(arguments[k]) != "--config") continue;
    const std::size_t equals = arguments[k].find('=');
    if (equals == std::string::npos && k + 1 == arguments.size()) break;  // CLI11 says that the value is missing
    return with_defaults(
        arguments, config_arguments(equals == std::string::npos ? arguments[k + 1] : arguments[k].substr(equals + 1)));
  }
  return arguments;
}

}  // namespace moleblend
