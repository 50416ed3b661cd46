#pragma once
// The inputs of a run: which files, how each is read, their checksums.

#include <memory>
#include <string>
#include <vector>

#include "io/chemistry/chemistry.h"
#include "io/dataset/dataset.h"
#include "io/prepare/prepare.h"
#include "io/prepare/record.h"

namespace moleblend {

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

/// Finds the files, chooses how each is read, opens each once so that a wrong column or path fails before anything is written, and
/// takes the checksums. Throws UsageError or Error.
Inputs find_inputs(const PrepareOptions& options, Chemistry& chemistry);

}  // namespace moleblend
