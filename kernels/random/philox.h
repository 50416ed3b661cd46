#pragma once
// Counter-based random numbers: every draw is a pure function of (molecule key, what it is for, which element), so that it
// does not depend on batch composition, on the number of ranks or on the device, and can be drawn again instead of stored.
//
// Philox-4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

#include <cstdint>

#include "kernels/common/precision.h"

namespace moleblend {

/// What a draw is for. Numbers are part of the reproducibility promise: never renumber.
enum class Draw : std::uint32_t {
  pair_modality = 1,
  atom_modality = 2,
  noise = 3,
  attention_dropout = 4,
  activation_dropout = 5,
  hidden_dropout = 6,
  drop_path = 7,
  denoise_dropout = 8,
  conformer = 9,
  head_dropout = 10,
  initial_value = 11,
  bootstrap = 12,
};

struct PhiloxWords {
  std::uint32_t word[4];
};

/// Four random words of counter (block, purpose, layer, 0) under `key`.
MOLEBLEND_HD inline PhiloxWords philox(std::uint64_t key, std::uint32_t block, Draw purpose, std::uint32_t layer) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  std::uint32_t c0 = block, c1 = static_cast<std::uint32_t>(purpose), c2 = layer, c3 = 0;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0, p1 = std::uint64_t{0xCD9E8D57u} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// The key of one molecule in one epoch; kernels see only this. A full-avalanche mix (SplitMix64 finaliser after each word).
MOLEBLEND_HD inline std::uint64_t molecule_key(std::uint64_t seed, std::uint64_t epoch, std::uint64_t molecule) {
  const auto mix = [](std::uint64_t z) {
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  };
  return mix(mix(mix(seed) ^ epoch) ^ molecule);
}

/// Uniform in [0, 1) with 24 bits, exact in float.
MOLEBLEND_HD inline float unit_float(std::uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

/// Dropout with 16-bit draws. `threshold` = round(65536 · p): an element is dropped when its 16-bit lane is below it, and kept
/// values are scaled by the exact inverse of what is then kept, so that the expectation is unbiased for every p.
struct Dropout {
  std::uint32_t threshold = 0;
  double scale = 1;

  MOLEBLEND_HD bool active() const { return threshold != 0; }
  /// 0 <= probability < 1.
  MOLEBLEND_HD static Dropout of(double probability) {
    const auto t = static_cast<std::uint32_t>(probability * 65536 + 0.5);
    return {t, 65536.0 / (65536.0 - t)};
  }
  /// Lane of element e: word (e / 2) % 4 of block e / 8, low half first.
  MOLEBLEND_HD bool keeps(const PhiloxWords& w, unsigned element) const {
    return ((w.word[(element / 2) % 4] >> (16 * (element % 2))) & 0xFFFFu) >= threshold;
  }
};

/// out[k] = dropout factor (0 or scale) of element first + k of (key, purpose, layer), k in [0, count). `first` is a multiple
/// of 8 and first + count < 2³⁵. Elements of attention probabilities: (h · (n+1) + i) · round_up(n+1, 8) + j; of activations:
/// token-in-molecule · F + feature; of drop-path: 0.
template <class T>
void dropout_factors(std::uint64_t key, Draw purpose, std::uint32_t layer, std::uint64_t first, std::int64_t count,
                     Dropout dropout, T* out);

}  // namespace moleblend
