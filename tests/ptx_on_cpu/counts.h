#pragma once
// What kernels did, counted exactly: instructions of PTX that warps ran, memory sectors, shared memory's wavefronts.
//
// Of these, ptxas removes or merges some (moves, conversions between address spaces, loads of parameters), and may write one for two
// (addresses). What it cannot change is the work: products, sectors, wavefronts, barriers.
//
// With the environment variable PTX_ON_CPU_COUNTS=FILE a program writes the table at its end: tab-separated, a line for each kernel.

#include <array>
#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>

namespace ptx_on_cpu {

/// What an instruction is counted as.
enum class Class : std::uint8_t {
  fp32,           // add, mul, fma, min, max, abs, neg; a division or square root is one too
  fp64,           // the same in double
  integer,        // add, mul.lo, shifts, logic, comparisons and selections of any type
  wide_multiply,  // mul.hi, mul.wide, mad.hi, mad.wide
  conversion,     // cvt between types
  special,        // MUFU: ex2, lg2, rcp, rsqrt, sqrt, sin, cos, tanh, all .approx
  warp_wide,      // shfl, vote, match, redux, movmatrix, bar.warp
  shared_load,
  shared_store,
  ldmatrix,
  global_load,  // of generic addresses too
  global_store,
  local_memory,
  atomic,
  async_copy,  // cp.async; its commit and wait are `barrier`
  mma,
  barrier,  // of a block, and waits for copies
  branch,
  move,  // mov, cvta, ld.param: what ptxas mostly removes
};
constexpr int kClasses = static_cast<int>(Class::move) + 1;
/// As in the table's header.
const char* name(Class kind);

struct Counts {
  std::uint64_t launches = 0, blocks = 0, warps = 0;
  /// Run by warps, of each class.
  std::array<std::uint64_t, kClasses> instructions{};
  /// Lanes that took part, over all instructions; 32 for each without divergence.
  std::uint64_t lanes = 0;
  /// 32-byte sectors of global memory that requests touched, and bytes that lanes asked for.
  std::uint64_t load_sectors = 0, load_bytes = 0, store_sectors = 0, store_bytes = 0, copy_sectors = 0, copy_bytes = 0;
  /// Passes over the 32 banks; one a request of up to 4 bytes a lane, two of 8 and four of 16, where no bank has two words.
  std::uint64_t shared_load_wavefronts = 0, shared_store_wavefronts = 0, ldmatrix_wavefronts = 0, copy_wavefronts = 0;

  std::uint64_t of(Class kind) const { return instructions[static_cast<std::size_t>(kind)]; }
  Counts& operator+=(const Counts& other);
};

/// Of the launches that ended well, by the kernel's name as in the PTX. Not while a launch runs.
const std::map<std::string, Counts>& counts();
void clear_counts();
/// The name as in the source.
std::string demangled(const std::string& kernel);
void add_counts(const std::string& kernel, const Counts& counts);
/// As PTX_ON_CPU_COUNTS has it: a header, and a line for each kernel with its demangled name first.
void write_counts(std::ostream& out);

}  // namespace ptx_on_cpu
