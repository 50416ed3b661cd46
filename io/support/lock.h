#pragma once
// One program at a time on an output folder.

#include <filesystem>

namespace moleblend {

/// Holds an exclusive lock on `folder` (created if needed) until destroyed; the kernel releases it if the program dies.
/// Throws Error with one clear line if another program holds it. The lock is the file `.lock` in the folder, which
/// stays.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;

 private:
  int descriptor_ = -1;
};

}  // namespace moleblend
