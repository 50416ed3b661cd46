#include "io/prepare/reasons.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "io/prepare/text.h"

namespace moleblend {

std::string one_line(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (is_blank(c) || is_binary({&c, 1})) c = ' ';
  const std::string valid = nlohmann::json(trimmed(out)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return nlohmann::json::parse(valid).get<std::string>();
}

std::string kind_of_reason(const std::string& reason) {
  std::string kind;
  for (const char c : reason) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!digit)
      kind += c;
    else if (kind.empty() || kind.back() != 'N')
      kind += 'N';
  }
  return kind;
}

void count_reason(ReasonCounts& counts, const std::string& reason) {
  constexpr std::size_t kMaxKinds = 1000;  // there are some dozens
  std::string kind = kind_of_reason(reason);
  if (counts.size() >= kMaxKinds && !counts.contains(kind)) kind = "other reasons";
  ++counts[kind];
}

std::string most_frequent(const ReasonCounts& counts) {
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == counts.end() ? "there are none" : most->first;
}

}  // namespace moleblend
