#pragma once
// Loops over elements for the widest vectors of the processor at hand, in a program that is compiled for older ones.

#include "kernels/common/cpu.h"

#if defined(__x86_64__)
#if defined(__clang__)
#define MOLEBLEND_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]]
#else
// Without the last word g++ keeps to vectors of half the width.
#define MOLEBLEND_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")]]
#endif
#else
#define MOLEBLEND_AVX512
#endif

namespace moleblend {

template <class Body, class... Arguments>
MOLEBLEND_AVX512 void run_for_avx512(Arguments... arguments) {
  Body::run(arguments...);
}

/// Body::run(arguments...), compiled once more for AVX-512 and called so where has_avx512(). Body::run is to be always inlined ([[gnu::always_inline]]):
/// only what is inlined is compiled for the caller's processor. An element's arithmetic is the same in both.
template <class Body, class... Arguments>
void run_wide(Arguments... arguments) {
  if (has_avx512()) return run_for_avx512<Body>(arguments...);
  Body::run(arguments...);
}

}  // namespace moleblend
