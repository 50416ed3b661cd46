#include "engine/property/make_parts.h"

#include "io/support/error.h"

namespace moleblend {

Parts make_parts(const Dataset& data, const SplitChoice& choice, int threads) {
  const bool given = !choice.file.empty() || !choice.column.empty();
  if (given && choice.rule != "given")
    throw UsageError("--split-file and --split-column are of --split given, and this is --split {}", choice.rule);
  const Fractions fractions{choice.fractions[0], choice.fractions[1], choice.fractions[2]};
  if (choice.rule == "random") {
    if (choice.counts.empty()) return random_parts(data.size(), fractions, choice.seed);
    if (choice.counts[0] + choice.counts[1] >= data.size())
      throw UsageError(
          "--split-counts asks for {} molecules to train and {} to validate, and the data set has {}; lower them, or "
          "give "
          "--fractions 0.8,0.1,0.1",
          choice.counts[0], choice.counts[1], data.size());
    return counted_parts(data.size(), choice.counts[0], choice.counts[1], choice.seed);
  }
  if (!choice.counts.empty())
    throw UsageError("--split-counts is of --split random, and this is --split {}", choice.rule);
  if (choice.rule == "scaffold") return largest_first_scaffold_parts(scaffold_groups(data, threads), fractions);
  if (choice.rule == "scaffold-balanced")
    return balanced_scaffold_parts(scaffold_groups(data, threads), fractions, choice.seed);
  if (choice.rule != "given")
    throw UsageError("--split can't be '{}'; choose random, scaffold, scaffold-balanced or given", choice.rule);
  if (choice.file.empty() == choice.column.empty())
    throw UsageError("--split given needs --split-file FILE or --split-column NAME, and not both");
  return choice.column.empty() ? parts_from_file(data, choice.file) : parts_from_label(data, choice.column);
}

}  // namespace moleblend
