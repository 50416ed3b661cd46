#pragma once
// Why records are refused, as people read it in tables and summaries.

#include <string>
#include <string_view>

namespace moleblend {

/// Text for one field of a table that people read: on one line, and UTF-8 whatever came in.
std::string one_line(std::string_view text);

/// The kind of a reason, to count by: "atom 12 has valence 7" and "atom 3 has valence 5" are both "atom N has valence N".
std::string kind_of_reason(const std::string& reason);

}  // namespace moleblend
