#pragma once
// A reader process: a fork that does chemistry for the coordinator, so that a crash, a hang or a memory hunger of Open Babel costs one
// record and not the run. It inherits the loaded chemistry, gets records through a socket, answers through it, and shows in shared
// memory which record it is at.
//
// Messages both ways: u64 length, then the bytes. Request: RequestKind, then for records a count and so often (u64 index, Record), for a
// file u32 file, path, format, u64 molecules to skip, u8 whether
// to send each answer at once (a reader died in this file: no answer may be lost with the next one). Answer: AnswerKind, then u64 index and the molecule or the reason.

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "io/prepare/child_process.h"
#include "io/prepare/reader.h"

namespace moleblend {

enum class RequestKind : std::uint8_t { records, file };
enum class AnswerKind : std::uint8_t {
  kept,
  rejected,
  failed,  // the request as a whole: a file that can't be opened
  done
};

/// What a reader process shows of itself, in memory shared with the coordinator.
struct ReaderState {
  std::atomic<std::uint64_t> current{0};                  // 1 + index of the record being read; 0: none
  std::atomic<std::int64_t> cpu_start{0}, wall_start{0};  // clocks of the process when it began with that record, ns
  std::atomic<std::uint32_t> out_of_memory{0};
};

/// Forks a reader process; the caller must have one thread only. `memory_bytes`: what it may take beyond what it inherits; 0: no bound.
/// Throws Error if the system refuses.
ChildProcess start_reader(Chemistry& chemistry, const ReaderOptions& options, std::uint64_t memory_bytes,
                          ReaderState& state);

/// Processor time that a process has used, ns; -1 if it is gone.
std::int64_t cpu_time_of(pid_t pid);
/// Monotonic clock, ns.
std::int64_t wall_time();

}  // namespace moleblend
