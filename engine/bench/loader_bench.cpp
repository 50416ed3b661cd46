#include "engine/bench/loader_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <fstream>
#include <optional>
#include <vector>

#include "engine/bench/temporary_folder.h"
#include "io/dataset/dataset_writer.h"
#include "io/dataset/shard_writer.h"
#include "io/loader/loader.h"
#include "io/support/error.h"
#include "io/support/progress.h"

namespace moleblend {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kSeed = 1;
constexpr std::size_t kRepetitions = 9, kChecked = 500;  // molecules whose content is looked at

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
/// Processor time of all threads of this process.
double cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Resident memory of this process in MiB: "VmRSS" in all, "RssAnon" its own, "RssFile" mapped files.
double resident_mib(const std::string& kind) {
  std::ifstream status("/proc/self/status");
  for (std::string name; status >> name;) {
    double kib = 0;
    if (name == kind + ":" && status >> kib) return kib / 1024;
  }
  return 0;
}

void write_dataset(const fs::path& folder, const LoaderBenchOptions& options, const std::vector<Molecule>& kinds) {
  constexpr std::uint64_t kShard = 4096;  // as `moleblend prepare` has it
  Progress progress("data set to measure on", options.molecules, "molecules", options.quiet);
  Molecule molecule;
  for (std::uint64_t first = 0; first < options.molecules; first += kShard) {
    ShardWriter shard(folder, first / kShard, 0);
    const std::uint64_t end = std::min(options.molecules, first + kShard);
    for (std::uint64_t i = first; i < end; ++i) {
      molecule = kinds[i % kinds.size()];
      molecule.identifier = fmt::format("made-up {}", i);
      molecule.source_record = i;
      shard.add(molecule);
    }
    shard.finish();
    progress.update(end);
  }
  progress.finish();
  const SourceFile source{.path = "made up", .sha256 = {}, .bytes = 0, .records = options.molecules};
  write_dataset_json(folder,
                     {.labels = {}, .sources = {source}, .options = "{}", .program_version = MOLEBLEND_VERSION});
}

/// What one pass over the data set shows.
struct Epoch {
  std::string fault;  // empty: none
  double atoms = 0, pairs = 0;
  std::size_t largest_step = 0;  // bytes of its batches
};

std::size_t bytes_of(const Batch& b) {
  const auto bytes = [](const auto& values) { return values.size() * sizeof(values[0]); };
  return bytes(b.atom_offset) + bytes(b.pair_offset) + bytes(b.token_pair_offset) + bytes(b.index) + bytes(b.key) +
         bytes(b.has_positions) + bytes(b.labels) + bytes(b.atom_codes) + bytes(b.degree) + bytes(b.positions) +
         bytes(b.position_known) + bytes(b.spd) + bytes(b.path);
}

LoaderOptions loader_options(const LoaderBenchOptions& options, int threads) {
  return {.seed = kSeed, .batch_size = options.batch_size, .threads = threads, .random_conformer = false};
}

Epoch check_epoch(const Dataset& data, const LoaderBenchOptions& options) {
  Epoch epoch;
  const std::uint64_t n = data.size(), batch = static_cast<std::uint64_t>(options.batch_size);
  const auto steps = static_cast<std::int64_t>((n + batch - 1) / batch);
  Loader loader(data, Subset::all(n), loader_options(options, options.threads), 0, steps);
  std::vector<bool> seen(n);
  std::uint64_t delivered = 0;
  Molecule molecule;
  Progress progress("loader, one epoch", n, "molecules", options.quiet);
  while (auto step = loader.next()) {
    std::size_t step_bytes = 0;
    for (const Batch& b : step->micro_batches) {
      epoch.atoms += static_cast<double>(b.atoms());
      epoch.pairs += static_cast<double>(b.pair_offset.back());
      step_bytes += bytes_of(b);
      for (std::size_t k = 0; k < b.index.size() && epoch.fault.empty() && delivered < n; ++k, ++delivered) {
        const std::uint64_t index = b.index[k];
        if (index >= n || seen[index]) epoch.fault = fmt::format("molecule {} comes twice", index);
        if (!epoch.fault.empty()) break;
        seen[index] = true;
        // Some of the first step, and some from everywhere.
        if (delivered < kChecked / 2 || delivered % (1 + n / (kChecked / 2)) == 0) {
          data.read(index, molecule);
          if (std::string fault = fault_in(b, k, molecule); !fault.empty())
            epoch.fault = fmt::format("molecule {}: {}", index, fault);
        }
      }
    }
    epoch.largest_step = std::max(epoch.largest_step, step_bytes);
    progress.update(delivered);
    loader.recycle(std::move(step));
  }
  progress.finish();
  if (epoch.fault.empty() && delivered != n) epoch.fault = fmt::format("{} of {} molecules came", delivered, n);
  const double all = static_cast<double>(n) / static_cast<double>(static_cast<std::uint64_t>(steps) * batch);
  epoch.atoms *= all;  // the last step went on into the next epoch
  epoch.pairs *= all;
  return epoch;
}

/// Seconds that copying `bytes` takes, through memory that is used again and again as the loader's is.
double copy_seconds(std::size_t bytes) {
  std::vector<char> from(bytes, 1), to(bytes, 2);
  double best = 1e9;
  for (int k = 0; k < 7; ++k) {
    const double begin = wall_seconds();
    std::memcpy(to.data(), from.data(), bytes);
    from[static_cast<std::size_t>(k)] = to[bytes - 1];  // so that no copy can be left out
    best = std::min(best, wall_seconds() - begin);
  }
  return best;
}

struct Rate {
  double molecules_per_s = 0, slowest = 0, fastest = 0, molecules_per_cpu_s = 0;
};

Rate measure(const Dataset& data, const LoaderBenchOptions& options, int threads) {
  // Far beyond what can be reached: the steps are taken one after the other, and the loader ends with its object.
  Loader loader(data, Subset::all(data.size()), loader_options(options, threads), 0, std::int64_t{1} << 40);
  const auto take = [&](std::int64_t steps) {
    for (std::int64_t s = 0; s < steps; ++s) loader.recycle(loader.next());
  };
  const double batch = static_cast<double>(options.batch_size);
  take(10);  // memory has its size, and the queue is full
  const double begin = wall_seconds();
  take(10);
  const double a_step = (wall_seconds() - begin) / 10;
  const auto steps = static_cast<std::int64_t>(
      std::clamp(std::ceil(options.seconds / kRepetitions / std::max(a_step, 1e-6)), 8.0, 1e6));
  std::vector<double> rates, cpu_rates;
  for (std::size_t r = 0; r < kRepetitions; ++r) {
    const double wall = wall_seconds(), cpu = cpu_seconds();
    take(steps);
    rates.push_back(batch * static_cast<double>(steps) / (wall_seconds() - wall));
    cpu_rates.push_back(batch * static_cast<double>(steps) / (cpu_seconds() - cpu));
  }
  std::sort(rates.begin(), rates.end());
  std::sort(cpu_rates.begin(), cpu_rates.end());
  return {rates[kRepetitions / 2], rates.front(), rates.back(), cpu_rates[kRepetitions / 2]};
}

/// Seconds until the first step comes, starting at `step`.
double seconds_to(const Dataset& data, const LoaderBenchOptions& options, std::int64_t step) {
  const double begin = wall_seconds();
  Loader loader(data, Subset::all(data.size()), loader_options(options, 1), step, step + 1);
  loader.next();
  return wall_seconds() - begin;
}

/// METHOD section 2, word for word.
struct FloydWarshall {
  explicit FloydWarshall(const Molecule& m) : n(m.size()), distance(n * n, kUnreachable), pivot(n * n, n), code(n * n) {
    for (std::size_t i = 0; i < n; ++i) distance[i * n + i] = 0;
    for (const Bond& b : m.bonds) {
      distance[b.begin * n + b.end] = distance[b.end * n + b.begin] = 1;
      code[b.begin * n + b.end] = code[b.end * n + b.begin] = bond_code(b.type, b.stereo, b.conjugated);
    }
    for (std::size_t k = 0; k < n; ++k)
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
          if (distance[i * n + k] + distance[k * n + j] < distance[i * n + j]) {
            distance[i * n + j] = distance[i * n + k] + distance[k * n + j];
            pivot[i * n + j] = k;
          }
  }
  void append_path(std::size_t i, std::size_t j, std::vector<std::uint8_t>& codes) const {
    const std::size_t k = pivot[i * n + j];
    if (k == n) {
      codes.push_back(code[i * n + j]);
    } else {
      append_path(i, k, codes);
      append_path(k, j, codes);
    }
  }

