#pragma once
// Training, validation and test parts of a labelled data set: the rules that the field compares models by.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/dataset/dataset.h"
#include "io/loader/subset.h"

namespace moleblend {

/// Three parts without a common molecule, none of them empty, each ascending.
struct Parts {
  Subset train, valid, test;
  std::string rule;          // what made them, in words: the rule, its numbers and its seed
  std::uint64_t unused = 0;  // molecules of the data set in none of them
};

/// Names the parts: of each the data set and the members. Equal exactly for equal parts of equal data sets.
struct PartsFingerprint {
  std::string train, valid, test;
  std::string all;  // of the three
};
PartsFingerprint fingerprint(const Dataset& data, const Parts& parts);

/// Shares of the molecules. They must add up to 1 (to within 1e-9), each greater than 0.
struct Fractions {
  double train = 0.8, valid = 0.1, test = 0.1;
};

// All rules throw UsageError if the fractions are no such shares, and if a part would be empty.

/// Molecules in a random order by `seed`: the first round(train · size) are for training, those up to round((train + valid) · size) for
/// validation.
Parts random_parts(std::uint64_t size, const Fractions& fractions, std::uint64_t seed);

/// Molecules in a random order by `seed`: the first `train`, the next `valid`, and all others for the test (QM9's rule).
Parts counted_parts(std::uint64_t size, std::uint64_t train, std::uint64_t valid, std::uint64_t seed);

/// Which molecules have the same scaffold (io/graph/scaffold.h). All acyclic ones are a group.
struct ScaffoldGroups {
  std::vector<std::uint32_t> group;  // [size] numbered by first appearance
  std::uint32_t count = 0;
};

/// Of all molecules of a data set, read by `threads` >= 1 threads. Takes 20 bytes a molecule and some 50 a scaffold while it runs, 4 a molecule after. The result does not
/// depend on the number of threads.
ScaffoldGroups scaffold_groups(const Dataset& data, int threads);

/// Scaffold groups in a random order by `seed`, in chemprop's form: groups that are larger than half of the wanted validation part or half
/// of the wanted test part (in a random order of their own) come before all others. Each goes as a whole to training if it has room for it
/// (its molecules would then be at most train · size), else to validation if that has room, else to the test.
Parts balanced_scaffold_parts(const ScaffoldGroups& groups, const Fractions& fractions, std::uint64_t seed);

/// Scaffold groups from the largest to the smallest, as in DeepChem and in the splits of GraphMVP and its kin: of groups of one size, the
/// one whose first molecule comes later in the data set is first. Each goes as a whole to training unless training would then have more
/// than train · size molecules; else to validation unless both together would have more than (train + valid) · size; else to the test.
/// Nothing is random. A part that is full still takes a later, smaller group that fits.
Parts largest_first_scaffold_parts(const ScaffoldGroups& groups, const Fractions& fractions);

/// As a CSV (or TSV) file says: columns `identifier` (as in the data set) or `index` (from 0), and `part` with train, valid or test. If it
/// has both columns, index counts. Molecules that it does not name are in no part. Error, with file and line, for another part, an index
/// or identifier that is not in the data set, one that is there twice in the file, or identifiers that several molecules of the data
/// set share.
Parts parts_from_file(const Dataset& data, const std::filesystem::path& file);

/// As a label column says: 0 is training, 1 validation, 2 test; molecules whose label is missing are in no part. Throws UsageError if there
/// is no such column, Error for other values.
Parts parts_from_label(const Dataset& data, std::string_view column);

}  // namespace moleblend
