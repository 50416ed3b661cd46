#include "apps/bench_prepare.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>

#include "engine/bench/temporary_folder.h"
#include "io/chemistry/chemistry.h"
#include "io/dataset/dataset.h"
#include "io/prepare/prepare.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr int kRepetitions = 3;

const char* symbol_of(std::uint8_t atomic_number) {
  switch (atomic_number) {
    case 6:
      return "C";
    case 7:
      return "N";
    case 8:
      return "O";
    case 9:
      return "F";
    case 16:
      return "S";
    default:
      return "H";
  }
}

/// A V2000 record with all hydrogens, as data sets of computed geometries have them, 1.1 Å from their atoms.
std::string sdf_record(const Molecule& m) {
  struct Hydrogen {
    std::size_t atom;
    std::array<float, 3> at;
  };
  std::vector<Hydrogen> hydrogens;
  for (std::size_t i = 0; i < m.size(); ++i) {
    for (std::uint8_t k = 0; k < m.atoms[i][4]; ++k) {
      // Directions spread over the sphere, others for each atom.
      const double z = 1 - (2 * k + 1) / 4.0, angle = 2.4 * static_cast<double>(i + k), r = std::sqrt(1 - z * z);
      const double direction[3] = {r * std::cos(angle), r * std::sin(angle), z};
      Hydrogen& h = hydrogens.emplace_back(Hydrogen{i, {}});
      for (std::size_t c = 0; c < 3; ++c) h.at[c] = m.positions[3 * i + c] + static_cast<float>(1.1 * direction[c]);
    }
  }
  const std::vector<std::uint8_t> orders = kekule_orders(m);
  std::string text = fmt::format("{}\n  moleblend         3D\n\n{:3}{:3}  0  0  0  0  0  0  0  0999 V2000\n",
                                 m.identifier, m.size() + hydrogens.size(), m.bonds.size() + hydrogens.size());
  const auto atom = [&](const float* p, const char* symbol) {
    text +=
        fmt::format("{:10.4f}{:10.4f}{:10.4f} {:<3} 0  0  0  0  0  0  0  0  0  0  0  0\n", p[0], p[1], p[2], symbol);
  };
  for (std::size_t i = 0; i < m.size(); ++i)
    atom(&m.positions[3 * i], symbol_of(static_cast<std::uint8_t>(m.atoms[i][0] + 1)));
  for (const Hydrogen& h : hydrogens) atom(h.at.data(), "H");
  for (std::size_t e = 0; e < m.bonds.size(); ++e)
    text += fmt::format("{:3}{:3}{:3}  0\n", m.bonds[e].begin + 1, m.bonds[e].end + 1, orders[e]);
  for (std::size_t h = 0; h < hydrogens.size(); ++h)
    text += fmt::format("{:3}{:3}  1  0\n", hydrogens[h].atom + 1, m.size() + h + 1);
  return text + "M  END\n$$$$\n";
}

template <class Text>
void write_records(const fs::path& path, const std::vector<Molecule>& kinds, std::uint64_t count, bool quiet,
                   Text&& text) {
  std::ofstream file(path, std::ios::binary);
  Progress progress("file to measure on", count, "molecules", quiet);
  for (std::uint64_t i = 0; i < count; ++i) {
    file << text(kinds[i % kinds.size()]);
    progress.update(i + 1);
  }
  file.close();
  if (!file) throw Error("can't write {}; is the disk full?", path.string());
  progress.finish();
}

/// Seconds that one process takes in which Open Babel reads the file, and how many molecules it found.
std::pair<double, std::uint64_t> stream_alone(Chemistry& chemistry, const fs::path& path, const char* format) {
  int ends[2];
  if (::pipe(ends) != 0) throw Error("can't make a pipe: {}; close some files", std::strerror(errno));
  const Clock::time_point begin = Clock::now();
  const pid_t child = ::fork();
  if (child < 0) throw Error("can't start a process: {}; end some others", std::strerror(errno));
  if (child == 0) {
    std::uint64_t count = 0;
    try {
      count = chemistry.stream(path.string(), format);
    } catch (...) {
    }
    ::_exit(::write(ends[1], &count, sizeof count) == sizeof count ? 0 : 1);
  }
  ::close(ends[1]);
  std::uint64_t count = 0;
  const bool answered = ::read(ends[0], &count, sizeof count) == sizeof count;
  ::close(ends[0]);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!answered || count == 0) throw Error("Open Babel does not read {}; give another file", path.string());
  return {std::chrono::duration<double>(Clock::now() - begin).count(), count};
}

