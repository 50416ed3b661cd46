#include "io/support/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

#include "io/support/error.h"

namespace moleblend {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPartialMark = ".partial-";
constexpr std::size_t kBufferBytes = 1 << 18;  // large enough that a system call costs nothing beside the copy

const char* remedy(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "free some space and run again";
    case EFBIG:
      return "raise the limit of the size of files (ulimit -f) and run again";
    case EACCES:
    case EPERM:
    case EROFS:
      return "check the permissions or choose another folder";
    case ENOENT:
      return "check the path";
    case ENOTDIR:
      return "a part of the path is a file: check the path";
    case EMFILE:
    case ENFILE:
      return "raise the limit of open files (ulimit -n)";
    default:
      return "check the disk and run again";
  }
}

[[noreturn]] void fail_io(const char* action, const fs::path& path, int error) {
  throw Error("can't {} {}: {}; {}", action, path.string(), std::strerror(error), remedy(error));
}

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

std::uint64_t size_of_open_file(const Descriptor& file, const fs::path& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_io("read", path, errno);
  if (S_ISDIR(status.st_mode)) throw Error("can't read {}: it is a folder; name a file", path.string());
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

AtomicFile::AtomicFile(fs::path target) : target_(std::move(target)) {
  const fs::path folder = target_.has_parent_path() ? target_.parent_path() : fs::path(".");
  // Unique among the programs of this machine and, by the clock, of others that share the folder. The mode follows the
  // umask.
  static std::atomic<unsigned> counter{0};
  do {
    const auto clock = std::chrono::steady_clock::now().time_since_epoch().count();
    temporary_ = folder / fmt::format(".{}{}{}-{:x}-{}", target_.filename().string(), kPartialMark, ::getpid(), clock,
                                      counter++);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail_io("create", target_, errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action) const {
  fail_io(action, target_, errno);
}

void AtomicFile::flush() {
  const char* next = buffer_.data();
  std::size_t left = buffer_.size();
  while (left > 0) {
    const ssize_t written = ::write(descriptor_, next, left);
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("write");
    }
    next += written;
    left -= static_cast<std::size_t>(written);
  }
  buffer_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  while (!bytes.empty()) {
    const std::size_t take = std::min(bytes.size(), kBufferBytes - buffer_.size());
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), take);
    bytes = bytes.subspan(take);
    if (buffer_.size() == kBufferBytes) flush();
  }
}

void AtomicFile::rewrite(std::uint64_t offset, std::span<const std::byte> bytes) {
  flush();
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("write");
    }
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  flush();
  if (::fsync(descriptor_) != 0) fail("sync");
  const int closing = std::exchange(descriptor_, -1);
  if (::close(closing) != 0) fail("write");
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("write");
  temporary_.clear();
  sync_folder(target_.has_parent_path() ? target_.parent_path() : fs::path("."));
}

void write_file(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

std::string read_file(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail_io("read", path, errno);
  // The size is only a hint: files of /proc and pipes say 0.
  std::string content(size_of_open_file(file, path) + 1, '\0');
  std::size_t length = 0;
  for (;;) {
    if (length == content.size()) content.resize(2 * content.size());
    const ssize_t got = ::read(file.get(), content.data() + length, content.size() - length);
    if (got < 0) {
      if (errno == EINTR) continue;
      fail_io("read", path, errno);
    }
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
  }
  content.resize(length);
  return content;
}

void sync_folder(const fs::path& folder) {
  const Descriptor file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.get() < 0) fail_io("sync the folder", folder, errno);
  // Some network file systems can't sync folders and say EINVAL; they make renames durable themselves.
  if (::fsync(file.get()) != 0 && errno != EINVAL) fail_io("sync the folder", folder, errno);
}

std::size_t remove_partial_files(const fs::path& folder) {
  std::size_t removed = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') && name.find(kPartialMark) != std::string::npos)
      removed += fs::remove(entry.path(), ignored);
  }
  return removed;
}

void create_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail_io("create the folder", folder, error.value());
}

MappedFile::MappedFile(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail_io("read", path, errno);
  const std::uint64_t size = size_of_open_file(file, path);
  if (size == 0) return;  // an empty file can't be mapped, and needs no map
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) fail_io("map", path, errno);
  bytes_ = {static_cast<const std::byte*>(memory), size};
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

namespace {

/// The pages around bytes [begin, end) of a map, `around` more on both sides.
void advise(std::span<const std::byte> map, std::size_t begin, std::size_t end, std::size_t around, int advice) {
  constexpr std::size_t kPage = 1u << 16;  // of any system's pages a multiple
  if (map.empty() || begin >= end) return;
  begin = (begin - std::min(begin, around)) / kPage * kPage;
  end = std::min(map.size(), end + around);
  // A hint: what fails costs time or memory only.
  ::madvise(const_cast<std::byte*>(map.data()) + begin, end - begin, advice);
}

}  // namespace

void MappedFile::expect(std::size_t begin, std::size_t end) const {
  advise(bytes_, begin, end, 0, MADV_WILLNEED);
}

void MappedFile::release(std::size_t begin, std::size_t end) const {
  // With a page that is read the system maps its neighbours: 64 kB, or as much as lies in one piece in its cache (up to 2 MB).
  advise(bytes_, begin, end, std::size_t{2} << 20, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace moleblend
