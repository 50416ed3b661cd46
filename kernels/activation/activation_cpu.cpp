#include <algorithm>
#include <stdexcept>

#include "kernels/activation/activation.h"
#include "kernels/common/wide.h"

namespace moleblend {
namespace {

constexpr std::int64_t kBlock =
    512;  // elements at a time, in a buffer on the stack; a multiple of a Philox block's 8 lanes

/// Calls block(first element, elements, factors) for pieces of [0, rows · features): factors[k] is the dropout factor of an element,
/// to be overwritten with the result (a buffer of its own, since in- and output may be the same memory).
template <class T, class Block>
void for_each_block(Cpu& cpu, const Packed& packed, std::int64_t rows, std::int64_t features, Dropout dropout,
                    std::uint32_t layer, const std::uint64_t* molecule_key, const Block& block) {
  cpu.parallel([&](int thread) {
    T factor[kBlock];
    if (!dropout.active()) {
      const auto [begin, end] = even_part(rows * features, cpu.threads(), thread, kBlock);
      for (std::int64_t first = begin; first < end; first += kBlock) {
        const std::int64_t count = std::min(kBlock, end - first);
        std::fill_n(factor, count, T(1));
        block(first, count, factor);
      }
      return;
    }
    // A molecule's tokens are one run of elements, in memory as in the numbering of the draws.
    const auto [begin, end] = cost_part(packed.atom_offset, packed.molecules, cpu.threads(), thread);
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t start = packed.token_offset(b) * features, size = (packed.atoms_of(b) + 1) * features;
      for (std::int64_t done = 0; done < size; done += kBlock) {
        const std::int64_t count = std::min(kBlock, size - done);
        dropout_factors(molecule_key[b], Draw::activation_dropout, layer, static_cast<std::uint64_t>(done), count,
                        dropout, factor);
        block(start + done, count, factor);
      }
    }
  });
}

struct TimesGelu {
  template <class T>
  [[gnu::always_inline]] static void run(std::int64_t count, const T* __restrict x, T* __restrict factor) {
    for (std::int64_t k = 0; k < count; ++k) factor[k] *= gelu(x[k]);
  }
};
struct TimesGeluGradient {
  template <class T>
  [[gnu::always_inline]] static void run(std::int64_t count, const T* __restrict x, const T* __restrict dy,
                                         T* __restrict factor) {
    for (std::int64_t k = 0; k < count; ++k) factor[k] *= dy[k] * gelu_derivative(x[k]);
  }
};

}  // namespace

template <class T>
void gelu_forward(Cpu& cpu, const GeluForward<T>& a) {
  for_each_block<T>(cpu, a.packed, a.rows, a.features, a.dropout, a.layer, a.molecule_key,
                    [&](std::int64_t first, std::int64_t count, T* factor) {
                      run_wide<TimesGelu>(count, a.x + first, factor);
                      std::copy_n(factor, count, a.y + first);
                    });
}

template <class T>
void gelu_backward(Cpu& cpu, const GeluBackward<T>& a) {
  if (a.dx_sum) throw std::invalid_argument("gelu on the CPU does not sum its gradient");
  for_each_block<T>(cpu, a.packed, a.rows, a.features, a.dropout, a.layer, a.molecule_key,
                    [&](std::int64_t first, std::int64_t count, T* factor) {
                      run_wide<TimesGeluGradient>(count, a.x + first, a.dy + first, factor);
                      std::copy_n(factor, count, a.dx + first);
                    });
}

template void gelu_forward(Cpu&, const GeluForward<float>&);
template void gelu_forward(Cpu&, const GeluForward<double>&);
template void gelu_backward(Cpu&, const GeluBackward<float>&);
template void gelu_backward(Cpu&, const GeluBackward<double>&);

}  // namespace moleblend
