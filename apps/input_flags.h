#pragma once
// The flags that say which molecules are read and how, the same for every verb that reads molecule files.

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "io/prepare/inputs.h"

namespace moleblend {

struct InputFlags {
  std::vector<std::string> inputs, pairs;
  std::string engine = "openbabel";
  bool no_fallback = false, no_positions = false;

  /// Completes `options`, whose other fields the flags have filled. Throws UsageError.
  void resolve(InputOptions& options) const;
  bool given() const { return !inputs.empty() || !pairs.empty(); }
};

/// Adds --input, --pair and --format, and the groups Columns, Molecules and Readers. Flags write into both, which must live as long as
/// the verb.
void add_input_flags(CLI::App& verb, InputFlags& flags, InputOptions& options);

}  // namespace moleblend
