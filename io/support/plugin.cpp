#include "io/support/plugin.h"

#include <dlfcn.h>

#include <filesystem>
#include <vector>

namespace moleblend {
namespace {

std::vector<std::string> candidates(const std::string& library) {
  std::vector<std::string> paths;
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    paths.push_back(program.parent_path() / library);
    paths.push_back(program.parent_path().parent_path() / "lib" / "moleblend" / library);
  }
  paths.push_back(library);
  return paths;
}

}  // namespace

Plugin open_plugin(const std::string& library, const std::string& symbol) {
  Plugin plugin;
  for (const auto& path : candidates(library)) {
    const bool is_file = path.find('/') != std::string::npos;
    if (is_file && !std::filesystem::exists(path)) continue;
    if (void* opened = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      plugin.symbol = dlsym(opened, symbol.c_str());
      if (!plugin.symbol) plugin.cause = path + " has no " + symbol;
      return plugin;
    }
    const char* message = dlerror();
    // A library that is there but can't be opened is the cause to report, not the search that failed after it.
    if (plugin.cause.empty()) plugin.cause = message ? message : "unknown cause";
  }
  return plugin;
}

}  // namespace moleblend
