#pragma once
// Keyed orders: bijections that are computed, not stored, so that a billion molecules are shuffled without memory and any place of
// the order is reached at once.

#include <bit>
#include <cstdint>

#include "io/support/error.h"

namespace moleblend {

/// A bijection of [0, size) drawn by `key`: a Feistel network on the next power of two, walked until it lands inside.
class Permutation {
 public:
  Permutation(std::uint64_t size, std::uint64_t key)
      : size_(size),
        key_(mixed(key)),
        right_bits_((bits(size) + 1) / 2),
        left_mask_(mask(bits(size) / 2)),
        right_mask_(mask(right_bits_)) {}

  /// Throws Error unless position < size.
  std::uint64_t operator()(std::uint64_t position) const {
    if (position >= size_) throw Error("position {} of a permutation of {}; ask for a smaller one", position, size_);
    // A step of the walk stays on the cycle of `position`, which is in range: so it comes back into range, on average within two
    // steps, and two positions never meet.
    do {
      std::uint64_t left = position >> right_bits_, right = position & right_mask_;
      for (std::uint64_t round = 0; round < kRounds; round += 2) {
        left ^= mixed((key_ + round * kWeyl) ^ right) & left_mask_;
        right ^= mixed((key_ + (round + 1) * kWeyl) ^ left) & right_mask_;
      }
      position = left << right_bits_ | right;
    } while (position >= size_);
    return position;
  }

 private:
  // Luby and Rackoff: four rounds make a Feistel network with good round functions as good as random; two more for small halves.
  static constexpr std::uint64_t kRounds = 6;
  static constexpr std::uint64_t kWeyl = 0x9E3779B97F4A7C15u;  // 2⁶⁴ / golden ratio: the rounds' keys are far apart

  /// SplitMix64's finaliser: every bit of the result depends on every bit of z.
  static std::uint64_t mixed(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  static int bits(std::uint64_t size) { return size <= 1 ? 1 : static_cast<int>(std::bit_width(size - 1)); }
  static std::uint64_t mask(int count) { return (std::uint64_t{1} << count) - 1; }

  std::uint64_t size_, key_;
  int right_bits_;
  std::uint64_t left_mask_, right_mask_;
};

/// The order of one epoch over [0, size): shuffled, and kind to disks and memory. Places are cut into chunks of kChunk, the chunks
/// are permuted, and every kWindowChunks of them in this order are a window within which all places are permuted. So what is read at
/// one time lies in a bounded number of stretches. Up to kChunk · (2 · kWindowChunks − 1) places are one window: a permutation of all.
class EpochOrder {
 public:
  static constexpr std::uint64_t kChunk = 1024, kWindowChunks = 64;

  EpochOrder(std::uint64_t size, std::uint64_t key);

  /// The place at `position` < size of the order; O(1), and fastest within one window.
  std::uint64_t operator()(std::uint64_t position);

  std::uint64_t windows() const { return windows_; }
  std::uint64_t window_of(std::uint64_t position) const { return window_of_slot(slot_of(position)); }
  /// Calls f(first place, end place) for each chunk of a window.
  template <class F>
  void for_each_chunk(std::uint64_t window, F&& f) const {
    for (std::uint64_t slot = first_slot(window); slot < first_slot(window + 1); ++slot) {
      const std::uint64_t first = chunk_in(slot) * kChunk;
      f(first, first + slot_begin(slot + 1) - slot_begin(slot));
    }
  }

 private:
  // A slot is a chunk's turn in the order. The last chunk of all may be short; its slot is drawn like the others'.
  std::uint64_t slot_begin(std::uint64_t slot) const { return slot * kChunk - (slot > short_slot_ ? missing_ : 0); }
  std::uint64_t slot_of(std::uint64_t position) const {
    return (position < slot_begin(short_slot_ + 1) ? position : position + missing_) / kChunk;
  }
  std::uint64_t chunk_in(std::uint64_t slot) const {
    if (slot == short_slot_) return chunks_ - 1;
    return chunk_order_(slot - (slot > short_slot_ ? 1 : 0));
  }
  std::uint64_t first_slot(std::uint64_t window) const { return window * chunks_ / windows_; }
  std::uint64_t window_of_slot(std::uint64_t slot) const { return ((slot + 1) * windows_ - 1) / chunks_; }
  void enter_window(std::uint64_t position);

  std::uint64_t key_, chunks_, missing_, windows_;  // missing_: places that the last chunk lacks
  std::uint64_t short_slot_;
  Permutation chunk_order_;                      // of all chunks but the last
  std::uint64_t window_begin_ = 0, window_end_;  // positions of the window that in_window_ permutes
  Permutation in_window_;
};

}  // namespace moleblend
