// moleblend bench: how fast the parts are on this machine, each figure with the check that what was timed is right.

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/bench_prepare.h"
#include "apps/verb.h"
#include "commit.h"
#include "engine/bench/kernel_bench.h"
#include "engine/bench/loader_bench.h"
#include "engine/bench/train_bench.h"
#include "io/support/cores.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;

struct BenchFlags {
  bool kernels = false, loader = false, train = false, prepare = false;
  bool all = false;  // none of the four was asked for
  std::string model = "base", json, data, sdf;
  int workers = 1;
  std::vector<std::string> sizes = {"n14", "n25"}, precisions;
  std::int64_t batch_size = 0;
  double seconds = 3;
  DeviceChoice place;
};

/// The value of a line "key : value" of a file of the kernel's, or empty.
std::string line_of(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (line.starts_with(key) && colon != std::string::npos)
      return line.substr(line.find_first_not_of(" \t", colon + 1));
  }
  return {};
}

Json machine() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return {{"host", name},
          {"cpu", line_of("/proc/cpuinfo", "model name")},
          {"avx512", line_of("/proc/cpuinfo", "flags").find("avx512f") != std::string::npos},
          {"cores", available_cores()},
          {"memory", line_of("/proc/meminfo", "MemTotal")}};
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%F %H:%M UTC", std::gmtime(&now));
  return text;
}

/// This process' command line.
std::vector<std::string> command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  return words;
}

class Table {
 public:
  explicit Table(bool quiet) : quiet_(quiet) {}

  void add(const BenchRow& row) {
    if (rows_.empty() && !quiet_)
      fmt::print("{:<57} {:>12}  {:<12} {:>8}  {}\n", "", "value", "unit", "of floor", "correct");
    if (!row.missing.empty()) {
      if (!quiet_) fmt::print("{:<57} left out: {}\n", row.name, row.missing);
      left_out_.push_back({{"name", row.name}, {"reason", row.missing}});
      return;
    }
    if (!quiet_) {
      fmt::print(
          "{:<57} {:>12}  {:<12} {:>8}  {}\n", row.name,
          row.value < 100 ? fmt::format("{:.2f}", row.value) : count_text(static_cast<std::uint64_t>(row.value + 0.5)),
          row.unit, row.share_of_floor ? fmt::format("{:.0f} %", 100 * *row.share_of_floor) : "–",
          !row.correct   ? "–"
          : *row.correct ? "yes"
                         : "NO");
      std::fflush(stdout);
    }
    Json json = {{"name", row.name},
                 {"value", row.value},
                 {"unit", row.unit},
                 {"correct", nullptr},
                 {"share_of_floor", nullptr}};
    if (row.correct) json["correct"] = *row.correct;
    if (row.share_of_floor) json["share_of_floor"] = *row.share_of_floor;
    if (!row.library.empty()) json["library"] = row.library;
    for (const auto& [key, value] : row.detail.items()) json[key] = value;
    if (row.library.empty() && row.correct && !*row.correct) wrong_.push_back(row.name);
    rows_.push_back(std::move(json));
  }
  const Json& rows() const { return rows_; }
  const Json& left_out() const { return left_out_; }
  const std::vector<std::string>& wrong() const { return wrong_; }

 private:
  bool quiet_;
  Json rows_ = Json::array(), left_out_ = Json::array();
  std::vector<std::string> wrong_;
};

MadeUpSizes size_named(const std::string& name) {
  for (const MadeUpSizes& size : {kSmallMolecules, kDrugSizedMolecules})
    if (size.name == name) return size;
  throw UsageError("--sizes can't be '{}'; choose from n14 and n25", name);
}

void bench_reading(const BenchFlags& flags, bool quiet, const BenchSink& sink) {
  try {
    bench_prepare({.sdf = flags.sdf, .workers = flags.workers, .quiet = quiet}, sink);
  } catch (const Error& error) {
    if (!flags.all) throw;
    std::cerr << "moleblend: warning: left out --prepare: " << error.what() << "\n";
  }
}

void bench_loading(const BenchFlags& flags, bool quiet, const BenchSink& sink) {
  if (!flags.data.empty())
    return bench_loader({.data = flags.data, .threads = flags.place.threads, .seconds = flags.seconds, .quiet = quiet},
                        sink);
  for (const std::string& size : flags.sizes)
    bench_loader({.size = size_named(size), .threads = flags.place.threads, .seconds = flags.seconds, .quiet = quiet},
                 sink);
}

void bench_networks(const BenchFlags& flags, const BenchSink& sink) {
  for (const std::string& precision : flags.precisions) {
    NetworkBenchOptions options{
        .config = ModelConfig::named(flags.model), .place = flags.place, .seconds = flags.seconds};
    options.place.precision = precision;
    options.batch_size = flags.batch_size;
    options.with_memory = precision == flags.precisions.front();
    options.ceilings = measure_ceilings(options.place);
    if (options.ceilings.flop_per_s <= 0)
      throw Error("this machine's oneDNN has no products in {}, the ceiling of the others; leave it out of --precision",
                  precision);
    sink({.name = "ceiling." + precision, .value = 1e-9 * options.ceilings.flop_per_s, .unit = "GFLOP/s"});
    sink({.name = "ceiling.copy." + precision, .value = 1e-9 * options.ceilings.bytes_per_s, .unit = "GB/s"});
    for (const std::string& size : flags.sizes) {
      options.size = size_named(size);
      if (flags.train || flags.all) bench_training(options, sink);
      if (flags.kernels || flags.all) bench_kernels(options, sink);
    }
  }
}

