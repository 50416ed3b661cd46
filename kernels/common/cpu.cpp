#include "kernels/common/cpu.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace moleblend {
namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20;  // of x86-64, and of AArch64 with pages of 4 KiB
}

void ScratchBlock::Free::operator()(void* p) const {
  std::free(p);
}

void* ScratchBlock::reserve(std::size_t bytes) {
  if (bytes > size_) {
    // A quarter more than asked for: batches differ a little in size, and each growth costs page faults.
    const std::size_t wanted = bytes + bytes / 4, page = wanted < kHugePage ? 4096 : kHugePage;
    const std::size_t size = (wanted + page - 1) / page * page;
    memory_.reset();
    size_ = 0;
    memory_.reset(std::aligned_alloc(page, size));
    if (!memory_) throw std::bad_alloc();
    // Only advice: without it everything works, with more misses of the page tables' cache.
    if (page == kHugePage) madvise(memory_.get(), size, MADV_HUGEPAGE);
    size_ = size;
  }
  return memory_.get();
}

void CpuMarks::collect(std::span<double> seconds) {
  if (marks_.empty()) return;
  mark(marks_.back().part);
  for (std::size_t k = 0; k + 1 < marks_.size(); ++k) {
    seconds[static_cast<std::size_t>(marks_[k].part)] +=
        std::chrono::duration<double>(marks_[k + 1].time - marks_[k].time).count();
  }
  marks_.erase(marks_.begin(), marks_.end() - 1);
}

bool has_avx512() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has;
#else
  return false;
#endif
}

bool has_bf16_products() {
#if defined(__x86_64__)
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

Cpu::Cpu(Place place)
    : threads_(std::max(1, place.threads)),
      bf16_products_(place.bf16_products),
      team_(std::make_unique<ThreadTeam>(threads_)),
      per_thread_(static_cast<std::size_t>(threads_)) {}

std::string Cpu::name() const {
  return "cpu, " + std::to_string(threads_) + (threads_ == 1 ? " thread" : " threads");
}

Range even_part(std::int64_t count, int parts, int part, std::int64_t multiple) {
  const std::int64_t blocks = (count + multiple - 1) / multiple;
  const auto cut = [&](int k) { return std::min(count, blocks * k / parts * multiple); };
  return {cut(part), cut(part + 1)};
}

Range cost_part(const std::int64_t* offset, std::int64_t count, int parts, int part) {
  const auto cut = [&](int k) -> std::int64_t {
    if (k >= parts) return count;
    const std::int64_t target = offset[0] + (offset[count] - offset[0]) * k / parts;
    return std::lower_bound(offset, offset + count, target) - offset;
  };
  return {cut(part), cut(part + 1)};
}

}  // namespace moleblend
