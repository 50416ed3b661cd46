#pragma once
// Parts of the program that are libraries of their own, opened only when they are asked for.

#include <string>

namespace moleblend {

struct Plugin {
  void* symbol = nullptr;  // the symbol asked for, or null
  std::string cause;       // why there is none
};

/// Opens `library` next to the program (a build folder), in ../lib/moleblend (an installation), or wherever the loader looks, and finds
/// `symbol` in it. The library stays open for the life of the process: global objects of what it links do not survive being unloaded.
Plugin open_plugin(const std::string& library, const std::string& symbol);

}  // namespace moleblend
