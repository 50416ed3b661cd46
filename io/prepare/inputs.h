#pragma once
// What is read: which files, how each is cut into records, and what reader processes do with them.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/chemistry/chemistry.h"
#include "io/dataset/dataset.h"
#include "io/prepare/record.h"

namespace moleblend {

/// Molecule files, and how they become molecules.
struct InputOptions {
  std::vector<std::filesystem::path> inputs;
  std::vector<std::pair<std::filesystem::path, std::filesystem::path>>
      pairs;           // table and SDF that belong together; after the inputs
  std::string format;  // of the inputs; empty: by each file's ending
  ColumnNames columns;
  ReadOptions read;
  std::uint64_t seed = 1;          // of the conformers
  std::uint32_t max_atoms = 0;     // 0: no bound
  int workers = 0;                 // 0: as many as cores
  double timeout = 30;             // seconds a record
  std::uint64_t memory_mb = 2048;  // a reader process
};

/// Throws UsageError naming the flag.
void check_inputs(const InputOptions& options, Chemistry& chemistry);

struct Input {
  std::filesystem::path path, sdf;  // sdf: of a pair, else empty
  std::string format;
  std::uint32_t file = 0;  // index of `path` in Inputs::files; a pair's SDF is the one after it

  bool is_whole_file() const { return splitter_of(format) == Splitter::whole_file; }
  std::unique_ptr<RecordSource> open(const ColumnNames& columns) const;
};

struct Inputs {
  std::vector<Input> list;
  std::vector<SourceFile> files;  // records: filled by the run
  std::uint64_t bytes = 0;        // of all files
};

enum class Checksums { leave, take };

/// Finds the files, chooses how each is read, opens each once so that a wrong column or path fails before anything is written, and
/// on demand takes the checksums, for which each is read from end to end. Throws UsageError or Error.
Inputs find_inputs(const InputOptions& options, Chemistry& chemistry, Checksums checksums);

}  // namespace moleblend
