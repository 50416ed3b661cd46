#pragma once
// metrics.jsonl: one JSON object a line, each with `step`.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace moleblend {

/// Appends lines. Opening it for a run that goes on from `step` cuts off what was written after that step, and a line
/// that was cut short, so that the file becomes what it would be had the run never stopped. Throws Error.
class RunLog {
 public:
  RunLog(std::filesystem::path path, std::int64_t step);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  void write(const nlohmann::ordered_json& line);
  /// Makes all lines so far durable: done before a checkpoint says that its step is reached.
  void sync();

 private:
  [[noreturn]] void fail() const;

  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace moleblend