  std::size_t n;
  std::vector<int> distance;
  std::vector<std::size_t> pivot;  // n: none
  std::vector<std::uint8_t> code;
};

}  // namespace

std::string fault_in(const Batch& batch, std::size_t b, const Molecule& molecule) {
  const std::size_t n = molecule.size();
  const auto atom = static_cast<std::size_t>(batch.atom_offset[b]),
             pair = static_cast<std::size_t>(batch.pair_offset[b]);
  if (static_cast<std::size_t>(batch.atom_offset[b + 1]) - atom != n ||
      static_cast<std::size_t>(batch.pair_offset[b + 1]) - pair != n * n)
    return fmt::format("it does not have {} atoms", n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t f = 0; f < kAtomFeatures; ++f)
      if (batch.atom_codes[(atom + i) * kAtomFeatures + f] != molecule.atoms[i][f])
        return fmt::format("code {} of atom {} is wrong", f, i);
  const bool has_positions = molecule.conformers > 0;
  if (batch.has_positions[b] != has_positions) return "it has positions in one place only";
  for (std::size_t k = 0; has_positions && k < 3 * n; ++k)
    if (!(batch.positions[3 * atom + k] == molecule.positions[k])) return fmt::format("coordinate {} is wrong", k);

  const FloydWarshall expected(molecule);
  std::vector<std::uint8_t> codes;
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t degree = 0;
    for (std::size_t j = 0; j < n; ++j) {
      const std::size_t ij = i * n + j;
      degree += expected.distance[ij] == 1;
      if (batch.spd[pair + ij] != expected.distance[ij]) return fmt::format("the SPD of {} and {} is wrong", i, j);
      codes.clear();
      if (i != j && expected.distance[ij] < kUnreachable) expected.append_path(i, j, codes);
      codes.resize(kPathHops);
      if (!std::equal(codes.begin(), codes.end(), &batch.path[(pair + ij) * kPathHops]))
        return fmt::format("the path from {} to {} is wrong", i, j);
    }
    if (batch.degree[atom + i] != degree) return fmt::format("the degree of atom {} is wrong", i);
  }
  return {};
}

