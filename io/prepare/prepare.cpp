#include "io/prepare/prepare.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "io/dataset/dataset_json.h"
#include "io/dataset/dataset_writer.h"
#include "io/prepare/blocks.h"
#include "io/prepare/inputs.h"
#include "io/prepare/reader_pool.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "set from a signal handler");

/// While it lives, SIGINT and SIGTERM only ask to stop.
class StopSignals {
 public:
  StopSignals() {
    stop_signal = 0;
    struct sigaction action {};
    action.sa_handler = [](int number) { stop_signal = number; };
    ::sigaction(SIGINT, &action, &before_[0]);
    ::sigaction(SIGTERM, &action, &before_[1]);
  }
  ~StopSignals() {
    ::sigaction(SIGINT, &before_[0], nullptr);
    ::sigaction(SIGTERM, &before_[1], nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  struct sigaction before_[2]{};
};

void check_options(const PrepareOptions& o, Chemistry& chemistry) {
  const ConformerOptions& c = o.read.conformers;
  if (o.output.empty()) throw UsageError("no output folder is given; name it with --output");
  if (o.block_size < 1 || o.block_size > 1u << 20)
    throw UsageError("--block-size {} is out of range; give 1 to 1,048,576 records", o.block_size);
  if (o.parts < 1 || o.part < 1 || o.part > o.parts)
    throw UsageError("--part {}/{} does not exist; in i/n, i is a number from 1 to n", o.part, o.parts);
  if (!(o.timeout > 0 && o.timeout <= 86400))
    throw UsageError("--timeout {} is out of range; give up to 86,400 seconds", o.timeout);
  if (o.memory_mb > 0 && o.memory_mb < 64)
    throw UsageError("--memory {} is too little for Open Babel; give at least 64 MB, or 0 for no bound", o.memory_mb);
  if (o.workers < 0 || o.workers > 4096)
    throw UsageError("--workers {} is out of range; give 1 to 4,096, or 0 for one a core", o.workers);
  if (c.count < 0 || c.count > 1000) throw UsageError("--conformers {} is out of range; give 0 to 1,000", c.count);
  if (c.force_field_steps < 0)
    throw UsageError("--force-field-steps {} is negative; give 0 or more", c.force_field_steps);
  if (c.required && c.count == 0)
    throw UsageError("--require-conformers asks for conformers to be built; say how many with --conformers");
  if (c.count > 0 && !chemistry.has_engine(c.engine))
    throw UsageError("--conformer-engine {}: this build has no such engine; use the other one or build with it",
                     c.engine == ConformerEngine::rdkit ? "rdkit" : "openbabel");
}

/// The cores that this process may use: under a batch system fewer than the machine has.
int cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

/// One run, from the opened folder to its last block.
class Run {
 public:
  Run(const PrepareOptions& options, Chemistry& chemistry, Inputs& inputs, OutputFolder& folder)
      : options_(options),
        inputs_(inputs),
        folder_(folder),
        batch_records_(options.read.conformers.count > 0 ? 8 : 128),
        pool_(chemistry, reader_options(options, inputs),
              {.workers = options.workers > 0 ? options.workers : cores(),
               .seconds = options.timeout,
               .memory_bytes = options.memory_mb << 20,
               .stop = &stop_signal}),
        progress_("prepare", inputs.bytes >> 10, "kB", options.quiet) {}

  void run(PrepareSummary& summary) {
    for (const Input& input : inputs_.list) {
      if (input.is_whole_file()) {
        pool_.submit_file(input.file, input.path.string(), input.format);
        whole_files_waiting_ = true;
        while (!pool_.hungry()) deliver_one();
      } else {
        std::unique_ptr<RecordSource> source = input.open(options_.columns);
        read(*source, input);
        if (std::string remark = source->remark(); !remark.empty())
          summary.remarks.push_back(input.path.string() + ": " + remark);
      }
      bytes_before_ += inputs_.files[input.file].bytes + (input.sdf.empty() ? 0 : inputs_.files[input.file + 1].bytes);
    }
    drain();
    if (writer_) finish_block();
    for (const SourceFile& file : inputs_.files)
      if (file.records == 0) summary.remarks.push_back(file.path + ": no molecules in it");
    progress_.finish(state_text());
    summary.read = read_;
    summary.records = records_;
    summary.records_in_all = delivered_;
    summary.rejected = folder_.rejected_before() + rejected_;
    summary.odd_labels = odd_labels_;
  }

 private:
  static ReaderOptions reader_options(const PrepareOptions& options, const Inputs& inputs) {
    ReaderOptions reader;
    reader.read = options.read;
    reader.seed = options.seed;
    reader.max_atoms = options.max_atoms;
    reader.label_count = options.columns.labels.size();
    for (const SourceFile& file : inputs.files) reader.file_names.push_back(file.path);
    return reader;
  }

  bool is_ours(std::uint64_t block) const { return block % options_.parts == options_.part - 1; }
  bool is_to_do(std::uint64_t block) const { return is_ours(block) && !folder_.has(block); }

  void read(RecordSource& source, const Input& input) {
    // Which block a record falls into is known only when the records before it are counted. That matters where blocks are left out.
    if (whole_files_waiting_ && (options_.parts > 1 || folder_.done_before())) drain();
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
      record.skipped = !is_to_do(submitted_++ / options_.block_size);
      if (record.skipped)
        record.text.clear();
      else
        ++to_read;
      bytes += record.text.size();
      batch.push_back(std::move(record));
      bytes_read_ = bytes_before_ + source.bytes_read();
      if (to_read >= batch_records_ || bytes >= batch_bytes || batch.size() >= skipped_at_once) submit();
    }
    submit();
  }

  void drain() {
    while (deliver_one()) {
    }
    submitted_ = delivered_;
    whole_files_waiting_ = false;
  }

  /// Takes one record from the readers into its block. False if there is none left.
  bool deliver_one() {
    Record record;
    Outcome outcome;
    if (!pool_.next(record, outcome)) return false;
    const std::uint64_t block = delivered_++ / options_.block_size;
    ++inputs_.files[record.file].records;
    if (is_ours(block) || folder_.has(block)) {
      ++records_;
      odd_labels_ += record.odd_labels;
    }
    if (is_to_do(block)) {
      if (writer_ && writer_->block() != block) finish_block();
      if (!writer_)
        writer_.emplace(folder_, inputs_, block, static_cast<std::uint32_t>(options_.columns.labels.size()));
      writer_->add(record, outcome);
      ++read_;
    }
    if (delivered_ % 64 == 0) progress_.update(bytes_read_ >> 10, state_text());
    return true;
  }

  void finish_block() {
    rejected_ += writer_->rejected();
    writer_->finish();
    writer_.reset();
  }

  std::string state_text() const {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const std::uint64_t rejected = rejected_ + (writer_ ? writer_->rejected() : 0);
    return fmt::format("{} records, {}/s, {} rejected", count_text(delivered_),
                       count_text(static_cast<std::uint64_t>(static_cast<double>(read_) / std::max(seconds, 1e-3))),
                       count_text(rejected));
  }

  const PrepareOptions& options_;
  Inputs& inputs_;
  OutputFolder& folder_;
  std::size_t batch_records_;  // small where a record takes long, so that the last ones are shared among the readers
  ReaderPool pool_;
  Progress progress_;
  std::optional<BlockWriter> writer_;
  bool whole_files_waiting_ = false;
  std::uint64_t submitted_ = 0, delivered_ = 0, records_ = 0, read_ = 0, odd_labels_ = 0, rejected_ = 0;
  std::uint64_t bytes_before_ = 0, bytes_read_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// The options as they stand in dataset.json: with the counts that only a run knows, and the part.
std::string dataset_options(const PrepareOptions& options, const std::string& option_text,
                            const PrepareSummary& summary) {
  auto text = nlohmann::ordered_json::parse(option_text);
  text["records"] = summary.records;
  text["unreadable_labels"] = summary.odd_labels;
  text["remarks"] = summary.remarks;
  if (summary.records < summary.records_in_all) text["part"] = fmt::format("{}/{}", options.part, options.parts);
  return text.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

/// Whether the folder holds the finished data set of these very options; fills the summary from it.
bool is_complete(const PrepareOptions& options, const OutputFolder& folder, PrepareSummary& summary) {
  if (!options.resume || !std::filesystem::exists(folder.path() / kDatasetFile)) return false;
  const DatasetInfo info = read_dataset_json(folder.path());
  const auto text = nlohmann::json::parse(info.options);
  const std::string part = fmt::format("{}/{}", options.part, options.parts);
  if (text.value("part", part) != part) return false;  // a folder without missing parts names none
  summary.was_complete = true;
  summary.records = text.value("records", std::uint64_t{0});
  for (const SourceFile& file : info.sources) summary.records_in_all += file.records;
  summary.odd_labels = text.value("unreadable_labels", std::uint64_t{0});
  summary.remarks = text.value("remarks", std::vector<std::string>());
  summary.kept = info.molecules;
  summary.rejected = info.rejected;
  summary.with_positions = info.with_positions;
  summary.fingerprint = info.fingerprint;
  summary.reasons = rejected_reasons(folder.path());
  return true;
}

}  // namespace

PrepareSummary prepare(const PrepareOptions& options, Chemistry& chemistry) {
  const auto start = std::chrono::steady_clock::now();
  // Before the first fork, for the libraries that read it late; reader processes also tell the OpenMP library itself.
  ::setenv("OMP_NUM_THREADS", "1", 1);
  check_options(options, chemistry);
  Inputs inputs = find_inputs(options, chemistry);
  const std::string option_text = describe_options(options, chemistry);
  OutputFolder folder(options, inputs, option_text);

  PrepareSummary summary;
  if (!is_complete(options, folder, summary)) {
    StopSignals signals;
    Run(options, chemistry, inputs, folder).run(summary);

    DatasetDescription description;
    description.labels = options.columns.labels;
    description.sources = inputs.files;
    description.options = dataset_options(options, option_text, summary);
    description.program_version = options.program_version;
    summary.reasons = unite_rejected(folder.path(), summary.rejected);
    const DatasetInfo info = write_dataset_json(folder.path(), description);
    if (info.rejected != summary.rejected || info.molecules + info.rejected != summary.records) {
      std::filesystem::remove(folder.path() / kDatasetFile);
      throw Error("{}: of {} records the shards hold {} molecules and {} rejected; remove the folder and begin anew",
                  folder.path().string(), summary.records, info.molecules, info.rejected);
    }
    summary.kept = info.molecules;
    summary.rejected = info.rejected;
    summary.with_positions = info.with_positions;
    summary.fingerprint = info.fingerprint;
  }
  if (summary.records == summary.records_in_all) remove_rejected_parts(folder.path());
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace moleblend
