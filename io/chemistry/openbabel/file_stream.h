#pragma once
// Molecules of a whole file, one Open Babel record after another.

#include <openbabel/obconversion.h>

#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "io/chemistry/openbabel/record.h"

namespace moleblend::chemistry {

class FileStream : public MoleculeStream {
 public:
  /// `number` counts records from 0.
  using ToMolecule = std::function<Molecule(Record&, std::uint64_t number)>;

  /// Throws Error if the file can't be opened or Open Babel does not read the format.
  FileStream(const std::string& path, std::string_view format, const ReadOptions& options, ToMolecule to_molecule);
  bool next(Molecule& out) override;

 private:
  bool at_end();

  std::string format_;
  ReadOptions options_;
  ToMolecule to_molecule_;
  std::ifstream file_;  // outlives the conversion that reads from it
  OpenBabel::OBConversion conversion_;
  std::uint64_t number_ = 0;
  bool ended_ = false;
};

}  // namespace moleblend::chemistry