void run_bench(BenchFlags flags, const CommonFlags& common) {
  const bool cuda = flags.place.device == "cuda";
  flags.all = !flags.kernels && !flags.loader && !flags.train && !flags.prepare;
  if (flags.workers < 1) throw UsageError("--workers must be at least 1, and is {}", flags.workers);
  if (flags.precisions.empty())
    flags.precisions = cuda                  ? std::vector<std::string>{"bf16", "fp32"}
                       : has_bf16_products() ? std::vector<std::string>{"fp32", "bf16"}
                                             : std::vector<std::string>{"fp32"};
  if (flags.batch_size == 0) flags.batch_size = cuda ? 1024 : 128;
  if (flags.batch_size < 1) throw UsageError("--batch-size must be at least 1, and is {}", flags.batch_size);
  if (!(flags.seconds > 0)) throw UsageError("--seconds must be above 0, and is {}", flags.seconds);
  for (const std::string& size : flags.sizes) size_named(size);
  for (const std::string& precision : flags.precisions) {
    DeviceChoice place = flags.place;
    place.precision = precision;
    place.check();
  }

  Table table(common.quiet || flags.json == "-");
  const BenchSink sink = [&](BenchRow row) { table.add(row); };
  // The first forks, which a process with threads must not.
  if (flags.prepare || flags.all) bench_reading(flags, common.quiet, sink);
  if (flags.loader || flags.all) bench_loading(flags, common.quiet, sink);
  if (flags.train || flags.kernels || flags.all) bench_networks(flags, sink);

  if (!flags.json.empty()) {
    const Json json = {{"program", "moleblend " MOLEBLEND_VERSION},
                       {"commit", MOLEBLEND_COMMIT},
                       {"build", MOLEBLEND_BUILD},
                       {"date", today()},
                       {"machine", machine()},
                       {"device", flags.place.device},
                       {"threads", flags.place.threads},
                       {"command", command_line()},
                       {"rows", table.rows()},
                       {"left_out", table.left_out()}};
    if (flags.json == "-")
      std::cout << json.dump(1) << "\n";
    else
      write_file(flags.json, json.dump(1) + "\n");
  }
  if (!table.wrong().empty())
    throw Error(
        "{} of {} figures are of wrong results, {} the first; don't trust them, and please report it with --json's "
        "file",
        table.wrong().size(), table.rows().size(), table.wrong().front());
}

}  // namespace

void add_bench(CLI::App& program) {
  const auto flags = std::make_shared<BenchFlags>();
  const auto common = std::make_shared<CommonFlags>();
  CLI::App* verb =
      add_verb(program, "bench", "How fast the parts are here, each figure with a check of its results", *common);
  verb->remove_option(verb->get_option("--json"));
  flags->place.threads = available_cores();
  flags->workers = flags->place.threads;
  verb->add_flag("--kernels", flags->kernels,
                 "Each operation: rate, share of the ceiling, check against double precision");
  verb->add_flag("--train", flags->train, "The training step: molecules/s, MFU, memory, time by operation");
  verb->add_flag("--loader", flags->loader, "Records to packed batches with relations");
  verb->add_flag("--prepare", flags->prepare, "Molecule files to a data set, beside what Open Babel alone streams");
  const auto option = [verb](const char* name, auto& value, const char* text) {
    return verb->add_option(name, value, text)->capture_default_str()->take_last();
  };
  option("--model", flags->model, "tiny, small or base");
  option("--batch-size", flags->batch_size, "Molecules a step [128; 1024 with --device cuda]");
  verb->add_option("--sizes", flags->sizes, "Molecules of 14.1 heavy atoms (n14), of 25.5 (n25), or both")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--precision", flags->precisions, "fp32, bf16 or both [what the device has]")->delimiter(',');
  option("--device", flags->place.device, "cpu or cuda");
  option("--threads", flags->place.threads, "Threads of the CPU");
  option("--seconds", flags->seconds, "Least time of a training measurement; an operation's takes a tenth");
  option("--workers", flags->workers, "Reader processes of --prepare");
  option("--data", flags->data, "This data set for --loader in place of a made-up one");
  option("--sdf", flags->sdf, "This SDF for --prepare in place of a made-up one");
  option("--json", flags->json, "Write machine, build, command and all figures to this file (-: standard output)");
  verb->footer(
      "Molecules are made up, so that figures of different machines compare. Times are medians after a warm-up. Ends "
      "with status 1\n"
      "if a figure's results are wrong.\n"
      "Example:\n  moleblend bench --train --json here.json && scripts/compare_bench.py there.json here.json");
  verb->callback([flags, common] { run_bench(*flags, *common); });
}

}  // namespace moleblend
