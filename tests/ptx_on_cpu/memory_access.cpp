#include "memory_access.h"

#include <algorithm>
#include <cstdio>

namespace ptx_on_cpu {
namespace {

std::string hexadecimal(std::uint64_t x) {
  char text[24];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(x));
  return text;
}

struct Extent {
  std::uint64_t least = ~std::uint64_t{0}, most = 0, bits = 0;
};
Extent extent(const Addresses& a, Mask mask) {
  Extent e;
  const std::uint64_t first = a[static_cast<std::size_t>(std::countr_zero(mask))];
  for (std::size_t l = 0; l < kLanes; ++l) {
    const std::uint64_t x = (mask >> l & 1u) ? a[l] : first;
    e.least = x < e.least ? x : e.least;
    e.most = x > e.most ? x : e.most;
    e.bits |= x;
  }
  return e;
}

void check_alignment(const Warp& w, const Addresses& a, const Extent& e, std::uint32_t bytes) {
  if ((e.bits & (bytes - 1)) == 0) return;
  each_lane(w.mask, [&](int l) {
    const std::uint64_t x = a[static_cast<std::size_t>(l)];
    if (x & (bytes - 1))
      w.fail("an access of " + std::to_string(bytes) + " bytes at the misaligned address " + hexadecimal(x), l);
  });
}

/// Whether the lanes lie as they did when the pattern was noted; if not, it is noted.
bool as_before(const Addresses& a, Mask mask, std::uint32_t phase_bits, Pattern& p) {
  const std::uint64_t first = a[static_cast<std::size_t>(std::countr_zero(mask))];
  std::array<std::uint32_t, kLanes> relative;
  for (std::size_t l = 0; l < kLanes; ++l)
    relative[l] = (mask >> l & 1u) ? static_cast<std::uint32_t>(a[l] - first) : 0;
  const auto phase = static_cast<std::uint32_t>(first & phase_bits);
  std::uint32_t difference = (mask ^ p.mask) | (phase ^ p.phase);
  for (std::size_t l = 0; l < kLanes; ++l) difference |= relative[l] ^ p.relative[l];
  if (difference == 0) return true;
  p.mask = mask;
  p.phase = phase;
  p.relative = relative;
  return false;
}

/// The most words that one bank has to give to the lanes of `mask`.
std::uint32_t passes(const Addresses& a, Mask mask, std::uint32_t words_per_lane) {
  if (!mask) return 0;
  std::array<std::uint64_t, kLanes * 4> words;
  std::size_t count = 0;
  each_lane(mask, [&](int l) {
    for (std::uint32_t k = 0; k < words_per_lane; ++k) words[count++] = a[static_cast<std::size_t>(l)] / 4 + k;
  });
  const auto begin = words.begin(), end = begin + static_cast<std::ptrdiff_t>(count);
  std::sort(begin, end);
  std::array<std::uint32_t, 32> of_bank{};
  std::uint32_t most = 0;
  for (auto word = begin; word != end; ++word)
    if (word == begin || *word != word[-1]) most = std::max(most, ++of_bank[*word % 32]);
  return most;
}

}  // namespace

void addresses_of(const Warp& w, std::uint32_t operand, std::uint32_t operand_bytes, std::int64_t offset,
                  Addresses& to) {
  if (operand_bytes == 8) {
    const auto* from = w.at<std::uint64_t>(operand);
    for (std::size_t l = 0; l < kLanes; ++l) to[l] = from[l] + static_cast<std::uint64_t>(offset);
  } else {
    const auto* from = w.at<std::uint32_t>(operand);
    for (std::size_t l = 0; l < kLanes; ++l) to[l] = from[l] + static_cast<std::uint32_t>(offset);
    for (std::size_t l = 0; l < kLanes; ++l) to[l] &= 0xFFFFFFFFu;
  }
}

