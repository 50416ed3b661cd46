#include "io/support/plugin.h"

#include <dlfcn.h>

#include <filesystem>
#include <vector>

#include "io/support/error.h"

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

void* open_getter(const PartLibrary& library) {
  void* getter = nullptr;
  std::string cause;
  for (const auto& path : candidates(library.file)) {
    const bool is_file = path.find('/') != std::string::npos;
    if (is_file && !std::filesystem::exists(path)) continue;
    if (void* opened = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      getter = dlsym(opened, library.getter);
      if (!getter) cause = path + " has no " + library.getter;
      break;
    }
    const char* message = dlerror();
    // A library that is there but can't be opened is the cause to report, not the search that failed after it.
    if (cause.empty()) cause = message ? message : "unknown cause";
  }
  if (!getter)
    throw Error("{} needs {}, which can't be opened: {}; {}", library.need, library.file, cause, library.remedy);
  return getter;
}

void refuse_version(const PartLibrary& library) {
  throw Error("{} belongs to another version of moleblend than this one ({}); reinstall moleblend", library.file,
              MOLEBLEND_VERSION);
}

}  // namespace moleblend
