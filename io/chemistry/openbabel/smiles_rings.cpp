#include "io/chemistry/openbabel/smiles_rings.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>

namespace moleblend::chemistry {
namespace {

/// Reads the ring bond number that starts at `at` (7, %12 or %(123)) and moves `at` past it.
int read_ring_number(std::string_view smiles, std::size_t& at) {
  std::size_t length = 1;
  if (smiles[at] == '%') {
    ++at;
    length = 2;
    if (at < smiles.size() && smiles[at] == '(') {
      ++at;
      length = std::min(smiles.find(')', at), smiles.size()) - at;
    }
  }
  const char* begin = smiles.data() + std::min(at, smiles.size());
  const char* end = smiles.data() + std::min(at + length, smiles.size());
  int number = 0;
  std::from_chars(begin, end, number);
  at += length;
  if (at < smiles.size() && smiles[at] == ')' && length > 2) ++at;
  return number;
}

}  // namespace

std::vector<RingClosure> ring_closures(std::string_view smiles) {
  std::vector<RingClosure> closures;
  std::map<int, std::uint32_t> open;
  std::uint32_t atoms = 0;
  for (std::size_t at = 0; at < smiles.size();) {
    const char c = smiles[at];
    if (c == '[') {
      ++atoms;
      at = std::min(smiles.find(']', at), smiles.size() - 1) + 1;
    } else if (std::isdigit(static_cast<unsigned char>(c)) || c == '%') {
      const int number = read_ring_number(smiles, at);
      if (atoms == 0) continue;
      if (const auto opened = open.find(number); opened != open.end()) {
        closures.push_back({number, opened->second, atoms - 1});
        open.erase(opened);
      } else {
        open[number] = atoms - 1;
      }
    } else {
      const auto symbol = smiles.substr(at, 2);
      const bool two_letters = symbol == "Cl" || symbol == "Br";
      if (std::isalpha(static_cast<unsigned char>(c)) || c == '*') ++atoms;
      at += two_letters ? 2 : 1;
    }
  }
  return closures;
}

}  // namespace moleblend::chemistry
