#pragma once
// All records of the inputs through reader processes, delivered in their order: the loop that every use of molecule files shares.

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/prepare/inputs.h"
#include "io/prepare/reader_pool.h"

namespace moleblend {

/// In a process with one thread (reader_pool.h).
class RecordFeed {
 public:
  using Skip = std::function<bool(std::uint64_t place)>;
  using Deliver = std::function<void(Record&, Outcome&)>;

  /// All four must outlive it. Fills in the counts of records of inputs.files. `stop`: see PoolOptions.
  RecordFeed(const InputOptions& options, Inputs& inputs, Chemistry& chemistry, const std::atomic<int>* stop);

  /// Before run(): the records, by their place among all, that are delivered and not read. A record's place must then be known before
  /// it is handed out, so that a whole file is read to its end before the next input is begun.
  void skip(Skip skip) { skip_ = std::move(skip); }
  /// Delivers every record. Throws what the pool throws (Interrupted), and what `deliver` does.
  void run(const Deliver& deliver);

  /// Whether the next record can be delivered without waiting for a reader.
  bool ready() const { return pool_.ready(); }
  /// Bytes of the input files that lie before what was delivered last.
  std::uint64_t bytes_done() const { return bytes_done_; }
  /// After run(): what a person should know of the files and no record says.
  const std::vector<std::string>& remarks() const { return remarks_; }

 private:
  void read(RecordSource& source, const Input& input, std::uint64_t bytes_before);
  bool deliver_one();
  void drain();

  const InputOptions& options_;
  Inputs& inputs_;
  std::size_t batch_records_;  // small where a record takes long, so that the last ones are shared among the readers
  ReaderPool pool_;
  Skip skip_;
  const Deliver* deliver_ = nullptr;
  bool whole_files_waiting_ = false;
  std::uint64_t submitted_ = 0, delivered_ = 0, bytes_done_ = 0;
  std::vector<std::string> remarks_;
};

}  // namespace moleblend
