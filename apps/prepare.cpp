// moleblend prepare: molecule files in, a data set folder out.

#include "io/prepare/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/input_flags.h"
#include "apps/name_list.h"
#include "apps/verb.h"
#include "io/chemistry/chemistry.h"
#include "io/prepare/merge.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

constexpr const char* kDescription =
    "Turn molecule files into a data set: SMILES, CSV, SDF, MOL2, XYZ, PDB and all that Open Babel reads";
constexpr const char* kPrepareFooter =
    "Examples:\n"
    "  moleblend prepare --input molecules.smi --output data\n"
    "  moleblend prepare --input BBBP.csv --label-columns p_np --output bbbp\n"
    "  moleblend prepare --pair data.csv.gz pcqm4m-v2-train.sdf --label-columns homolumogap --output pcqm\n"
    "  moleblend prepare --input library.smi.gz --conformers 4 --part 3/100 --output part3     (one job of an array)\n"
    "  moleblend prepare --merge part1 part2 … part100 --output library                        (after the last job)\n"
    "\n"
    "Every input record ends up in the data set or in its rejected.csv (records are counted from 0, lines from 1).\n"
    "The data set is the same, byte for byte, for any number of workers, after --resume, and merged from parts.";

struct PrepareFlags {
  CommonFlags common;
  InputFlags input;
  PrepareOptions options;
  std::string output, part = "1/1", labels;
  std::vector<std::string> merge;
};

void parse_part(const std::string& text, PrepareOptions& options) {
  const auto number = [&](std::string_view digits, std::uint64_t& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos || !number(std::string_view(text).substr(0, slash), options.part) ||
      !number(std::string_view(text).substr(slash + 1), options.parts))
    throw UsageError("--part {} is not of the form i/n, as in 3/100", text);
}

nlohmann::ordered_json summary_json(const PrepareSummary& s, const PrepareOptions& o) {
  nlohmann::ordered_json json;
  json["output"] = o.output.string();
  json["records"] = s.records;
  json["kept"] = s.kept;
  json["rejected"] = s.rejected;
  json["rejected_by_reason"] = s.reasons;
  json["with_positions"] = s.with_positions;
  json["unreadable_labels"] = s.odd_labels;
  json["records_in_all"] = s.records_in_all;
  json["remarks"] = s.remarks;
  json["fingerprint"] = s.fingerprint;
  json["records_read"] = s.read;
  json["seconds"] = s.seconds;
  json["records_per_second"] = s.seconds > 0 ? static_cast<double>(s.read) / s.seconds : 0.0;
  return json;
}

void print_summary(const PrepareSummary& s, const PrepareOptions& o) {
  if (s.was_complete) fmt::print("{} was complete already; nothing was left to do\n", o.output.string());
  fmt::print("{}: {} records, {} molecules kept ({} with positions), {} rejected\n", o.output.string(),
             count_text(s.records), count_text(s.kept), count_text(s.with_positions), count_text(s.rejected));
  std::vector<std::pair<std::string, std::uint64_t>> reasons(s.reasons.begin(), s.reasons.end());
  std::stable_sort(reasons.begin(), reasons.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  constexpr std::size_t shown = 12;
  std::uint64_t others = 0;
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    if (i < shown)
      fmt::print("  {:>9}  {}\n", count_text(reasons[i].second), reasons[i].first);
    else
      others += reasons[i].second;
  }
  if (others > 0) fmt::print("  {:>9}  for other reasons: see rejected.csv\n", count_text(others));
  if (s.odd_labels > 0)
    fmt::print("{} labels are text that is not a number; they count as missing\n", count_text(s.odd_labels));
  for (const std::string& remark : s.remarks) fmt::print("{}\n", remark);
  if (s.records < s.records_in_all)
    fmt::print("part {}/{}: {} of {} records of the inputs\n", o.part, o.parts, count_text(s.records),
               count_text(s.records_in_all));
  if (s.read > 0)
    fmt::print("{} records read in {} ({}/s)\n", count_text(s.read),
               s.seconds < 10 ? fmt::format("{:.2f} s", s.seconds) : duration_text(s.seconds),
               count_text(static_cast<std::uint64_t>(s.seconds > 0 ? static_cast<double>(s.read) / s.seconds : 0)));
}

PrepareSummary merged(const PrepareFlags& flags, const PrepareOptions& o) {
  if (flags.input.given() || flags.part != "1/1")
    throw UsageError("--merge reads no molecules: its parts have them; leave --input, --pair and --part away");
  return merge_parts({.parts = {flags.merge.begin(), flags.merge.end()},
                      .output = o.output,
                      .resume = o.resume,
                      .quiet = flags.common.quiet});
}

PrepareSummary prepared(PrepareFlags& flags) {
  PrepareOptions& o = flags.options;
  flags.input.resolve(o);
  o.columns.labels = split_names(flags.labels);
  o.quiet = flags.common.quiet;
  o.program_version = MOLEBLEND_VERSION;
  parse_part(flags.part, o);
  const std::unique_ptr<Chemistry> chemistry = load_chemistry();
  return prepare(o, *chemistry);
}

void run(PrepareFlags& flags) {
  PrepareOptions& o = flags.options;
  o.output = flags.output;
  const PrepareSummary summary = flags.merge.empty() ? prepared(flags) : merged(flags, o);
  if (flags.common.json)
    std::cout << summary_json(summary, o).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  else if (!flags.common.quiet)
    print_summary(summary, o);
}

}  // namespace

void add_prepare(CLI::App& program) {
  const auto flags = std::make_shared<PrepareFlags>();
  PrepareOptions& o = flags->options;
  CLI::App* verb = add_verb(program, "prepare", kDescription, flags->common);
  verb->footer(kPrepareFooter);

  add_input_flags(*verb, flags->input, o);
  verb->add_option("--output", flags->output, "Folder of the data set; must not exist or be empty")
      ->type_name("DIR")
      ->required();
  verb->add_option("--label-columns", flags->labels,
                   "Columns of a table, or data fields of an SDF, that are labels: A,B,C. A name with a comma in it: "
                   "\"A, B\" in quotation marks. Empty, NaN, NA and none are missing labels")
      ->type_name("A,B")
      ->group("Columns");
  verb->add_option("--part", flags->part, "Do the i-th of n parts (i from 1): blocks b with b mod n = i - 1")
      ->type_name("i/n")
      ->group("Run");
  verb->add_option("--merge", flags->merge,
                   "Folders of all n parts: they become one data set; molecules are not read again")
      ->type_name("DIR")
      ->group("Run");
  verb->add_flag("--resume", o.resume, "Go on with an interrupted run in the output folder")->group("Run");
  verb->add_option("--block-size", o.block_size, "Input records a shard")->capture_default_str()->group("Run");
  verb->callback([flags] { run(*flags); });
}

}  // namespace moleblend
