#include "io/support/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {
namespace {

/// "process 123 on node7", as the holder wrote it into the lock file.
std::string holder(int descriptor) {
  std::array<char, 256> text{};
  const ssize_t length = ::pread(descriptor, text.data(), text.size(), 0);
  std::string name(text.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  name.resize(std::min(name.size(), name.find('\n')));
  return name.empty() ? "another program" : name;
}

}  // namespace

FolderLock::FolderLock(const std::filesystem::path& folder) {
  create_folders(folder);
  const std::filesystem::path path = folder / ".lock";
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0)
    throw Error("can't write in {}: {}; check the permissions or choose another folder", folder.string(),
                std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    const std::string who = error == EWOULDBLOCK ? holder(descriptor_) : "";
    ::close(std::exchange(descriptor_, -1));
    if (error == EWOULDBLOCK)
      throw Error("{} is in use by {}; wait until it has finished, or choose another folder", folder.string(), who);
    throw Error("can't lock {}: {}; choose a folder on a file system that has locks", path.string(),
                std::strerror(error));
  }
  std::array<char, 128> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string name = fmt::format("process {} on {}\n", ::getpid(), host.data());
  // Only for the message that a second program gives; the lock holds without it.
  if (::ftruncate(descriptor_, 0) == 0) (void)!::pwrite(descriptor_, name.data(), name.size(), 0);
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FolderLock::FolderLock(FolderLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

}  // namespace moleblend
