#pragma once
// What the fuzz targets share. A target is a file fuzz_NAME.cpp with LLVMFuzzerTestOneInput: it shows the bytes to a parser of ours,
// which must read them or throw Error, and nothing else; what it reads must come out the same when it is written and read again. Each is
// built in two ways: into test_fuzz, which replays the corpus and simple mutations of it (test_replay.cpp), and, with clang, as a
// libFuzzer program (scripts/fuzz.sh).

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "io/support/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace moleblend::fuzz {

/// A parser that did what it must not. No Error, so that nothing takes it for one: it ends the fuzzer and fails the test.
class Broken : public std::logic_error {
  using std::logic_error::logic_error;
};

inline void must(bool holds, const char* what) {
  if (!holds) throw Broken(what);
}

/// How many inputs were read without an Error: a target that refuses everything would see nothing.
inline std::uint64_t inputs_read = 0;

/// Whether f() ends without an Error; other exceptions pass.
template <class F>
bool reads(F&& f) {
  try {
    f();
  } catch (const Error&) {
    return false;
  }
  ++inputs_read;
  return true;
}

/// What `parse` makes of a text is the same after `write` and `parse`: the text that it writes does not change.
template <class Parse, class Write>
void writes_what_it_reads(std::string_view text, Parse&& parse, Write&& write) {
  reads([&] {
    const std::string once = write(parse(text));
    bool same = false;
    try {
      same = write(parse(once)) == once;
    } catch (const Error&) {
    }
    must(same, "what was read changes when it is written and read again");
  });
}

/// Shows `check` the bytes as they are, and again with the checksum put right, where `mend` can do that: behind it lies everything else.
template <class Check, class Mend>
void check_and_mend(std::string_view text, Check&& check, Mend&& mend) {
  check(text);
  // The JSON library, which mends, would not survive what the parser must refuse.
  if (text.size() > 1 << 16) return;
  if (const std::optional<std::string> mended = mend(text)) check(*mended);
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Bytes under a path that lives in memory, for parsers that take a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (descriptor_ < 0 || ::write(descriptor_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      throw std::runtime_error("no file in memory");
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// A folder for what a target writes, in memory where the system has such; it lives as long as the program.
inline const std::filesystem::path& scratch_folder() {
  struct Folder {
    Folder() {
      const std::filesystem::path memory = "/dev/shm";
      std::string name = ((::access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path()) /
                          "moleblend-fuzz-XXXXXX")
                             .string();
      if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no scratch folder");
      path = name;
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
  };
  static const Folder folder;
  return folder.path;
}

}  // namespace moleblend::fuzz
