#pragma once
// What the ranks of a training run agree on: sums that every rank goes on with, and refusals in which all take part.

#include <cstdint>
#include <functional>

#include "engine/model/model.h"
#include "engine/ranks/ranks.h"

namespace moleblend {

/// Thrown by every rank but the first for what the first one throws as Error: what happened is told once, and the first rank's exit status
/// is the run's. The others end with 0: what starts ranks kills those that are left when one ends with another status.
struct AnotherRankTells {};
/// Called by all ranks before they end over the same cause: returns on the first, which throws what it was, and throws AnotherRankTells on
/// the others.
void first_tells(Ranks& ranks);

/// Of all ranks together; molecules and tokens likewise, in place.
TargetCounts sum_over(Ranks& ranks, const TargetCounts& counts, std::int64_t& molecules, std::int64_t& tokens);
PretrainResult sum_over(Ranks& ranks, const PretrainResult& result);
/// The first rank's value, on all.
double of_first(Ranks& ranks, double value);
/// A signal that any rank has had, the same on all; 0 where none had one.
int any_signal(Ranks& ranks, int own);

/// Runs `work`, which calls no other rank, on all of them. Where one or more threw Error or UsageError, the first one throws it, naming
/// the ranks unless all say the same, and the others throw AnotherRankTells.
void together(Ranks& ranks, const std::function<void()>& work);

/// Throws (as together) where a rank says another text about `what` than the first; the error ends with the remedy.
void check_same(Ranks& ranks, const std::string& what, const std::string& text, const std::string& remedy);
/// Compares a checksum of parameters and moments. Throws likewise where a rank has other values: a fault of its memory, its program or its
/// processor.
void check_same_values(Ranks& ranks, const Model& model, std::int64_t step);

}  // namespace moleblend
