#pragma once
// Molecule files in, a data set folder out: parallel, isolated, restartable; the same bytes whatever the number of workers.
//
// All input records, in the order of the inputs, are cut into blocks of `block_size`; a block is one shard and, where records were
// refused, one rejected-<block>.csv beside it, which is written first: a shard that is there means a block that is done.
// At the end rejected.csv unites those and dataset.json is written.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "io/chemistry/chemistry.h"
#include "io/prepare/inputs.h"

namespace moleblend {

struct PrepareOptions : InputOptions {
  std::filesystem::path output;
  std::uint64_t block_size = 4096;    // input records a shard
  std::uint64_t part = 1, parts = 1;  // this run does the blocks b with b mod parts = part − 1
  bool resume = false;
  bool quiet = false;
  std::string program_version;
};

struct PrepareSummary {
  std::uint64_t records = 0, kept = 0, rejected = 0;  // of the blocks in the folder
  std::uint64_t records_in_all = 0;                   // of the inputs: more than `records` while parts are missing
  std::uint64_t with_positions = 0;
  std::uint64_t read = 0;                        // by this run; the rest of `records` was there before it (--resume)
  std::uint64_t odd_labels = 0;                  // labels that were text but no number
  std::map<std::string, std::uint64_t> reasons;  // of the rejected; numbers in them stand as N
  std::vector<std::string> remarks;
  std::string fingerprint;
  double seconds = 0;
  bool was_complete = false;  // --resume found nothing left to do
};

/// Runs it. Throws UsageError for options that can't be, Error for files that can't be read or written, Interrupted after SIGINT or
/// SIGTERM: finished blocks stay for --resume. The chemistry is used in forked processes; the caller must have no other threads.
PrepareSummary prepare(const PrepareOptions& options, Chemistry& chemistry);

}  // namespace moleblend
