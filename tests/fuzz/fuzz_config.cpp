// config.toml, as CLI11 reads it for us: any file gives arguments or a UsageError, and any text that a run writes is read back.

#include "apps/config_file.h"
#include "apps/run_folder.h"
#include "tests/fuzz/fuzz_target.h"

namespace moleblend::fuzz {
namespace {

void check_file(std::string_view text) {
  const MemoryFile file(text);
  reads([&] {
    for (const std::string& argument : config_arguments(file.path().string()))
      must(argument.starts_with("--") && argument.find('=') != std::string::npos,
           "an argument is no flag with a value");
  });
}

/// A path, say, as a setting of a run.
void check_value(std::string_view value) {
  reads([&] {
    TomlText toml("a comment");
    toml.add("steps", 7);
    toml.add("data", value);
    toml.add("lr", 0.25);
    const MemoryFile file(toml.text());
    std::vector<std::string> arguments;
    try {
      arguments = config_arguments(file.path().string());
    } catch (const Error&) {
      must(false, "the settings of a run can't be read back");
    }
    must(arguments == std::vector<std::string>{"--steps=7", "--data=" + std::string(value), "--lr=0.25"},
         "a setting changes when written");
  });
}

}  // namespace
}  // namespace moleblend::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend::fuzz;
  const std::string_view text = text_of(data, size);
  check_file(text);
  check_value(text.substr(0, text.find('\n')));
  check_value(text);
  return 0;
}
