#pragma once
// What the verbs that fill a run folder share: the folder, its config.toml, and going on with it.

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace moleblend {

/// Throws UsageError if `run` holds a run already, Error if it holds anything else or is a file.
void check_new_run(const std::filesystem::path& run);

/// The arguments in a run's config.toml. Throws Error if there is none.
std::vector<std::string> kept_arguments(const std::filesystem::path& run);

/// The flags that were given to a verb, as arguments; without those that say where it runs (resume, config, output).
std::vector<std::string> given_arguments(const CLI::App& verb);

/// Throws UsageError naming the first setting in which a run that goes on differs from what it was; `where` says what holds those.
void refuse_change(const std::filesystem::path& run, const nlohmann::ordered_json& here,
                   const nlohmann::ordered_json& there, std::string_view where);

/// The text of a config.toml, that --config reads back: add() throws UsageError for a text that would not be read as it was.
class TomlText {
 public:
  explicit TomlText(std::string_view comment) : text_(fmt::format("# {}\n", comment)) {}
  void section(std::string_view name) { text_ += fmt::format("\n# {}\n", name); }
  template <class T>
  void add(std::string_view key, const T& value) {
    if constexpr (std::is_convertible_v<const T&, std::string_view>) {
      text_ += line_of(key, value);
    } else {
      text_ += fmt::format("{} = {}\n", key, value);
    }
  }
  const std::string& text() const { return text_; }

 private:
  static std::string line_of(std::string_view key, std::string_view value);
  std::string text_;
};

}  // namespace moleblend
