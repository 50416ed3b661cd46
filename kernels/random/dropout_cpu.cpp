#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/common/wide.h"
#include "kernels/random/philox.h"
#include "kernels/random/philox_blocks.h"

namespace moleblend {
namespace {

struct Choose {
  template <class T>
  [[gnu::always_inline]] static void run(int count, const std::uint16_t* __restrict lane, std::uint32_t threshold,
                                         T scale, T* __restrict out) {
    for (int k = 0; k < count; ++k) out[k] = std::uint32_t{lane[k]} >= threshold ? scale : T(0);
  }
};

}  // namespace

template <class T>
void dropout_factors(std::uint64_t key, Draw purpose, std::uint32_t layer, std::uint64_t first, std::int64_t count,
                     Dropout dropout, T* out) {
  if (!dropout.active()) {
    std::fill_n(out, count, T(1));
    return;
  }
  // A block's words hold its eight lanes in order, low half first: in memory that is an array of 16-bit lanes.
  static_assert(std::endian::native == std::endian::little);
  constexpr int kLanes = 8 * kPhiloxRun;
  const T scale = static_cast<T>(dropout.scale);
  // Lanes are compared as 32-bit numbers: the threshold 65536 (p next to 1) has no 16-bit form.
  const std::uint32_t threshold = dropout.threshold;
  std::uint32_t words[4 * kPhiloxRun];
  std::uint16_t lane[kLanes];
  for (std::int64_t done = 0; done < count; done += kLanes) {
    philox_run(key, static_cast<std::uint32_t>((first + static_cast<std::uint64_t>(done)) / 8), purpose, layer, words);
    std::memcpy(lane, words, sizeof lane);
    const int here = static_cast<int>(std::min<std::int64_t>(kLanes, count - done));
    run_wide<Choose>(here, static_cast<const std::uint16_t*>(lane), threshold, scale, out + done);
  }
}

template void dropout_factors(std::uint64_t, Draw, std::uint32_t, std::uint64_t, std::int64_t, Dropout, float*);
template void dropout_factors(std::uint64_t, Draw, std::uint32_t, std::uint64_t, std::int64_t, Dropout, double*);

}  // namespace moleblend
