#include "io/support/text_source.h"

#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "io/support/error.h"

namespace moleblend {
namespace {
constexpr unsigned kReadBytes = 1 << 18;

struct CloseGzip {
  void operator()(gzFile_s* file) const { ::gzclose(file); }
};
}  // namespace

struct TextSource::State {
  std::string name;
  std::unique_ptr<gzFile_s, CloseGzip> file;  // null: text in memory
  std::uint64_t total = 0;
  std::string buffer;
};

TextSource::TextSource(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextSource::TextSource(TextSource&&) noexcept = default;
TextSource& TextSource::operator=(TextSource&&) noexcept = default;
TextSource::~TextSource() = default;

TextSource::TextSource(const std::filesystem::path& path) : state_(std::make_unique<State>()) {
  state_->name = path.string();
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    throw Error("can't read {}: it is a folder; name a file", state_->name);
  state_->file.reset(::gzopen(path.c_str(), "rb"));
  if (!state_->file) throw Error("can't read {}: {}; check the path", state_->name, std::strerror(errno));
  ::gzbuffer(state_->file.get(), kReadBytes);
  const auto size = std::filesystem::file_size(path, error);
  state_->total = error ? 0 : size;
  state_->buffer.resize(kReadBytes);
  skip_byte_order_mark();
}

TextSource TextSource::of_text(std::string text, std::string name) {
  auto state = std::make_unique<State>();
  state->name = std::move(name);
  state->buffer = std::move(text);
  state->total = state->buffer.size();
  TextSource source(std::move(state));
  source.next_ = source.state_->buffer.data();
  source.end_ = source.next_ + source.state_->buffer.size();
  source.skip_byte_order_mark();
  return source;
}

bool TextSource::fill() {
  if (!state_->file) return false;
  const int got = ::gzread(state_->file.get(), state_->buffer.data(), kReadBytes);
  int status = Z_OK;
  const char* message = ::gzerror(state_->file.get(), &status);
  // A gzip file that stops in the middle of its stream gives its bytes first and Z_BUF_ERROR with them.
  if (status == Z_BUF_ERROR) throw Error("{} is a truncated gzip file; fetch or pack it again", state_->name);
  if (got < 0 && status == Z_ERRNO)
    throw Error("can't read {}: {}; check the disk and run again", state_->name, std::strerror(errno));
  if (got < 0) throw Error("{} is a damaged gzip file ({}); fetch or pack it again", state_->name, message);
  next_ = state_->buffer.data();
  end_ = next_ + got;
  return got > 0;
}

void TextSource::skip_byte_order_mark() {
  if (next_ == end_ && !fill()) return;
  const std::string_view start(next_, static_cast<std::size_t>(end_ - next_));
  if (start.starts_with("\xEF\xBB\xBF")) next_ += 3;
  if (start.starts_with("\xFF\xFE") || start.starts_with("\xFE\xFF"))
    throw Error("{} is UTF-16 text; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)", state_->name);
}

bool TextSource::line(std::string& out) {
  out.clear();
  if (peek() < 0) return false;
  ++line_;
  do {
    const auto left = static_cast<std::size_t>(end_ - next_);
    const auto* stop = static_cast<const char*>(std::memchr(next_, '\n', left));
    if (stop != nullptr) {
      out.append(next_, stop);
      next_ = stop + 1;
      break;
    }
    out.append(next_, left);
    next_ = end_;
  } while (fill());
  if (!out.empty() && out.back() == '\r') out.pop_back();
  return true;
}

const std::string& TextSource::name() const {
  return state_->name;
}

std::uint64_t TextSource::bytes_read() const {
  if (!state_->file) return static_cast<std::uint64_t>(next_ - state_->buffer.data());
  const auto offset = ::gzoffset(state_->file.get());
  return offset < 0 ? 0 : static_cast<std::uint64_t>(offset);
}

std::uint64_t TextSource::bytes_total() const {
  return state_->total;
}

}  // namespace moleblend
