#include "io/prepare/record_feed.h"

#include <stdlib.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "io/support/cores.h"

namespace moleblend {
namespace {

ReaderOptions reader_options(const InputOptions& options, const Inputs& inputs) {
  ReaderOptions reader;
  reader.read = options.read;
  reader.seed = options.seed;
  reader.max_atoms = options.max_atoms;
  reader.label_count = options.columns.labels.size();
  for (const SourceFile& file : inputs.files) reader.file_names.push_back(file.path);
  return reader;
}

}  // namespace

RecordFeed::RecordFeed(const InputOptions& options, Inputs& inputs, Chemistry& chemistry, const std::atomic<int>* stop)
    : options_(options),
      inputs_(inputs),
      batch_records_(options.read.conformers.count > 0 ? 8 : 128),
      pool_(chemistry, reader_options(options, inputs),
            {.workers = options.workers > 0 ? options.workers : available_cores(),
             .seconds = options.timeout,
             .memory_bytes = options.memory_mb << 20,
             .stop = stop}) {
  // Before the first fork, for the libraries that read it late; reader processes also tell the OpenMP library itself.
  ::setenv("OMP_NUM_THREADS", "1", 1);
}

void RecordFeed::run(const Deliver& deliver) {
  deliver_ = &deliver;
  std::uint64_t bytes_before = 0;
  for (const Input& input : inputs_.list) {
    if (input.is_whole_file()) {
      pool_.submit_file(input.file, input.path.string(), input.format);
      whole_files_waiting_ = true;
      while (!pool_.hungry()) deliver_one();
    } else {
      std::unique_ptr<RecordSource> source = input.open(options_.columns);
      read(*source, input, bytes_before);
      if (std::string remark = source->remark(); !remark.empty())
        remarks_.push_back(input.path.string() + ": " + remark);
    }
    bytes_before += inputs_.files[input.file].bytes + (input.sdf.empty() ? 0 : inputs_.files[input.file + 1].bytes);
  }
  drain();
  bytes_done_ = inputs_.bytes;
  for (const SourceFile& file : inputs_.files)
    if (file.records == 0) remarks_.push_back(file.path + ": no molecules in it");
}

void RecordFeed::read(RecordSource& source, const Input& input, std::uint64_t bytes_before) {
  if (whole_files_waiting_ && skip_) drain();
  constexpr std::size_t batch_bytes = 1u << 18, skipped_at_once = 4096;
  std::vector<Record> batch;
  std::size_t bytes = 0, to_read = 0;
  const auto submit = [&] {
    pool_.submit(std::exchange(batch, {}));
    bytes = to_read = 0;
    while (!pool_.hungry() || pool_.ready()) deliver_one();
  };
  Record record;
  while (source.next(record)) {
    record.file = input.file;
    if (!input.sdf.empty() && record.format == "sdf") ++inputs_.files[input.file + 1].records;
    record.labels.resize(options_.columns.labels.size(), std::numeric_limits<double>::quiet_NaN());
    record.position = bytes_before + source.bytes_read();
    record.skipped = skip_ && skip_(submitted_);
    ++submitted_;
    if (record.skipped)
      record.text.clear();
    else
      ++to_read;
    bytes += record.text.size();
    batch.push_back(std::move(record));
    if (to_read >= batch_records_ || bytes >= batch_bytes || batch.size() >= skipped_at_once) submit();
  }
  submit();
}

void RecordFeed::drain() {
  while (deliver_one()) {
  }
  submitted_ = delivered_;
  whole_files_waiting_ = false;
}

/// False if there is none left.
bool RecordFeed::deliver_one() {
  Record record;
  Outcome outcome;
  if (!pool_.next(record, outcome)) return false;
  ++delivered_;
  ++inputs_.files[record.file].records;
  if (record.position > 0) bytes_done_ = record.position;
  (*deliver_)(record, outcome);
  return true;
}

}  // namespace moleblend
