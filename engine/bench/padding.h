#pragma once
// Packed arrays and their padded form, which other libraries' attention takes: host memory, for checks and measurements.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/common/packed.h"

namespace moleblend {

/// Where the values of a packed array lie in one that is padded to S tokens a molecule.
class Padding {
 public:
  /// [T, width] in [B, S, width]. `packed` has its offsets in host memory; no molecule has more than S tokens.
  static Padding of_rows(const Packed& packed, std::int64_t s, std::int64_t width) {
    Padding p(packed.tokens() * width, packed.molecules * s * width);
    for (std::int64_t b = 0; b < packed.molecules; ++b)
      p.runs_.push_back({packed.token_offset(b) * width, b * s * width, (packed.atoms_of(b) + 1) * width});
    return p;
  }
  /// Per molecule [H, n + 1, n + 1] in [B, H, S, S].
  static Padding of_squares(const Packed& packed, std::int64_t s, std::int64_t heads) {
    Padding p(heads * packed.token_pairs(), packed.molecules * heads * s * s);
    for (std::int64_t b = 0; b < packed.molecules; ++b) {
      const std::int64_t n = packed.atoms_of(b) + 1;
      for (std::int64_t h = 0; h < heads; ++h)
        for (std::int64_t i = 0; i < n; ++i) {
          p.runs_.push_back({heads * packed.token_pair_offset[b] + (h * n + i) * n, ((b * heads + h) * s + i) * s, n});
        }
    }
    return p;
  }

  std::int64_t packed_count() const { return packed_count_; }
  std::int64_t padded_count() const { return padded_count_; }

  /// Zero where no molecule has a token.
  template <class T>
  std::vector<T> pad(const std::vector<T>& packed) const {
    std::vector<T> padded(static_cast<std::size_t>(padded_count_));
    for (const Run& run : runs_) std::copy_n(packed.begin() + run.packed, run.count, padded.begin() + run.padded);
    return padded;
  }
  template <class T>
  std::vector<T> unpad(const std::vector<T>& padded) const {
    std::vector<T> packed(static_cast<std::size_t>(packed_count_));
    for (const Run& run : runs_) std::copy_n(padded.begin() + run.padded, run.count, packed.begin() + run.packed);
    return packed;
  }

 private:
  struct Run {  // neighbours in both
    std::int64_t packed, padded, count;
  };

  Padding(std::int64_t packed_count, std::int64_t padded_count)
      : packed_count_(packed_count), padded_count_(padded_count) {}

  std::int64_t packed_count_, padded_count_;
  std::vector<Run> runs_;
};

}  // namespace moleblend
