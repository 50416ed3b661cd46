#pragma once
// A folder that lives as long as a test.

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace moleblend::testing {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "moleblend-test-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("can't make a temporary folder");
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace moleblend::testing
