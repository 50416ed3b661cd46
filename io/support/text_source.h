#pragma once
// Text from a plain or a gzip file (or from memory), as bytes or as lines, in one pass.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace moleblend {

/// A gzip file is known by its first bytes, not by its name; several gzip members follow each other as one text. A
/// UTF-8 byte order mark at the start is skipped. Errors (Error): no such file, damaged or truncated gzip, UTF-16 text.
class TextSource {
 public:
  explicit TextSource(const std::filesystem::path& path);
  /// A text in memory; `name` stands in messages.
  static TextSource of_text(std::string text, std::string name = "text");
  TextSource(TextSource&&) noexcept;
  TextSource& operator=(TextSource&&) noexcept;
  ~TextSource();

  /// Next byte, or -1 at the end.
  int get() {
    if (next_ == end_ && !fill()) return -1;
    return static_cast<unsigned char>(*next_++);
  }
  /// Next byte without taking it, or -1 at the end.
  int peek() {
    if (next_ == end_ && !fill()) return -1;
    return static_cast<unsigned char>(*next_);
  }
  /// Next line without its end (LF or CRLF); false at the end. A last line without a line end counts. Counts
  /// line_number().
  bool line(std::string& out);
  /// Lines taken by line() so far: the number of the last one, from 1.
  std::uint64_t line_number() const { return line_; }

  const std::string& name() const;
  /// Bytes of the file itself (packed ones, of a gzip file) read so far, and in all: for progress.
  std::uint64_t bytes_read() const;
  std::uint64_t bytes_total() const;

 private:
  struct State;
  explicit TextSource(std::unique_ptr<State> state);
  bool fill();
  void skip_byte_order_mark();

  std::unique_ptr<State> state_;
  const char* next_ = nullptr;
  const char* end_ = nullptr;
  std::uint64_t line_ = 0;
};

}  // namespace moleblend
