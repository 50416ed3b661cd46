#pragma once
// Small helpers for text records.

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>

namespace moleblend {

inline bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v';
}

inline std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

/// Takes the next word off the front of `text`; empty at its end.
inline std::string_view take_word(std::string_view& text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  std::size_t end = 0;
  while (end < text.size() && !is_blank(text[end])) ++end;
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  return word;
}

inline std::string lower_case(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

/// Whether the text holds bytes that no text file has (NUL and other control characters).
inline bool is_binary(std::string_view text) {
  // Over all bytes without a branch, so that it is done many at a time.
  bool binary = false;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool space = static_cast<unsigned char>(byte - '\t') <= '\r' - '\t';
    binary |= (byte < 0x20 && !space) | (byte == 0x7f);
  }
  return binary;
}

}  // namespace moleblend
