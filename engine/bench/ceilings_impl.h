#pragma once
// The definitions behind ceilings.h.

#include "engine/bench/ceilings.h"
#include "engine/bench/timing.h"
#include "kernels/linear/products.h"
#include "kernels/random/philox.h"

namespace moleblend {

/// Bytes per second of copying half a gigabyte within the device's memory, read and written.
template <class Device>
double copy_rate(Device& device) {
  constexpr std::int64_t kCount = std::int64_t{1} << 27;
  typename Device::Block from_block, to_block;
  auto* from = static_cast<float*>(from_block.reserve(kCount * sizeof(float)));
  auto* to = static_cast<float*>(to_block.reserve(kCount * sizeof(float)));
  device.zero(from, kCount);
  const double seconds = seconds_of(
      0.3, [&] { device.copy(to, from, kCount); }, [&] { device.wait(); });
  return 2.0 * kCount * sizeof(float) / seconds;
}

/// Operations per second of a product of square matrices that fill a GPU.
template <class T>
double product_rate(Gpu& gpu) {
  constexpr std::int64_t kSide = 8192;
  GpuBlock a_block, b_block, c_block;
  auto* a = static_cast<T*>(a_block.reserve(kSide * kSide * sizeof(T)));
  auto* b = static_cast<T*>(b_block.reserve(kSide * kSide * sizeof(T)));
  auto* c = static_cast<T*>(c_block.reserve(kSide * kSide * sizeof(T)));
  // Values that toggle bits as real ones do: the clock of a GPU depends on what it multiplies, and zeros would flatter it.
  std::vector<T> values(kSide * kSide);
  for (std::size_t k = 0; k < values.size(); k += 4) {
    const PhiloxWords words = philox(1, static_cast<std::uint32_t>(k / 4), Draw::initial_value, 0);
    for (std::size_t w = 0; w < 4; ++w) values[k + w] = narrow<T>(2 * unit_float(words.word[w]) - 1);
  }
  gpu.upload(a, values.data(), kSide * kSide);
  gpu.upload(b, values.data(), kSide * kSide);
  const Product<T, T> p{.transpose_a = false,
                        .transpose_b = true,
                        .m = kSide,
                        .n = kSide,
                        .k = kSide,
                        .a = a,
                        .lda = kSide,
                        .b = b,
                        .ldb = kSide,
                        .beta = 0,
                        .c = c,
                        .ldc = kSide,
                        .bias = nullptr};
  const double seconds = seconds_of(
      0.3, [&] { product(gpu, p); }, [&] { gpu.wait(); });
  return 2.0 * kSide * kSide * kSide / seconds;
}

}  // namespace moleblend
