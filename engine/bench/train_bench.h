#pragma once
// The whole training step.

#include "engine/bench/bench_size.h"

namespace moleblend {

/// Operations of products (two a multiply-add) that a pretraining step of the default blend can't do without: forward, and both gradients of
/// each. Nothing that is computed again counts.
double step_flop(const ModelConfig& config, const Packed& packed);

/// Rows "train.<model>.<precision>.<size>" (molecules/s; share of the floor: MFU against the middle one of product ceilings measured before, in
/// between and after) and, on the CPU, "train.<model>.memory.<size>.b<batch>" (MiB, the process' peak). A step is forward, losses, backward,
/// clipping and Adam with all dropouts on, on batches that are packed beforehand. Correct: losses and gradient of a few molecules agree with
/// the network in double on the CPU, and all losses were finite.
void bench_training(const NetworkBenchOptions& options, const BenchSink& sink);

}  // namespace moleblend
