#pragma once
// `moleblend prepare` against what Open Babel alone can do.

#include <cstdint>
#include <filesystem>

#include "engine/bench/molecules.h"
#include "engine/bench/row.h"

namespace moleblend {

struct PrepareBenchOptions {
  MadeUpSizes size = kSmallMolecules;
  std::uint64_t molecules =
      40'000;  // of the made-up files, which lie in the folder for temporary files; removed afterwards
  std::filesystem::path sdf = {};  // this SDF in place of a made-up one; its content is then not checked
  int workers = 2;
  bool smiles = true;  // a row "prepare.smiles" too
  bool quiet = false;  // no progress line
};

/// Row "prepare.sdf": records/s of `prepare` from an SDF with positions and explicit hydrogens. The share of the floor is that rate
/// over `workers` times what one process streams that only reads the file with Open Babel: the middle one of three runs each, taken in
/// turns. Correct: kept and rejected records are as many as there are in the file, none of the made-up ones is rejected, and each has
/// the atoms, bonds and positions that were written. Throws Error without Open Babel, or if files can't be written. The caller must
/// have no other threads: it forks.
void bench_prepare(const PrepareBenchOptions& options, const BenchSink& sink);

}  // namespace moleblend
