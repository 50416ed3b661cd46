#pragma once
// The coordinator's side of the reader processes: hands out records, takes answers, restores their order, ends readers that crash,
// hang or eat memory, and sees to it that exactly the record that did it pays.
//
// A record on which a reader dies is tried once more, alone, in a new process: what it does there decides. So a record never pays for
// what earlier ones left behind in the process, and the outcome does not depend on the number of workers. A record that runs out
// of time is not tried again.

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/prepare/reader_process.h"
#include "io/support/error.h"

namespace moleblend {

struct Outcome {
  bool kept = false;
  Molecule molecule;   // if kept
  std::string reason;  // if not
};

struct PoolOptions {
  int workers = 1;
  double seconds = 30;  // a record: of processor time; by the clock on the wall three times as long and 2 s more
  std::uint64_t memory_bytes = 0;          // a reader process; 0: no bound
  const std::atomic<int>* stop = nullptr;  // not zero: stop waiting and throw Interrupted
};

/// A signal asked the program to stop.
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// One thread only, and no other threads in the program: readers are forked whenever one is needed.
class ReaderPool {
 public:
  ReaderPool(Chemistry& chemistry, ReaderOptions reader, PoolOptions options);
  ~ReaderPool();
  ReaderPool(const ReaderPool&) = delete;
  ReaderPool& operator=(const ReaderPool&) = delete;

  /// Adds records; those that are refused or skipped pass through without being read.
  void submit(std::vector<Record> records);
  /// Adds a whole file in a format that only chemistry can cut into records.
  void submit_file(std::uint32_t file, std::string path, std::string format);
  /// Whether more work would find a reader soon: submit while this is true, for as much parallel work as bounded memory allows.
  bool hungry() const;
  /// Whether next() would give a record without waiting: taken at once, records do not pile up.
  bool ready() const;

  /// The next record in the order of submission and what became of it (of a skipped one: nothing). Waits for it. False if all that was
  /// submitted has been delivered. Throws Interrupted, and Error if readers can't be kept alive.
  bool next(Record& record, Outcome& outcome);

  /// Reader processes started so far: how many records killed theirs shows here.
  std::uint64_t started() const { return started_; }

 private:
  // What is handed to a reader at once: records, or a file.
  struct Unit {
    std::vector<Record> records;
    bool is_file = false, complete = false;
    std::uint32_t file = 0;
    std::string path, format;
    std::deque<std::optional<Outcome>> outcomes;  // of record `delivered` and those after it
    std::uint64_t delivered = 0, bytes = 0;
    std::optional<std::uint64_t> suspect;  // a reader died on it once
    int deaths = 0;
    std::uint64_t answered() const { return delivered + outcomes.size(); }  // of a file
  };
  struct Worker {
    ChildProcess process;
    ReaderState* state = nullptr;
    Unit* unit = nullptr;
    std::string input;                         // bytes received, not yet a whole message
    std::optional<std::uint64_t> out_of_time;  // the record for which it was killed
  };
  struct SharedStates;

  void start(Worker& worker);
  void stop(Worker& worker);
  void send(Worker& worker, Unit& unit);
  void send_bytes(Worker& worker, std::string_view bytes);
  void hand_out();
  void pump();
  bool receive(Worker& worker);
  void take_answers(Worker& worker);
  void handle_death(Worker& worker);
  void reject(Unit& unit, std::uint64_t index, std::string reason);
  void settle(Unit& unit, std::uint64_t index, Outcome outcome);
  void check_deadlines();
  bool may_receive(const Worker& worker) const;
  std::string death_reason(const Worker& worker, int status) const;

  Chemistry& chemistry_;
  ReaderOptions reader_;
  PoolOptions options_;
  std::unique_ptr<SharedStates> states_;
  std::vector<Worker> workers_;
  std::deque<std::unique_ptr<Unit>> units_;  // in the order of submission
  std::deque<Unit*> waiting_;
  std::uint64_t bytes_in_flight_ = 0, started_ = 0;
  int deaths_without_work_ = 0;
  std::int64_t last_check_ = 0;
};

}  // namespace moleblend
