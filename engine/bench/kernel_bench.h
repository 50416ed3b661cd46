#pragma once
// Each operation of a training step: time, rates, share of what the machine can do, and whether its results are right.

#include "engine/bench/bench_size.h"
#include "engine/bench/kernel_cases.h"

namespace moleblend {

/// How far an operation's results are from the truth.
struct KernelError {
  double worst =
      0;  // of all its arrays: root mean square of the difference over that of the truth; NaN if anything is NaN
  std::string array;  // that one
};
/// Clears what either writes, runs each once and compares.
KernelError compare(const KernelCase& found, const KernelCase& truth);
/// What `worst` may be. fp32: sums of a few thousand products, each rounded once, and Gaussians of distances that are rounded too. bf16: results
/// are rounded to 8 bits (0.2 %), as are one or two arrays inside the operation.
double kernel_tolerance(std::string_view precision);

/// A row an operation, "kernels.<model>.<precision>.<size>.<operation>", in GFLOP/s where it is made of products, else in GB/s. The share of
/// the floor is the time that its arithmetic or its bytes, whichever takes longer, would take at the ceilings. Correct: every array that it
/// writes agrees with the same operation in double on the CPU, on a few molecules. A library's operation that is not to be had gives a row that
/// says why, in `missing`.
void bench_kernels(const NetworkBenchOptions& options, const BenchSink& sink);

}  // namespace moleblend
