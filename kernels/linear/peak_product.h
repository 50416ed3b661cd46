#pragma once
// How fast this machine multiplies matrices at best: what the linear maps are measured against.

#include <cstdint>

#include "kernels/common/cpu.h"

namespace moleblend {

/// Operations per second, two a multiply-add, of y [rows, out] = x [rows, in] · W by oneDNN, on all threads, W laid out as the library likes
/// it best: the best of several rounds over `seconds`. 0 where the library has no such product on this CPU (bf16 needs AVX-512).
double peak_product_rate(Cpu& cpu, std::int64_t rows, std::int64_t in, std::int64_t out, bool bf16, double seconds);

}  // namespace moleblend