void bench_loader(const LoaderBenchOptions& options, const BenchSink& sink) {
  const double resident_at_start = resident_mib("VmRSS");
  std::optional<TemporaryFolder> folder;
  if (options.data.empty()) {
    constexpr std::uint64_t kKinds = 8192;  // then the same again
    write_dataset(
        folder.emplace().path(), options,
        random_molecules(std::min(options.molecules, kKinds), options.size.mean_atoms, options.size.deviation, kSeed));
  }
  const Dataset data = Dataset::open(options.data.empty() ? folder->path() : options.data);
  if (data.size() == 0) throw Error("{} has no molecules to measure on; name another data set", options.data.string());
  const double resident_opened = resident_mib("VmRSS");
  const Epoch epoch = check_epoch(data, options);
  const double resident_epoch = resident_mib("VmRSS"), resident_own = resident_mib("RssAnon");
  const double first = seconds_to(data, options, 0), far = seconds_to(data, options, std::int64_t{1} << 32);

  const double n = static_cast<double>(data.size()), pairs = epoch.pairs / n;
  const double step_bytes = static_cast<double>(epoch.largest_step) +
                            static_cast<double>(data.bytes()) / n * static_cast<double>(options.batch_size);
  const double floor = static_cast<double>(options.batch_size) / copy_seconds(static_cast<std::size_t>(step_bytes));
  const std::string name = options.data.empty() ? std::string("loader.") + options.size.name : "loader.data";
  std::vector<int> threads = {1};
  if (options.threads > 1) threads.push_back(options.threads);
  for (const int count : threads) {
    const Rate rate = measure(data, options, count);
    BenchRow row{.name = count == 1 ? name : fmt::format("{}.{}_threads", name, count),
                 .value = rate.molecules_per_s,
                 .unit = "molecules/s",
                 .correct = epoch.fault.empty(),
                 .share_of_floor = rate.molecules_per_s / floor / count};
    row.detail = {{"molecules", data.size()},
                  {"batch_size", options.batch_size},
                  {"atoms_a_molecule", epoch.atoms / n},
                  {"pairs_a_molecule", pairs},
                  {"record_bytes_a_molecule", static_cast<double>(data.bytes()) / n},
                  {"slowest", rate.slowest},
                  {"fastest", rate.fastest},
                  {"molecules_per_cpu_s", rate.molecules_per_cpu_s},
                  {"atoms_per_s", rate.molecules_per_s * epoch.atoms / n},
                  {"pairs_per_s", rate.molecules_per_s * pairs},
                  {"ns_a_pair", 1e9 / (rate.molecules_per_s * pairs)},
                  {"seconds_to_first_step", first},
                  {"seconds_to_step_2e32", far},
                  {"resident_mib",
                   {{"at_start", resident_at_start},
                    {"opened", resident_opened},
                    {"after_an_epoch", resident_epoch},
                    {"after_an_epoch_own", resident_own},
                    {"at_end", resident_mib("VmRSS")},
                    {"peak", resident_mib("VmHWM")}}}};
    if (!epoch.fault.empty()) row.detail["fault"] = epoch.fault;
    sink(std::move(row));
  }
}

}  // namespace moleblend
