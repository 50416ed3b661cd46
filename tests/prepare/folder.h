#pragma once
// Files and folders of the tests.

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "io/prepare/record.h"
#include "io/support/csv.h"
#include "io/support/files.h"

namespace moleblend {

/// A folder of its own, removed at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "moleblend-prepare-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    write_file(path_ / name, text);
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

/// The text as gzip.
inline std::string gzipped(const std::string& text) {
  z_stream stream{};
  // Window bits 15 + 16: with a gzip header.
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::runtime_error("zlib");
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::vector<Record> all_records(RecordSource& source) {
  std::vector<Record> records;
  for (Record record; source.next(record);) records.push_back(record);
  return records;
}

/// Everything in a folder but the lock, whose text is the process that held it.
inline std::map<std::string, std::string> contents(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().filename() != ".lock")
      files[entry.path().lexically_relative(folder).string()] = read_file(entry.path());
  return files;
}

/// The rows of a rejected.csv, without the header.
inline std::vector<std::vector<std::string>> rejected_rows(const std::filesystem::path& folder) {
  CsvReader reader{TextSource(folder / "rejected.csv")};
  std::vector<std::vector<std::string>> rows;
  for (std::vector<std::string> row; reader.next(row);) rows.push_back(row);
  rows.erase(rows.begin());
  return rows;
}

}  // namespace moleblend
