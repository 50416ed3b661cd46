// Finds and opens libmoleblend_chemistry.so.

#include <dlfcn.h>

#include <filesystem>
#include <vector>

#include "io/chemistry/chemistry.h"
#include "io/chemistry/factory.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

constexpr const char* kLibrary = "libmoleblend_chemistry.so";

/// Next to the program (a build folder), in ../lib/moleblend (an installation), then wherever the loader looks.
std::vector<std::string> candidates() {
  std::vector<std::string> paths;
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    paths.push_back(program.parent_path() / kLibrary);
    paths.push_back(program.parent_path().parent_path() / "lib" / "moleblend" / kLibrary);
  }
  paths.emplace_back(kLibrary);
  return paths;
}

/// The library stays open for the life of the process: Open Babel's and RDKit's global objects do not survive being
/// unloaded.
void* open_library() {
  std::string cause;
  for (const auto& path : candidates()) {
    const bool is_file = path.find('/') != std::string::npos;
    if (is_file && !std::filesystem::exists(path)) continue;
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    const char* message = dlerror();
    // A library that is there but can't be opened is the cause to report, not the search that failed after it.
    if (cause.empty()) cause = message ? message : "unknown cause";
  }
  throw Error(
      "reading molecules needs {}, which can't be opened: {}; install libopenbabel7 (to build: libopenbabel-dev, then "
      "configure "
      "with -DMOLEBLEND_OPENBABEL=on), or prepare the data set on a machine that has it",
      kLibrary, cause);
}

}  // namespace

std::unique_ptr<Chemistry> load_chemistry() {
  void* library = open_library();
  const auto make = reinterpret_cast<ChemistryFactory*>(dlsym(library, kChemistryFactory));
  if (!make) throw Error("{} is not moleblend's: it has no {}; reinstall moleblend", kLibrary, kChemistryFactory);
  std::unique_ptr<Chemistry> chemistry(make(MOLEBLEND_VERSION));
  if (!chemistry) {
    throw Error("{} belongs to another version of moleblend than this one ({}); reinstall moleblend", kLibrary,
                MOLEBLEND_VERSION);
  }
  return chemistry;
}

}  // namespace moleblend
