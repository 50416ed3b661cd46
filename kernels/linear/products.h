#pragma once
// Matrix products on the GPU behind the linear maps: cuBLASLt on a device, a plain product in the executor of the tests.

#include <cstdint>
#include <stdexcept>

#include "kernels/common/gpu.h"
#include "kernels/common/precision.h"

namespace moleblend {

/// C [m, n] = op(A) [m, k] · op(B) [k, n] + beta · C, + bias [n] on every row if it is not null. Row-major with leading dimensions; op
/// transposes where the flag is set. m, n, k > 0. Sums are in float; Out is In, or float for sums over bf16 products (gradients of
/// weights). With beta 0 the former C is not read. A bias begins at a multiple of 16 bytes.
template <class In, class Out>
struct Product {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  const In* a;
  std::int64_t lda;
  const In* b;
  std::int64_t ldb;
  float beta;
  Out* c;
  std::int64_t ldc;
  const In* bias;  // only where Out is In

  /// Throws std::logic_error where what is said above does not hold.
  void require_valid() const {
    const bool shape =
        m > 0 && n > 0 && k > 0 && lda >= (transpose_a ? m : k) && ldb >= (transpose_b ? k : n) && ldc >= n;
    if (!shape || reinterpret_cast<std::uintptr_t>(bias) % 16 != 0 || (bias && sizeof(In) != sizeof(Out)))
      throw std::logic_error("matrix product: empty, or leading dimensions too short, or its bias is not on 16 bytes");
  }
};

/// Queued on the device's stream. The same product gives the same bits in every run on the same kind of GPU and version of cuBLASLt.
/// Throws GpuError where the library has no way to do it, GpuOutOfMemory where there is no room for its workspace (at the first call).
template <class In, class Out>
void product(Gpu& gpu, const Product<In, Out>& p);

}  // namespace moleblend
