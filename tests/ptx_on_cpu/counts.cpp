#include "counts.h"

#include <cxxabi.h>

#include <cstdlib>
#include <fstream>
#include <mutex>
#include <ostream>

namespace ptx_on_cpu {
namespace {

std::mutex& table_mutex() {
  static auto& mutex = *new std::mutex;
  return mutex;
}
std::map<std::string, Counts>& table() {
  static auto& all = *new std::map<std::string, Counts>;
  return all;
}

struct Figure {
  const char* name;
  std::uint64_t Counts::*value;
};
constexpr Figure kFigures[] = {
    {"load_sectors", &Counts::load_sectors},
    {"load_bytes", &Counts::load_bytes},
    {"store_sectors", &Counts::store_sectors},
    {"store_bytes", &Counts::store_bytes},
    {"copy_sectors", &Counts::copy_sectors},
    {"copy_bytes", &Counts::copy_bytes},
    {"shared_load_wavefronts", &Counts::shared_load_wavefronts},
    {"shared_store_wavefronts", &Counts::shared_store_wavefronts},
    {"ldmatrix_wavefronts", &Counts::ldmatrix_wavefronts},
    {"copy_wavefronts", &Counts::copy_wavefronts},
};

/// Writes the table when the program ends.
struct AtExit {
  ~AtExit() {
    if (const char* path = std::getenv("PTX_ON_CPU_COUNTS")) {
      std::ofstream file(path);
      write_counts(file);
    }
  }
} at_exit;

}  // namespace

const char* name(Class kind) {
  static constexpr const char* kNames[kClasses] = {
      "fp32",        "fp64",         "integer",  "wide_multiply", "conversion",   "special",      "warp_wide",
      "shared_load", "shared_store", "ldmatrix", "global_load",   "global_store", "local_memory", "atomic",
      "async_copy",  "mma",          "barrier",  "branch",        "move"};
  return kNames[static_cast<int>(kind)];
}

Counts& Counts::operator+=(const Counts& other) {
  launches += other.launches;
  blocks += other.blocks;
  warps += other.warps;
  for (std::size_t k = 0; k < instructions.size(); ++k) instructions[k] += other.instructions[k];
  lanes += other.lanes;
  for (const Figure& figure : kFigures) this->*figure.value += other.*figure.value;
  return *this;
}

std::string demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  const std::string result = status == 0 && text ? text : name;
  std::free(text);
  return result;
}

const std::map<std::string, Counts>& counts() {
  return table();
}

void clear_counts() {
  const std::lock_guard lock(table_mutex());
  table().clear();
}

void add_counts(const std::string& kernel, const Counts& counts) {
  const std::lock_guard lock(table_mutex());
  table()[kernel] += counts;
}

void write_counts(std::ostream& out) {
  const std::lock_guard lock(table_mutex());
  out << "kernel\tlaunches\tblocks\twarps\tinstructions\tlanes_per_instruction";
  for (int k = 0; k < kClasses; ++k) out << '\t' << name(static_cast<Class>(k));
  for (const Figure& figure : kFigures) out << '\t' << figure.name;
  out << "\tmangled\n";
  for (const auto& [kernel, c] : table()) {
    std::uint64_t all = 0;
    for (const std::uint64_t n : c.instructions) all += n;
    out << demangled(kernel) << '\t' << c.launches << '\t' << c.blocks << '\t' << c.warps << '\t' << all << '\t'
        << (all > 0 ? static_cast<double>(c.lanes) / static_cast<double>(all) : 0);
    for (const std::uint64_t n : c.instructions) out << '\t' << n;
    for (const Figure& figure : kFigures) out << '\t' << c.*figure.value;
    out << '\t' << kernel << '\n';
  }
}

}  // namespace ptx_on_cpu
