#include "apps/run_folder.h"

#include <nlohmann/json.hpp>

#include "apps/config_file.h"
#include "engine/training/settings.h"
#include "io/support/error.h"

namespace moleblend {

namespace fs = std::filesystem;

namespace {
/// What a program leaves that is killed while it writes the first file of a run.
bool is_cut_start(const fs::path& path) {
  return path.filename().string().starts_with(".config.toml.");
}
}  // namespace

void check_new_run(const fs::path& run) {
  std::error_code none;
  if (fs::exists(run / "config.toml", none))
    throw UsageError("{} is a run already; go on with it by --resume {}, or choose another --output", run.string(),
                     run.string());
  if (fs::exists(run, none) && !fs::is_directory(run, none))
    throw Error("{} is a file; choose another --output", run.string());
  for (const auto& entry : fs::directory_iterator(run, none))
    if (entry.path().filename() != ".lock" && !is_cut_start(entry.path()))
      throw Error("{} is not empty ({} is in it); choose another --output", run.string(),
                  entry.path().filename().string());
}

std::vector<std::string> kept_arguments(const fs::path& run) {
  const fs::path config = run / "config.toml";
  std::error_code none;
  if (!fs::exists(config, none))
    throw Error("{} is no run: it has no config.toml; name a run folder, or start one with --data and --output",
                run.string());
  return config_arguments(config.string());
}

std::vector<std::string> given_arguments(const CLI::App& verb) {
  std::vector<std::string> arguments;
  for (const CLI::Option* option : verb.get_options()) {
    const std::string name = option->get_single_name();
    if (option->count() == 0 || name == "resume" || name == "config" || name == "output") continue;
    std::string value;
    for (const std::string& part : option->results()) value += (value.empty() ? "" : ",") + part;
    arguments.push_back("--" + name + "=" + value);
  }
  return arguments;
}

void refuse_change(const fs::path& run, const nlohmann::ordered_json& here, const nlohmann::ordered_json& there,
                   std::string_view where) {
  if (const std::string difference = first_difference(here, there); !difference.empty())
    throw UsageError(
        "{} can't go on with other settings: {} ({}); leave that flag away, or start a new run with --init",
        run.string(), difference, where);
}

std::string TomlText::line_of(std::string_view key, std::string_view value) {
  const std::vector<std::string> meant = {fmt::format("--{}={}", key, value)};
  // The reader knows no escapes in some versions, and comments inside of quotation marks in others: what it makes of a line decides.
  for (const char quote : {'"', '\''}) {
    std::string line = fmt::format("{} = {}{}{}\n", key, quote, value, quote);
    // A backslash is one between single quotation marks only.
    if (quote == '"' && value.find('\\') != std::string_view::npos) continue;
    if (config_arguments_of(line, "config.toml") == meant) return line;
  }
  throw UsageError(
      "--{} \"{}\" holds characters that a run's config.toml can't keep; use a name without #, quotation marks and "
      "line breaks",
      key, value);
}

}  // namespace moleblend
