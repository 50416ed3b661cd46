#include "engine/ranks/ranks.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <type_traits>

namespace moleblend {
namespace {

/// values[k] = Σ terms[r · stride + k] over r, in the order of r.
template <class T>
void add_up(const T* terms, std::size_t ranks, std::size_t stride, std::span<T> values) {
  using Wide = std::conditional_t<std::is_same_v<T, float>, double, T>;
  constexpr std::size_t kBlock = 512;  // the sums of so many values stay in the nearest cache
  Wide sums[kBlock];
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - begin);
    for (std::size_t k = 0; k < count; ++k) sums[k] = terms[begin + k];
    for (std::size_t r = 1; r < ranks; ++r)
      for (std::size_t k = 0; k < count; ++k) sums[k] += terms[r * stride + begin + k];
    for (std::size_t k = 0; k < count; ++k) values[begin + k] = static_cast<T>(sums[k]);
  }
}

}  // namespace

template <class T>
void Ranks::sum(std::span<T> values) {
  const auto ranks = static_cast<std::size_t>(size());
  if (ranks == 1 || values.empty()) return;
  const auto me = static_cast<std::size_t>(rank());
  cuts_.resize(ranks + 1);
  // What is small takes one exchange: everybody adds up everything. What is large takes two of 1/ranks of its length: everybody adds up
  // one block.
  constexpr std::size_t kSmall = 4096;  // bytes
  if (values.size_bytes() <= kSmall) {
    for (std::size_t r = 0; r <= ranks; ++r) cuts_[r] = r * values.size_bytes();
    received_.resize(std::max(received_.size(), cuts_.back()));
    std::memcpy(received_.data() + cuts_[me], values.data(), values.size_bytes());
    gather_blocks(received_.data(), cuts_);
    add_up(reinterpret_cast<const T*>(received_.data()), ranks, values.size(), values);
    return;
  }
  for (std::size_t r = 0; r <= ranks; ++r) cuts_[r] = values.size() * r / ranks * sizeof(T);
  const std::span<T> own = values.subspan(cuts_[me] / sizeof(T), (cuts_[me + 1] - cuts_[me]) / sizeof(T));
  received_.resize(std::max(received_.size(), ranks * own.size_bytes()));
  auto* bytes = reinterpret_cast<std::byte*>(values.data());
  scatter_blocks(bytes, cuts_, received_.data());
  add_up(reinterpret_cast<const T*>(received_.data()), ranks, own.size(), own);
  gather_blocks(bytes, cuts_);
}
template void Ranks::sum(std::span<float>);
template void Ranks::sum(std::span<double>);
template void Ranks::sum(std::span<std::int64_t>);

std::vector<std::string> Ranks::gather(const std::string& text) {
  const auto ranks = static_cast<std::size_t>(size()), me = static_cast<std::size_t>(rank());
  std::vector<std::size_t> lengths(ranks), cuts(ranks + 1, 0);
  lengths[me] = text.size();
  for (std::size_t r = 0; r <= ranks; ++r) cuts[r] = r * sizeof(std::size_t);
  gather_blocks(reinterpret_cast<std::byte*>(lengths.data()), cuts);
  cuts[0] = 0;
  std::partial_sum(lengths.begin(), lengths.end(), cuts.begin() + 1);
  std::string all(cuts.back(), '\0');
  text.copy(all.data() + cuts[me], text.size());
  gather_blocks(reinterpret_cast<std::byte*>(all.data()), cuts);
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < ranks; ++r) texts.push_back(all.substr(cuts[r], lengths[r]));
  return texts;
}

void SoleRank::abort(int status) {
  std::_Exit(status);
}
void SoleRank::scatter_blocks(const std::byte* data, std::span<const std::size_t> cuts, std::byte* received) {
  std::memcpy(received, data, cuts[1]);
}

Ranks& sole_rank() {
  static SoleRank rank;
  return rank;
}

}  // namespace moleblend
