#pragma once
// Lines of a text file, plain or gzip, streaming. Unlike TextSource, which refuses a damaged file, it gives every line
// before the damage: one bad block of a large file must cost the records in it and no others.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

struct gzFile_s;

namespace moleblend {

class LineReader {
 public:
  /// Throws Error if the file can't be opened. A byte order mark is skipped; UTF-16 is an Error at the first line.
  explicit LineReader(const std::filesystem::path& path);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// The next line without its end (LF or CRLF; CR where a file has no LF) into `line`. False at the end of the file, or where it can't be read any further:
  /// then failure() says why and `line` is what there is of the broken line. Of a line longer than kMaxRecordBytes only the beginning is kept, and too_long() is true.
  bool next(std::string& line);
  /// Number of the line that next() gave last, from 1.
  std::uint64_t line_number() const { return line_number_; }
  bool too_long() const { return too_long_; }
  /// Why reading stopped before the end (a damaged or cut gzip stream); empty if it did not.
  const std::string& failure() const { return failure_; }
  /// Bytes of the stored (compressed) file up to the line that next() gave last; of a compressed one, about so many.
  std::uint64_t bytes_read() const {
    if (end_ == 0) return stored_bytes_;
    return stored_before_ + (stored_bytes_ - stored_before_) * begin_ / end_;
  }

 private:
  bool fill();
  void begin_text();

  std::string path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile_s*)> file_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::uint64_t line_number_ = 0;
  std::uint64_t stored_before_ = 0, stored_bytes_ = 0;  // up to the buffer's beginning and its end
  bool too_long_ = false, at_end_ = false, begun_ = false;
  char line_end_ = '\n';
  std::string failure_;
};

}  // namespace moleblend
