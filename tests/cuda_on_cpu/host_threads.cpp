#include "host_threads.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "sanitizers.h"

namespace cuda_on_cpu {

unsigned host_threads(std::uint64_t blocks, std::uint64_t threads_of_block) {
  constexpr std::uint64_t kWorthAThread =
      4096;  // CUDA threads; starting host threads for fewer takes longer than running them
  // Of two host threads ThreadSanitizer would miss races: locks of the C++ library would order them.
  if (under_tsan() || blocks * threads_of_block < kWorthAThread) return 1;
  const char* wanted = std::getenv("CUDA_ON_CPU_WORKERS");
  const unsigned count = wanted ? static_cast<unsigned>(std::atoi(wanted)) : std::thread::hardware_concurrency();
  return static_cast<unsigned>(std::clamp<std::uint64_t>(count, 1, blocks));
}

}  // namespace cuda_on_cpu
