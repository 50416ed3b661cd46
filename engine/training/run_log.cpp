#include "engine/training/run_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "io/support/error.h"
#include "io/support/files.h"

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;

/// Length of the lines up to `step`. Lines are in the order of their steps, so the first later or broken one ends them.
std::size_t length_up_to(const std::string& text, std::int64_t step) {
  std::size_t kept = 0;
  for (std::size_t end; (end = text.find('\n', kept)) != std::string::npos; kept = end + 1) {
    const Json line = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(kept),
                                  text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer() ||
        line["step"].get<std::int64_t>() > step)
      break;
  }
  return kept;
}

}  // namespace

RunLog::RunLog(std::filesystem::path path, std::int64_t step) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail();
  const std::size_t kept = length_up_to(read_file(path_), step);
  if (::ftruncate(descriptor_, static_cast<off_t>(kept)) != 0) fail();
}

RunLog::~RunLog() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void RunLog::write(const Json& line) {
  // One write a line: a program that dies leaves at most the last line cut short.
  const std::string text = line.dump() + "\n";
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(descriptor_, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail();
    done += static_cast<std::size_t>(n);
  }
}

void RunLog::sync() {
  if (::fsync(descriptor_) != 0) fail();
}

void RunLog::fail() const {
  const int error = errno;
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  throw Error("can't write {}: {}; {}", path_.string(), std::strerror(error),
              full ? "free some space, or raise the limit of the size of files (ulimit -f), then go on with --resume"
                   : "check the run folder and its permissions");
}

}  // namespace moleblend
