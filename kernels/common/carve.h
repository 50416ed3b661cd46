#pragma once
// One block of scratch memory cut into typed arrays.

#include <cstddef>
#include <cstdint>

namespace moleblend {

/// Hands out consecutive 64-byte aligned pieces of a block. Without memory it only counts, so that the same function lays out the
/// pieces and says beforehand how many bytes they need.
class Carver {
 public:
  Carver() = default;
  explicit Carver(void* memory) : memory_(static_cast<std::byte*>(memory)) {}

  template <class T>
  T* take(std::int64_t count) {
    T* piece = memory_ ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return piece;
  }
  std::size_t bytes() const { return used_; }

 private:
  std::byte* memory_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace moleblend
