#include <bit>

#include "io/loader/loader.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {
// Luby and Rackoff: four rounds make a Feistel network with good round functions as good as random; two more for small
// halves.
constexpr std::uint64_t kRounds = 6;
}  // namespace

Permutation::Permutation(std::uint64_t size, std::uint64_t key)
    : size_(size), key_(key), half_bits_(size <= 1 ? 1 : (std::bit_width(size - 1) + 1) / 2) {}

std::uint64_t Permutation::operator()(std::uint64_t position) const {
  if (position >= size_) throw Error("position {} of a permutation of {}; ask for a smaller one", position, size_);
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  // A step of the walk stays on the cycle of `position`, which is in range: so it comes back into range, on average
  // within four steps, and two positions never meet.
  do {
    std::uint64_t left = position >> half_bits_, right = position & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const std::uint64_t mixed = left ^ (molecule_key(key_, round, right) & mask);
      left = right;
      right = mixed;
    }
    position = left << half_bits_ | right;
  } while (position >= size_);
  return position;
}

}  // namespace moleblend
