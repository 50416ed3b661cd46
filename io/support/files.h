#pragma once
// Files that are whole or absent: atomic writes, whole reads, memory maps. All errors are Error with path, cause and
// remedy.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace moleblend {

/// A file that appears under its name only when complete. The bytes go to a temporary file in the same folder; commit()
/// syncs it, renames it over the target and syncs the folder, so that after a crash or a power cut the target is the
/// old file or the new one. Destroyed without commit(), the temporary file is removed. Temporary files of a killed
/// program: remove_partial_files().
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Writes over bytes that were written before, and leaves the end where it is.
  void rewrite(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Bytes written so far.
  std::uint64_t size() const { return size_; }
  void commit();

 private:
  void flush();
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::string buffer_;
};

/// The whole file at once, atomically.
void write_file(const std::filesystem::path& path, std::string_view content);
/// The whole file.
std::string read_file(const std::filesystem::path& path);
/// Makes renames and new names in a folder durable.
void sync_folder(const std::filesystem::path& folder);
/// Removes what killed programs left of their AtomicFiles. Call it with the folder's lock held; returns how many there
/// were.
std::size_t remove_partial_files(const std::filesystem::path& folder);
/// Creates a folder and its parents; nothing if it is there.
void create_folders(const std::filesystem::path& folder);

/// A read-only memory map of a whole file; the file may be closed, renamed or removed, but not shortened, while it is
/// mapped.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

  /// Bytes [begin, end) will be read soon: the system may fetch them ahead, in one go.
  void expect(std::size_t begin, std::size_t end) const;
  /// Bytes [begin, end) need not stay in this process's memory. They can still be read: from the system's file cache, or the disk.
  void release(std::size_t begin, std::size_t end) const;

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace moleblend