/// What is wrong with the data set made of `count` of these molecules; empty if nothing is.
std::string fault_in(const fs::path& folder, const std::vector<Molecule>& kinds, std::uint64_t count, bool positions) {
  const Dataset data = Dataset::open(folder, true);
  if (data.size() != count) return fmt::format("{} of {} molecules were kept", data.size(), count);
  Molecule m;
  for (std::uint64_t i = 0; i < count; ++i) {
    data.read(i, m);
    const Molecule& written = kinds[i % kinds.size()];
    if (m.size() != written.size()) return fmt::format("molecule {} has {} atoms, not {}", i, m.size(), written.size());
    if (m.bonds.size() != written.bonds.size())
      return fmt::format("molecule {} has {} bonds, not {}", i, m.bonds.size(), written.bonds.size());
    for (std::size_t k = 0; k < m.size() && positions; ++k)  // a SMILES has an order of its own
      if (m.atoms[k][0] != written.atoms[k][0]) return fmt::format("atom {} of molecule {} is another element", k, i);
    if (m.conformers != (positions ? 1u : 0u)) return fmt::format("molecule {} has {} conformers", i, m.conformers);
    // Files have four decimals.
    for (std::size_t k = 0; k < m.positions.size(); ++k)
      if (!(std::abs(m.positions[k] - written.positions[k]) <= 1e-4f)) return fmt::format("molecule {} was moved", i);
  }
  return {};
}

/// Processor seconds of this process and of those that it started and that have ended.
double cpu_seconds() {
  double seconds = 0;
  for (const auto who : {RUSAGE_CHILDREN, RUSAGE_SELF}) {
    rusage usage{};
    ::getrusage(who, &usage);
    for (const timeval& t : {usage.ru_utime, usage.ru_stime})
      seconds += static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  }
  return seconds;
}

double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

void bench_prepare(const PrepareBenchOptions& options, const BenchSink& sink) {
  const auto chemistry = load_chemistry();
  const TemporaryFolder folder;
  constexpr std::uint64_t kKinds = 4096;  // then the same again
  const std::vector<Molecule> kinds =
      random_molecules(std::min(options.molecules, kKinds), options.size.mean_atoms, options.size.deviation, 1);
  const auto measure = [&](const std::string& name, const char* format, const fs::path& file, bool made_up) {
    // In turns, Open Babel first and last: on a shared machine what it streams changes from run to run.
    std::vector<double> alone, prepared, alone_cpu, prepared_cpu, share;
    PrepareSummary summary;
    std::uint64_t count = 0;
    std::string fault;
    const auto stream = [&] {
      const double cpu_before = cpu_seconds();
      const auto [seconds, molecules] = stream_alone(*chemistry, file, format);
      count = molecules;
      alone.push_back(static_cast<double>(molecules) / seconds);
      alone_cpu.push_back((cpu_seconds() - cpu_before) / static_cast<double>(molecules));
    };
    stream();
    for (int r = 0; r < kRepetitions; ++r) {
      const double cpu_before = cpu_seconds();
      PrepareOptions prepare_options;
      prepare_options.inputs = {file};
      prepare_options.output = folder.path() / fmt::format("{}-{}", format, r);
      prepare_options.workers = options.workers;
      prepare_options.quiet = options.quiet;
      prepare_options.program_version = MOLEBLEND_VERSION;
      summary = prepare(prepare_options, *chemistry);
      prepared.push_back(static_cast<double>(summary.records) / summary.seconds);
      prepared_cpu.push_back((cpu_seconds() - cpu_before) / static_cast<double>(summary.records));
      if (summary.kept + summary.rejected != summary.records)
        fault = fmt::format("{} kept and {} rejected of {}", summary.kept, summary.rejected, summary.records);
      if (made_up && fault.empty()) {
        fault = summary.records == options.molecules
                    ? fault_in(prepare_options.output, kinds, options.molecules, std::strcmp(format, "sdf") == 0)
                    : fmt::format("{} records of {}", summary.records, options.molecules);
      }
      fs::remove_all(prepare_options.output);
      stream();
      const double both = alone[alone.size() - 2] + alone.back();  // right before it and right after it
      share.push_back(prepared.back() / (options.workers * both / 2));
    }
    BenchRow row{.name = name,
                 .value = middle(prepared),
                 .unit = "records/s",
                 .correct = fault.empty(),
                 .share_of_floor = middle(share)};
    row.detail = {{"workers", options.workers},
                  {"records", summary.records},
                  {"kept", summary.kept},
                  {"rejected", summary.rejected},
                  {"bytes_a_record", static_cast<double>(fs::file_size(file)) / static_cast<double>(summary.records)},
                  {"open_babel_alone_records_per_s", middle(alone)},
                  {"open_babel_alone_molecules", count},
                  {"cpu_us_a_record", 1e6 * middle(prepared_cpu)},
                  {"open_babel_alone_cpu_us_a_record", 1e6 * middle(alone_cpu)},
                  {"share_by_cpu", middle(alone_cpu) / middle(prepared_cpu)},
                  {"runs", prepared},
                  {"runs_open_babel_alone", alone}};
    if (!fault.empty()) row.detail["fault"] = fault;
    sink(std::move(row));
  };

  fs::path sdf = options.sdf;
  if (sdf.empty()) {
    sdf = folder.path() / "made-up.sdf";
    write_records(sdf, kinds, options.molecules, options.quiet, sdf_record);
  }
  measure("prepare.sdf", "sdf", sdf, options.sdf.empty());
  if (!options.smiles) return;
  const fs::path smiles = folder.path() / "made-up.smi";
  write_records(smiles, kinds, options.molecules, options.quiet,
                [](const Molecule& m) { return fmt::format("{}\t{}\n", m.smiles, m.identifier); });
  measure("prepare.smiles", "smi", smiles, true);
}

}  // namespace moleblend
