#pragma once
// The loader: records of a data set → packed batches with relations.

#include <filesystem>
#include <string>

#include "engine/bench/molecules.h"
#include "engine/bench/row.h"
#include "io/loader/batch.h"

namespace moleblend {

struct LoaderBenchOptions {
  MadeUpSizes size = kSmallMolecules;
  std::uint64_t molecules = 1 << 16;  // of a made-up data set in the folder for temporary files; removed afterwards
  std::filesystem::path data = {};    // this data set in place of a made-up one; rows are then called "loader.data"
  std::int64_t batch_size = 1024;
  int threads = 1;     // a second row "loader.<size>.<threads>_threads" for more than one
  double seconds = 2;  // of a measurement, about
  bool quiet = false;  // no progress line
};

/// Row "loader.<size>": molecules/s of one loader thread, the median of nine repetitions. The share of the floor is the time that a
/// copy of the same records and batches takes, over the time taken. Correct: one epoch holds every molecule exactly once, and
/// fault_in() finds nothing in a sample of them. Throws Error for a data set that can't be read or a full disk.
void bench_loader(const LoaderBenchOptions& options, const BenchSink& sink);

/// What is wrong with molecule b of a batch that should hold `molecule` with its first conformer; empty if nothing is. Relations are
/// compared with a Floyd–Warshall written from METHOD section 2, everything else with the molecule.
std::string fault_in(const Batch& batch, std::size_t b, const Molecule& molecule);

}  // namespace moleblend
