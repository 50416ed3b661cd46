#pragma once
// Molecules one after another, wherever they come from: molecule files, read by isolated reader processes, or a data set. For whatever
// uses molecules and keeps no data set of them. Memory does not grow with their number.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/dataset/molecule.h"
#include "io/prepare/inputs.h"

namespace moleblend {

/// A record of the source and what became of it.
struct SourcedMolecule {
  std::uint64_t number = 0;  // in the source, from 0
  bool kept = false;
  Molecule molecule;  // of a refused record only its identifier (never empty), SMILES (as far as it is known) and place
  std::string reason;  // of refusal, on one line; empty if kept
};

class MoleculeSource {
 public:
  /// How far it is, for a progress line.
  struct Progress {
    std::uint64_t done = 0, total = 0;
    const char* unit = "";
  };

  virtual ~MoleculeSource() = default;
  /// The next record in the order of the source, refused ones included; waits for it. False at the end. One thread at a time. Throws
  /// Error where the source as a whole fails, Interrupted if it is asked to stop.
  virtual bool next(SourcedMolecule& out) = 0;
  virtual Progress progress() const = 0;
  /// At the end: what a person should know of the source and no record says.
  virtual std::vector<std::string> remarks() const { return {}; }
};

/// Reads molecule files: the molecules, identifiers and refusals that prepare() would give, in its order. Chemistry is done by reader
/// processes under a coordinator process, which is forked here and reads ahead as far as bounded buffers allow. So the caller must have
/// one thread only until this returns, and as many as it likes from then on; and it must be called before a GPU is used. The processes
/// end with the object, and with the thread that called this.
///   `stopped`  asked now and then while next() waits; a number other than 0 (a signal's) makes it throw Interrupted
/// Throws UsageError and Error for options and files as prepare() does, before any process is started.
std::unique_ptr<MoleculeSource> open_molecule_files(const InputOptions& options, Chemistry& chemistry,
                                                    std::function<int()> stopped = nullptr);

/// The molecules of a data set folder. Throws Error as Dataset::open does, and where a record is damaged.
std::unique_ptr<MoleculeSource> open_molecule_dataset(const std::filesystem::path& folder);

}  // namespace moleblend