void check_global(Warp& w, const Instruction& in, const Addresses& a, std::uint32_t bytes) {
  const Extent e = extent(a, w.mask);
  check_alignment(w, a, e, bytes);
  Block& block = *w.block;
  auto& recent = block.recent[static_cast<std::size_t>(&in - block.launch->kernel->code.data()) % block.recent.size()];
  if (e.least >= recent.begin && e.most + bytes <= recent.end) return;
  const auto& all = block.launch->allocations;
  each_lane(w.mask, [&](int l) {
    const std::uint64_t x = a[static_cast<std::size_t>(l)];
    if (x >= recent.begin && x + bytes <= recent.end) return;
    const auto after = std::upper_bound(all.begin(), all.end(), x,
                                        [](std::uint64_t value, const auto& one) { return value < one.begin; });
    if (after == all.begin() || x + bytes > after[-1].end) {
      std::string near;
      if (after != all.begin())
        near = ", " + std::to_string(x - after[-1].begin) + " bytes into an allocation of " +
               std::to_string(after[-1].end - after[-1].begin);
      w.fail("an access of " + std::to_string(bytes) + " bytes outside of allocated memory: " + hexadecimal(x) + near,
             l);
    }
    recent = after[-1];
  });
}

void check_shared(Warp& w, const Addresses& a, std::uint32_t bytes) {
  const Extent e = extent(a, w.mask);
  check_alignment(w, a, e, bytes);
  const std::uint64_t end = w.block->shared_end;
  if (e.least >= kSharedBegin && e.most + bytes <= end) return;
  each_lane(w.mask, [&](int l) {
    const std::uint64_t x = a[static_cast<std::size_t>(l)];
    if (x < kSharedBegin || x + bytes > end)
      w.fail("an access of " + std::to_string(bytes) + " bytes outside of shared memory: byte " +
                 std::to_string(static_cast<std::int64_t>(x - kSharedBegin)) + " of " +
                 std::to_string(end - kSharedBegin),
             l);
  });
}

std::uint32_t sectors(const Addresses& a, Mask mask, std::uint32_t, Pattern& last) {
  // An aligned access of up to 16 bytes lies in one sector.
  if (as_before(a, mask, 31, last)) return last.cost;
  std::array<std::uint64_t, kLanes> touched;
  std::size_t count = 0;
  each_lane(mask, [&](int l) { touched[count++] = a[static_cast<std::size_t>(l)] / 32; });
  const auto end = touched.begin() + static_cast<std::ptrdiff_t>(count);
  std::sort(touched.begin(), end);
  return last.cost = static_cast<std::uint32_t>(std::unique(touched.begin(), end) - touched.begin());
}

std::uint32_t wavefronts(const Addresses& a, Mask mask, std::uint32_t bytes, Pattern& last) {
  if (as_before(a, mask, 3, last)) return last.cost;
  const std::uint32_t words = std::max(bytes / 4, 1u), lanes = kLanes / words;
  std::uint32_t sum = 0;
  for (std::uint32_t begin = 0; begin < kLanes; begin += lanes) {
    const Mask part = lanes == kLanes ? kAllLanes : ((1u << lanes) - 1) << begin;
    sum += passes(a, mask & part, words);
  }
  return last.cost = sum;
}

void count_global(Warp& w, const Instruction& in, const Addresses& a, std::uint32_t bytes) {
  InstructionCounts& counts = w.counts_of(in);
  counts.sectors +=
      sectors(a, w.mask, bytes, w.block->global_patterns[static_cast<std::size_t>(&counts - w.block->counts.data())]);
  counts.bytes += static_cast<std::uint64_t>(std::popcount(w.mask)) * bytes;
}

void count_shared(Warp& w, const Instruction& in, const Addresses& a, std::uint32_t bytes) {
  InstructionCounts& counts = w.counts_of(in);
  counts.wavefronts += wavefronts(a, w.mask, bytes,
                                  w.block->shared_patterns[static_cast<std::size_t>(&counts - w.block->counts.data())]);
}

}  // namespace ptx_on_cpu
