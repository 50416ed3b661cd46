#pragma once
// Why records are refused, as people read it in tables and summaries.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace moleblend {

/// Text for one field of a table that people read: on one line, and UTF-8 whatever came in.
std::string one_line(std::string_view text);

/// The kind of a reason, to count by: "atom 12 has valence 7" and "atom 3 has valence 5" are both "atom N has valence N".
std::string kind_of_reason(const std::string& reason);

/// How many records were refused for each kind of reason.
using ReasonCounts = std::map<std::string, std::uint64_t>;
/// Counts a reason by its kind. Of more kinds than anybody reads, the new ones count as "other reasons": memory is bounded.
void count_reason(ReasonCounts& counts, const std::string& reason);
/// The most frequent kind; "there are none" if nothing was counted.
std::string most_frequent(const ReasonCounts& counts);

}  // namespace moleblend
