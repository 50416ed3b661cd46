#include "apps/molecule_stream.h"

#include <fmt/format.h>

#include <iostream>

#include "engine/training/stop_signal.h"
#include "io/support/cores.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {

void StreamFlags::resolve() {
  constexpr std::int64_t on_cpu = 1024, on_gpu = 16384;  // on a GPU enough work to fill it
  input.resolve(options);
  if (data.empty() == !input.given())
    throw UsageError("name the molecules, either files with --input or a data set with --data");
  if (batch_atoms < 0) throw UsageError("--batch-atoms must not be negative, and is {}", batch_atoms);
  place.check();
  if (batch_atoms == 0) batch_atoms = place.device == "cuda" ? on_gpu : on_cpu;
}

void add_stream_flags(CLI::App& verb, StreamFlags& flags) {
  flags.place.threads = available_cores();
  const auto option = [&verb](const char* name, auto& value, const char* text) {
    return verb.add_option(name, value, text)->capture_default_str();
  };
  option("--data", flags.data, "Data set made by `moleblend prepare`, instead of --input")->type_name("DIR");
  option("--batch-atoms", flags.batch_atoms, "Atoms a forward pass (0: 1,024 on a CPU, 16,384 on a GPU)");
  option("--threads", flags.place.threads, "Threads of the arithmetic");
  option("--device", flags.place.device, "cpu or cuda");
  option("--precision", flags.place.precision, "fp32, or bf16 (a GPU, or a CPU with AVX512-BF16)");
  add_input_flags(verb, flags.input, flags.options);
}

OpenedSource open_stream(const StreamFlags& flags) {
  OpenedSource stream;
  if (flags.data.empty()) {
    stream.chemistry = load_chemistry();
    stream.source = open_molecule_files(flags.options, *stream.chemistry, StopSignal::received);
  } else {
    stream.source = open_molecule_dataset(flags.data);
  }
  return stream;
}

void until_interrupted(const std::function<void()>& work) {
  try {
    work();
  } catch (const Interrupted& e) {
    std::cerr << "moleblend: " << e.what() << "\n";
    throw ExitStatus{128 + StopSignal::received()};
  }
}

void add_summary(nlohmann::ordered_json& json, const StreamSummary& s) {
  json.update({{"records", s.records},
               {"molecules", s.molecules},
               {"refused", s.refused},
               {"refused_by_reason", s.reasons},
               {"without_3d", s.without_3d},
               {"remarks", s.remarks},
               {"seconds", s.seconds},
               {"molecules_per_second", s.molecules_per_second()}});
}

void print_summary(const StreamFlags& flags, const StreamSummary& s, std::string_view why, std::string_view done) {
  if (s.refused > 0) {
    fmt::print("{} records were refused; {}\n", count_text(s.refused), why);
    for (const auto& [reason, count] : s.reasons) fmt::print("  {:>9}  {}\n", count_text(count), reason);
  }
  if (s.without_3d > 0)
    fmt::print("{} molecules have no positions and were {} from 2D alone{}\n", count_text(s.without_3d), done,
               flags.input.given() ? "; --conformers 1 builds some" : "");
  for (const std::string& remark : s.remarks) fmt::print("{}\n", remark);
  fmt::print("took {} ({:.4g} molecules/s)\n",
             s.seconds < 10 ? fmt::format("{:.2f} s", s.seconds) : duration_text(s.seconds), s.molecules_per_second());
}

void print_json(const nlohmann::ordered_json& json) {
  // Reasons may quote what was in a file, which need not be UTF-8.
  std::cout << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
}

}  // namespace moleblend
