#include "io/prepare/prepare.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/dataset/dataset_json.h"
#include "io/dataset/dataset_writer.h"
#include "io/prepare/blocks.h"
#include "io/prepare/inputs.h"
#include "io/prepare/record_feed.h"
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
  if (o.output.empty()) throw UsageError("no output folder is given; name it with --output");
  if (o.block_size < 1 || o.block_size > 1u << 20)
    throw UsageError("--block-size {} is out of range; give 1 to 1,048,576 records", o.block_size);
  if (o.parts < 1 || o.part < 1 || o.part > o.parts)
    throw UsageError("--part {}/{} does not exist; in i/n, i is a number from 1 to n", o.part, o.parts);
  check_inputs(o, chemistry);
}

/// One run, from the opened folder to its last block.
class Run {
 public:
  Run(const PrepareOptions& options, Chemistry& chemistry, Inputs& inputs, OutputFolder& folder)
      : options_(options),
        inputs_(inputs),
        folder_(folder),
        feed_(options, inputs, chemistry, &stop_signal),
        progress_("prepare", inputs.bytes >> 10, "kB", options.quiet) {
    if (options.parts > 1 || folder.done_before())
      feed_.skip([this](std::uint64_t place) { return !is_to_do(place / options_.block_size); });
  }

  void run(PrepareSummary& summary) {
    feed_.run([this](Record& record, Outcome& outcome) { take(record, outcome); });
    if (writer_) finish_block();
    summary.remarks = feed_.remarks();
    progress_.finish_at(feed_.bytes_done() >> 10, state_text());
    summary.read = read_;
    summary.records = records_;
    summary.records_in_all = delivered_;
    summary.rejected = folder_.rejected_before() + rejected_;
    summary.odd_labels = odd_labels_;
  }

 private:
  bool is_ours(std::uint64_t block) const { return block % options_.parts == options_.part - 1; }
  bool is_to_do(std::uint64_t block) const { return is_ours(block) && !folder_.has(block); }

  /// Takes one record from the readers into its block.
  void take(const Record& record, Outcome& outcome) {
    const std::uint64_t block = delivered_++ / options_.block_size;
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
    if (delivered_ % 64 == 0) progress_.update(feed_.bytes_done() >> 10, state_text());
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
  const Inputs& inputs_;
  OutputFolder& folder_;
  RecordFeed feed_;
  Progress progress_;
  std::optional<BlockWriter> writer_;
  std::uint64_t delivered_ = 0, records_ = 0, read_ = 0, odd_labels_ = 0, rejected_ = 0;
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
  // A shard may have been deleted since, for it was damaged.
  if (!std::all_of(info.shards.begin(), info.shards.end(), [&](const ShardEntry& s) { return folder.holds(s); }))
    return false;
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
  check_options(options, chemistry);
  Inputs inputs = find_inputs(options, chemistry, Checksums::take);
  const std::string option_text = describe_options(options, chemistry);
  OutputFolder folder(options.output, options.resume, describe_run(inputs, option_text, options.program_version));

  PrepareSummary summary;
  if (!is_complete(options, folder, summary)) {
    StopSignals signals;
    Run(options, chemistry, inputs, folder).run(summary);

    DatasetDescription description;
    description.labels = options.columns.labels;
    description.sources = inputs.files;
    description.options = dataset_options(options, option_text, summary);
    description.program_version = options.program_version;
    complete_dataset(folder, description, summary);
  }
  if (summary.records == summary.records_in_all) remove_rejected_parts(folder.path());
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace moleblend
