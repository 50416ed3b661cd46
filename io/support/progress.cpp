#include "io/support/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>

namespace moleblend {
namespace {

using Seconds = std::chrono::duration<double>;
constexpr Seconds kSilence{2}, kRedraw{0.1}, kLogLine{10};

/// Columns of the terminal; a longer line would wrap and could not be redrawn in place.
std::size_t terminal_width(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 20) return size.ws_col - 1u;
  return 119;
}

std::string rate_text(double rate) {
  if (rate >= 100) return count_text(static_cast<std::uint64_t>(std::llround(rate)));
  return fmt::format("{:.3g}", rate);
}

}  // namespace

std::string duration_text(double seconds) {
  // NaN and what no one waits for.
  if (!(seconds < 1e9)) return "unknown";
  const auto s = static_cast<std::uint64_t>(std::llround(std::max(seconds, 0.0)));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
  return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

std::string count_text(std::uint64_t count) {
  std::string digits = fmt::format("{}", count);
  for (std::size_t k = digits.size(); k > 3; k -= 3) digits.insert(k - 3, 1, ',');
  return digits;
}

Progress::Progress(std::string what, std::uint64_t total, std::string unit, Options options)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      done_(options.start),
      options_(options),
      terminal_(options.terminal >= 0 ? options.terminal != 0 : ::isatty(::fileno(options.out)) != 0),
      start_(options.now()),
      last_(start_) {}

Progress::~Progress() {
  interrupt();
}

std::string Progress::text(std::string_view extra, bool finished) const {
  const double elapsed = Seconds(options_.now() - start_).count();
  const double rate = elapsed > 0 ? static_cast<double>(done_ - options_.start) / elapsed : 0;
  std::string line = total_ > 0
                         ? fmt::format("{}: {} of {} {} ({:.0f} %)", what_, count_text(done_), count_text(total_),
                                       unit_, 100.0 * static_cast<double>(done_) / static_cast<double>(total_))
                         : fmt::format("{}: {} {}", what_, count_text(done_), unit_);
  line += fmt::format(", {} {}/s", rate_text(rate), unit_);
  if (finished) {
    line += fmt::format(", took {}", duration_text(elapsed));
  } else if (total_ > done_ && rate > 0) {
    line += fmt::format(", {} left", duration_text(static_cast<double>(total_ - done_) / rate));
  }
  if (!extra.empty()) line += fmt::format(", {}", extra);
  return line;
}

void Progress::draw(std::string_view extra, bool finished) {
  std::string line = text(extra, finished);
  if (terminal_) {
    line.resize(std::min(line.size(), terminal_width(options_.out)));
    fmt::print(options_.out, "\r{}\x1b[K{}", line, finished ? "\n" : "");
    open_ = !finished;
  } else {
    fmt::print(options_.out, "{}\n", line);
  }
  std::fflush(options_.out);
  drawn_ = true;
}

void Progress::update(std::uint64_t done, std::string_view extra) {
  done_ = done;
  if (options_.quiet || finished_) return;
  const Clock::time_point now = options_.now();
  if (now - start_ < kSilence) return;
  if (terminal_) {
    if (drawn_ && now - last_ < kRedraw) return;
  } else {
    if (now - last_ < kLogLine) return;
    const std::uint64_t tenth = total_ > 0 ? 10 * done / total_ : 0;
    if (total_ > 0 && drawn_ && tenth == last_tenth_) return;
    last_tenth_ = tenth;
  }
  last_ = now;
  draw(extra, false);
}

void Progress::interrupt() {
  if (!open_) return;
  fmt::print(options_.out, "\n");
  std::fflush(options_.out);
  open_ = false;
}

void Progress::finish(std::string_view extra) {
  if (finished_ || options_.quiet) return;
  if (options_.now() - start_ >= kSilence) draw(extra, true);
  finished_ = true;
}

}  // namespace moleblend
