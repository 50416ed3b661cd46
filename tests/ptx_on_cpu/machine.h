#pragma once
// The machine that runs decoded PTX: warps of 32 lanes in lockstep.
//
// A register is an array of 32 values, one a lane; a predicate is a mask of 32 bits. Lanes that took different ways are groups: the group
// with the least address runs, and groups that meet at an address become one. What the lanes of a warp do together (shuffles, mma) waits
// until all that are named have come. Warps run until they end or meet a barrier, blocks one after another on each host thread.
//
// Fails a launch, with kernel, block, warp, lane and place: accesses outside of what was allocated, or not aligned to their size;
// deadlocks; shuffles from lanes that are not there. Fresh shared memory is 0xFF bytes.
// cp.async's copy is made when it is waited for, the latest that hardware may be, and until then what it fills is 0xFF bytes.
//
// Environment variables:
//   CUDA_ON_CPU_ORDER     rev: the highest warps and blocks first
//   CUDA_ON_CPU_SHARED_KB most shared memory of a block; default: 227, as of compute capability 9.0
//   CUDA_ON_CPU_WORKERS   host threads a launch is spread over; default: all
//   PTX_ON_CPU_MMA        cut: sums of mma are cut, as tensor cores do, instead of rounded (matrix_ops.cpp)
//   PTX_ON_CPU_COUNTS     a file for the table of what was counted (counts.h)
//
// What it does not show: what ptxas makes of the PTX (registers, order, latencies), races within a warp, several streams.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "allocations.h"
#include "counts.h"
#include "program.h"

namespace ptx_on_cpu {

constexpr int kLanes = 32;
using Mask = std::uint32_t;
constexpr Mask kAllLanes = 0xFFFFFFFFu;

/// Where shared memory begins: a GPU keeps the first kilobyte to itself, so that no variable has the address 0.
constexpr std::uint64_t kSharedBegin = 1024;

struct Warp;
struct Instruction;
using Handler = void (*)(Warp&, const Instruction&);

/// What an instruction does besides arithmetic and memory.
enum class Flow : std::uint8_t { none, branch, exit, together, barrier };

constexpr std::uint32_t kNoOperand = 0xFFFFFFFFu;
constexpr std::uint32_t kConstant = 0x80000000u;  // an operand in the kernel's constants, not in the register file

struct Instruction {
  Handler run = nullptr;
  Handler inner = nullptr;  // what `run` wraps
  std::array<std::uint32_t, 14> operand{};
  std::int64_t value = 0;  // an offset, an immediate, the target of a branch
  std::uint32_t guard = kNoOperand;
  std::uint32_t members = kNoOperand;  // of Flow::together: a mask of lanes; none: all 32
  std::uint8_t width = 0;              // of memory: bytes a lane
  std::uint8_t vector = 1;             // and values
  std::uint8_t detail = 0;             // of each handler's own
  bool negated = false;
  Flow flow = Flow::none;
  Class kind = Class::move;
  std::uint32_t line = 0, source_file = 0, source_line = 0;
};

/// The special registers, which lie at the beginning of a warp's register file.
enum Special : std::uint32_t {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneid,
  kWarpid,
  kNwarpid,
  kMaskEq,
  kMaskLe,
  kMaskLt,
  kMaskGe,
  kMaskGt,
  kSpecials
};

/// A decoded kernel.
struct Kernel {
  std::string name;
  const Module* module = nullptr;
  std::vector<Instruction> code;
  std::vector<std::string> text;  // of each instruction
  std::uint32_t register_bytes = 0;
  std::vector<std::uint64_t> constants;  // 32 lanes of each
  std::vector<Variable> parameters;
  std::uint64_t parameter_bytes = 0;
  std::uint64_t static_shared = 0;  // bytes, from kSharedBegin on
  std::uint64_t dynamic_begin = 0;  // address
  std::uint64_t local_bytes = 0;    // of a lane
  std::uint64_t most_threads = 1024;
};

/// What ends a launch.
struct LaunchFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Dim {
  std::uint32_t x = 1, y = 1, z = 1;
};

/// What all blocks of a launch share.
struct LaunchState {
  const Kernel* kernel;
  Dim grid, block;
  std::uint64_t shared_end;  // address
  std::vector<std::byte> parameters;
  std::vector<cuda_on_cpu::Allocation> allocations;
  bool reversed = false;  // the highest warp and block first
};

/// How the lanes of an access lay when it was last counted: those that lie alike cost alike.
struct Pattern {
  Mask mask = 0;
  std::uint32_t phase = 0;  // of the first address, in a sector
  std::uint32_t cost = 0;
  std::array<std::uint32_t, kLanes> relative{};
};

/// What is counted of each instruction.
struct InstructionCounts {
  std::uint64_t runs = 0, lanes = 0, sectors = 0, wavefronts = 0, bytes = 0;
};

struct Group {
  std::uint32_t pc;
  Mask mask;
  bool waiting = false;
};

/// An asynchronous copy that has not been waited for.
struct PendingCopy {
  Mask mask;
  std::uint32_t bytes;
  std::array<std::uint64_t, kLanes> from;
  std::array<std::uint32_t, kLanes> to, source_bytes, group;
};

struct Block;

struct Warp {
  enum class Stop { ended, barrier };

