#pragma once
// A progress line on standard error: what, done of total, rate, time left, and extra text such as losses.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace moleblend {

/// On a terminal the line is redrawn in place, at most ten times a second; elsewhere (a log) a plain line comes every
/// 10 seconds or at every tenth of the work, whichever is rarer. Nothing is written for work under 2 seconds, or when
/// quiet. One thread at a time.
class Progress {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    bool quiet = false;
    std::uint64_t start = 0;  // already done before (a resumed run): not part of the rate
    std::FILE* out = stderr;
    int terminal = -1;  // 1 yes, 0 no, -1: ask the stream
    Clock::time_point (*now)() = &Clock::now;
  };

  /// `what`: "prepare", `unit`: "molecules". `total` 0: unknown.
  Progress(std::string what, std::uint64_t total, std::string unit, Options options);
  Progress(std::string what, std::uint64_t total, std::string unit, bool quiet = false)
      : Progress(std::move(what), total, std::move(unit), Options{.quiet = quiet}) {}
  /// Ends the line on a terminal if it is still open (finish() was not reached).
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` counts from the very start, options.start included.
  void update(std::uint64_t done, std::string_view extra = {});
  void set_total(std::uint64_t total) { total_ = total; }
  /// Ends the line so that other text (a warning) can be written; the next update draws it anew.
  void interrupt();
  /// The last state, with the time it took in all.
  void finish(std::string_view extra = {});
  /// The same where more was done since the last update.
  void finish_at(std::uint64_t done, std::string_view extra = {}) {
    done_ = done;
    finish(extra);
  }

 private:
  std::string text(std::string_view extra, bool finished) const;
  void draw(std::string_view extra, bool finished);

  std::string what_, unit_;
  std::uint64_t total_, done_;
  Options options_;
  bool terminal_, open_ = false, drawn_ = false, finished_ = false;
  Clock::time_point start_, last_;
  std::uint64_t last_tenth_ = 0;
};

/// "42 s", "3 min 5 s", "2 h 14 min", "3 d 4 h".
std::string duration_text(double seconds);
/// "1,234,567".
std::string count_text(std::uint64_t count);

}  // namespace moleblend
