#include <limits>

#include "io/loader/loader.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {
// Keeps the split's draws apart from those of training, which use the same seed and small epochs.
constexpr std::uint64_t kSplitEpoch = 0x73706c6974ull;  // "split"
}  // namespace

Split random_split(std::uint64_t size, double valid_fraction, std::uint64_t seed) {
  if (!(valid_fraction >= 0 && valid_fraction <= 1))
    throw UsageError("a validation fraction of {} is impossible; choose one from 0 to 1", valid_fraction);
  Split split;
  std::uint64_t lowest = std::numeric_limits<std::uint64_t>::max(), highest = 0;
  std::size_t lowest_place = 0, highest_place = 0;
  for (std::uint64_t i = 0; i < size; ++i) {
    const std::uint64_t hash = molecule_key(seed, kSplitEpoch, i);
    // 53 bits, exact in double, so that 0 takes none and 1 takes all.
    const bool valid = static_cast<double>(hash >> 11) * 0x1p-53 < valid_fraction;
    Subset& part = valid ? split.valid : split.train;
    if (!valid && hash <= lowest) lowest = hash, lowest_place = part.size();
    if (valid && hash >= highest) highest = hash, highest_place = part.size();
    part.push_back(i);
  }
  // Small sets: neither part may be empty. The molecule nearest to the other side goes over.
  if (size >= 2 && valid_fraction > 0 && valid_fraction < 1) {
    const auto move = [](Subset& from, std::size_t place, Subset& to) {
      to.push_back(from[place]);
      from.erase(from.begin() + static_cast<std::ptrdiff_t>(place));
    };
    if (split.valid.empty()) move(split.train, lowest_place, split.valid);
    if (split.train.empty()) move(split.valid, highest_place, split.train);
  }
  return split;
}

}  // namespace moleblend