  template <class T>
  T* at(std::uint32_t operand) const {
    return reinterpret_cast<T*>(
        __builtin_assume_aligned(files[operand >> 31] + (operand & ~kConstant), sizeof(T) == 1 ? 1 : 4));
  }
  Mask predicate(std::uint32_t operand) const { return *at<Mask>(operand); }
  void set_predicate(std::uint32_t operand, Mask value) {
    Mask& p = *at<Mask>(operand);
    p = (p & ~mask) | (value & mask);
  }

  /// Until it ends or all lanes that live meet a barrier.
  Stop run();
  [[noreturn]] void fail(const std::string& what, int lane = -1) const;
  InstructionCounts& counts_of(const Instruction& in);
  /// Where its groups are, for messages.
  std::string places() const;

  std::byte* files[2] = {};  // registers, constants
  Mask mask = 0;             // lanes that run the present instruction
  Mask alive = 0;
  std::vector<Group> groups;
  Block* block = nullptr;
  const Instruction* present = nullptr;
  unsigned index = 0;
  enum class State { ready, waiting, ended } state = State::ready;
  const Instruction* barrier = nullptr;  // at which it waits
  std::byte* local = nullptr;            // of lane 0; the others' lie `local_stride` bytes apart
  std::uint64_t local_stride = 0;
  std::vector<PendingCopy> copies;
  std::array<std::uint32_t, kLanes> committed{};

 private:
  std::size_t choose_group();
  /// The lanes of `lanes` whose companions are all here; fails where a lane is not among its own companions.
  Mask complete(const Instruction& in, Mask lanes) const;
};

struct Barrier {
  struct Arrival {
    Warp* warp;
    const Instruction* at;  // bar.arrive lets its warp go on, so that it may wait elsewhere by now
  };
  std::int64_t count = -1;  // threads; below 0: all warps that live
  std::vector<Arrival> arrived;
};

/// A host thread's place to run blocks in.
struct Block {
  void prepare(const LaunchState& launch);
  void run(Dim index);

  const LaunchState* launch = nullptr;
  Dim index;
  std::byte* shared = nullptr;  // of address 0; begins at kSharedBegin
  std::uint64_t shared_end = 0;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;
  std::vector<InstructionCounts> counts;
  std::vector<Pattern> global_patterns, shared_patterns;  // of each instruction
  std::array<cuda_on_cpu::Allocation, 16> recent{};       // allocations that were met, by instruction

 private:
  void arrive(Warp& warp);
  void release_complete();
  std::unique_ptr<std::byte[], void (*)(std::byte*)> registers_{nullptr, [](std::byte*) {}};
  std::size_t register_bytes_ = 0;
  std::vector<std::byte> shared_memory_, local_memory_;
};

// ---- arithmetic shared by the handlers ----------------------------------------------------------
/// f of every lane of the mask.
template <class F>
void each_lane(Mask mask, F&& f) {
  for (; mask; mask &= mask - 1) f(std::countr_zero(mask));
}

/// d = f(s…) on the lanes of the mask. The others are calculated too, and not stored: without branches the loop becomes vector code.
template <class F, class D, class... S>
void map_lanes(Mask mask, D* d, F f, const S*... s) {
  if (mask == kAllLanes) {
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) d[l] = f(s[l]...);
  } else {
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) {
      const D result = f(s[l]...);
      d[l] = (mask >> l & 1u) ? result : d[l];
    }
  }
}

/// The handler d = F(a, b, …) for operands of the types S….
template <class F, class D, class... S>
void map_handler(Warp& w, const Instruction& in) {
  [&]<std::size_t... k>(std::index_sequence<k...>) {
    map_lanes(w.mask, w.at<D>(in.operand[0]), F{}, static_cast<const S*>(w.at<S>(in.operand[1 + k]))...);
  }
  (std::index_sequence_for<S...>{});
}

}  // namespace ptx_on_cpu
