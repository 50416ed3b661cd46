#pragma once

#include <string>
#include <vector>

namespace ptx_on_cpu {

/// Decodes every kernel that the program's objects registered, and gives their names. Throws PtxError for one the machine cannot run.
std::vector<std::string> decode_all();

}  // namespace ptx_on_cpu
