#pragma once
// Parts of the program that are libraries of their own, opened only when they are asked for.

#include <string>

namespace moleblend {

struct PartLibrary {
  const char* file;  // "libmoleblend_cuda.so"
  const char*
      getter;        // its one exported function: T*(const char* program_version), which gives null to another version
  const char* need;  // what it is opened for, as in "--device cuda needs …"
  const char* remedy;  // where it is missing
};

/// The library's getter. Looks for the file next to the program (a build folder), in ../lib/moleblend (an installation), then
/// wherever the loader looks. It stays open for the life of the process: global objects of what it links do not survive being unloaded.
/// Throws Error in one line where it can't be opened.
void* open_getter(const PartLibrary& library);
[[noreturn]] void refuse_version(const PartLibrary& library);

/// What it gives. Throws likewise where the library belongs to another version of the program.
template <class T>
T* open_part(const PartLibrary& library) {
  T* part = reinterpret_cast<T* (*)(const char*)>(open_getter(library))(MOLEBLEND_VERSION);
  if (!part) refuse_version(library);
  return part;
}

}  // namespace moleblend
