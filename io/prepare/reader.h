#pragma once
// From a record to the molecule of the data set: chemistry, and what the record knows besides its text.

#include <cstdint>
#include <string>
#include <vector>

#include "io/chemistry/chemistry.h"
#include "io/prepare/record.h"

namespace moleblend {

struct ReaderOptions {
  ReadOptions read;
  std::uint64_t seed = 1;
  std::uint32_t max_atoms = 0;          // larger molecules are refused; 0: no bound
  std::vector<std::string> file_names;  // of the source files, for the identifiers of records without a name
  std::size_t label_count = 0;
};

/// Reads one record. Throws Rejected. The seed of its conformers is a function of (options.seed, record.text).
Molecule read_record(Chemistry& chemistry, const Record& record, const ReaderOptions& options);

/// Fills what a molecule of a whole-file stream lacks. Throws Rejected.
void complete_molecule(Molecule& molecule, std::uint32_t file, std::uint64_t number, const ReaderOptions& options);

/// What a record without a name is called: the file's name and its number.
std::string record_name(const std::string& file, std::uint64_t number);

/// The seed of a text: FNV-1a 64 of it, mixed with `seed` by the finaliser of SplitMix64.
std::uint64_t text_seed(std::uint64_t seed, std::string_view text);

}  // namespace moleblend
