#include "io/prepare/line_reader.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "io/prepare/record.h"
#include "io/support/error.h"

namespace moleblend {
namespace {
constexpr std::size_t kBufferBytes = 1u << 18;
}  // namespace

LineReader::LineReader(const std::filesystem::path& path)
    : path_(path.string()), file_(nullptr, gzclose_r), buffer_(kBufferBytes) {
  if (std::filesystem::is_directory(path)) throw Error("{} is a folder; name the molecule files in it", path.string());
  errno = 0;
  file_.reset(gzopen(path.c_str(), "rb"));  // reads files that are not gzip as they are
  if (!file_)
    throw Error("can't read {}: {}; check the path and the permissions", path.string(),
                std::strerror(errno == 0 ? ENOMEM : errno));
  gzbuffer(file_.get(), kBufferBytes);
}

LineReader::~LineReader() = default;

bool LineReader::fill() {
  if (at_end_) return false;
  const int read = gzread(file_.get(), buffer_.data(), static_cast<unsigned>(buffer_.size()));
  begin_ = 0;
  end_ = read > 0 ? static_cast<std::size_t>(read) : 0;
  stored_before_ = stored_bytes_;
  if (const auto offset = gzoffset(file_.get()); offset > 0)
    stored_bytes_ = std::max(stored_before_, static_cast<std::uint64_t>(offset));
  if (read > 0) {
    if (!std::exchange(begun_, true)) begin_text();
    return true;
  }
  at_end_ = true;
  int status = Z_OK;
  const char* message = gzerror(file_.get(), &status);
  if (status == Z_BUF_ERROR)
    failure_ = "the gzip stream is cut short here";
  else if (status == Z_ERRNO)
    failure_ = fmt::format("the file can't be read any further: {}", std::strerror(errno));
  else if (status != Z_OK && status != Z_STREAM_END)
    failure_ = fmt::format("the gzip stream is damaged here ({})", message);
  return false;
}

void LineReader::begin_text() {
  const std::string_view text(buffer_.data(), end_);
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    throw Error("{} is UTF-16 text; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)", path_);
  if (text.starts_with("\xef\xbb\xbf")) begin_ = 3;  // byte order mark
  // Files of old Macintosh programs end their lines with CR alone.
  if (text.find('\n') == std::string_view::npos && text.find('\r') != std::string_view::npos) line_end_ = '\r';
}

bool LineReader::next(std::string& line) {
  line.clear();
  too_long_ = false;
  if (begin_ == end_ && !fill()) return false;
  ++line_number_;
  bool ended = false;
  do {
    const char* from = buffer_.data() + begin_;
    const void* found = std::memchr(from, line_end_, end_ - begin_);
    const std::size_t length = found ? static_cast<std::size_t>(static_cast<const char*>(found) - from) : end_ - begin_;
    const std::size_t room = kMaxRecordBytes - line.size();
    line.append(from, std::min(length, room));
    too_long_ = too_long_ || length > room;
    begin_ += length + (found ? 1 : 0);
    ended = found != nullptr;
  } while (!ended && fill());
  if (!ended && !failure_.empty()) return false;
  while (!line.empty() && line.back() == '\r') line.pop_back();  // several where a text was converted twice
  return true;
}

}  // namespace moleblend
