#include "io/loader/permutation.h"

#include <algorithm>

#include "kernels/random/philox.h"

namespace moleblend {
namespace {
// What a key derived from an epoch's key is for; windows count from 0.
constexpr std::uint64_t kChunkOrder = ~std::uint64_t{0}, kShortSlot = kChunkOrder - 1;
}  // namespace

EpochOrder::EpochOrder(std::uint64_t size, std::uint64_t key)
    : key_(key),
      chunks_(std::max<std::uint64_t>(1, (size + kChunk - 1) / kChunk)),
      missing_(chunks_ * kChunk - size),
      windows_(std::max<std::uint64_t>(1, chunks_ / kWindowChunks)),
      short_slot_(molecule_key(key, kShortSlot, 0) % chunks_),
      chunk_order_(chunks_ - 1, molecule_key(key, kChunkOrder, 0)),
      window_end_(windows_ == 1 ? size : 0),
      in_window_(window_end_, molecule_key(key, 0, 0)) {}

void EpochOrder::enter_window(std::uint64_t position) {
  const std::uint64_t window = window_of(position);
  window_begin_ = slot_begin(first_slot(window));
  window_end_ = slot_begin(first_slot(window + 1));
  in_window_ = Permutation(window_end_ - window_begin_, molecule_key(key_, window, 0));
}

std::uint64_t EpochOrder::operator()(std::uint64_t position) {
  if (windows_ == 1) return in_window_(position);
  if (position < window_begin_ || position >= window_end_) enter_window(position);
  const std::uint64_t at = window_begin_ + in_window_(position - window_begin_), slot = slot_of(at);
  return chunk_in(slot) * kChunk + at - slot_begin(slot);
}

}  // namespace moleblend
