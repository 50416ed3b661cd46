#include "engine/training/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "io/support/error.h"

namespace moleblend {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  /// Network file systems report a failed write only here.
  bool close() {
    const int fd = fd_;
    fd_ = -1;
    return ::close(fd) == 0;
  }

 private:
  int fd_;
};

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    // One call writes at most 2 GiB on Linux; a smaller piece keeps signals from waiting long.
    const ssize_t n = ::write(fd, bytes.data(), std::min<std::size_t>(bytes.size(), std::size_t{1} << 28));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

void write_file_durably(const std::filesystem::path& path, std::span<const std::span<const std::byte>> pieces) {
  std::filesystem::path temporary = path;
  temporary += ".writing-" + std::to_string(::getpid());
  const auto fail = [&](const char* what) {
    const int cause = errno;
    ::unlink(temporary.c_str());
    throw Error("can't {} {}: {}; {}", what, path.string(), std::strerror(cause),
                cause == ENOSPC || cause == EDQUOT ? "free some space and run the same command again"
                                                   : "check the folder and its permissions");
  };
  Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file.get() < 0) fail("create");
  for (const auto piece : pieces)
    if (!write_all(file.get(), piece)) fail("write");
  if (::fsync(file.get()) != 0) fail("sync");
  if (!file.close()) fail("close");
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail("rename");
  sync_folder(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
}

void write_file_durably(const std::filesystem::path& path, std::string_view text) {
  const std::span<const std::byte> piece = std::as_bytes(std::span(text));
  write_file_durably(path, std::span(&piece, 1));
}

void sync_folder(const std::filesystem::path& folder) {
  Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems can't sync a folder (EINVAL) and need not: their names are durable by themselves.
  if (fd.get() < 0 || (::fsync(fd.get()) != 0 && errno != EINVAL))
    throw Error("can't sync the folder {}: {}; check the disk", folder.string(), std::strerror(errno));
}

std::string read_text_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in) throw Error("can't read {}: {}; check that it exists and may be read", path.string(), std::strerror(errno));
  return text;
}

}  // namespace moleblend
