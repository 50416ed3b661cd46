#include "io/loader/subset.h"

#include <algorithm>
#include <cmath>

#include "io/loader/permutation.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {

// Keeps the split's draws apart from those of training, which use the same seed and small epochs.
constexpr std::uint64_t kSplitEpoch = 0x73706c6974ull;  // "split"
// The rule is one of stretches, so that a part's neighbours are neighbours in the files. Part of what a seed means: never change it.
constexpr std::uint64_t kStretch = 1024;

/// (a · b − less) / c, rounded down, for results below 2⁶⁴.
std::uint64_t scaled(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t less = 0) {
  __extension__ using Wide = unsigned __int128;
  if ((a | b) >> 32 == 0) return (a * b - less) / c;
  return static_cast<std::uint64_t>((Wide{a} * b - less) / c);
}

}  // namespace

Subset::Subset(std::vector<std::uint64_t> indices)
    : rule_(Rule::list),
      size_(indices.size()),
      list_(std::make_shared<const std::vector<std::uint64_t>>(std::move(indices))) {}

Subset Subset::all(std::uint64_t size) {
  Subset subset;
  subset.size_ = subset.molecules_ = size;
  return subset;
}

// With N molecules, V of them for validation, the molecules before i hold floor(V · i / N) of validation and the other
// ceil((N − V) · i / N) of training, at the borders of stretches. Solved for i, that gives the stretch of the k-th of either part.
std::uint64_t Subset::operator[](std::uint64_t position) const {
  if (position >= size_) throw Error("there is no molecule {} in a part of {}; ask for a smaller one", position, size_);
  if (rule_ == Rule::all) return position;
  if (rule_ == Rule::list) return (*list_)[position];
  const bool valid = rule_ == Rule::valid;
  const std::uint64_t n = molecules_;
  const std::uint64_t inside = valid ? scaled(position + 1, n, valid_, 1) : scaled(position, n, n - valid_);
  const std::uint64_t begin = inside / kStretch * kStretch, end = std::min(n, begin + kStretch);
  const std::uint64_t valid_before = scaled(begin, valid_, n), valid_here = scaled(end, valid_, n) - valid_before;
  const Permutation order(end - begin, molecule_key(seed_, kSplitEpoch, begin / kStretch));
  return begin + order(valid ? position - valid_before : valid_here + position - (begin - valid_before));
}

std::uint64_t Subset::bound() const {
  if (rule_ != Rule::list) return molecules_;
  std::uint64_t bound = 0;
  for (const std::uint64_t index : *list_) bound = std::max(bound, index + 1);
  return bound;
}

std::pair<std::uint64_t, std::uint64_t> Subset::stretch(std::uint64_t first, std::uint64_t end) const {
  if (first >= end) return {0, 0};
  const auto start = [&](std::uint64_t position) { return (*this)[position] / kStretch * kStretch; };
  return {start(first), start(end - 1) + kStretch};
}

bool Subset::ascends() const {
  return rule_ == Rule::all || (rule_ == Rule::list && std::is_sorted(list_->begin(), list_->end()));
}

bool Subset::operator==(const Subset& other) const {
  return size_ == other.size_ && std::equal(begin(), end(), other.begin());
}

std::string Subset::name() const {
  switch (rule_) {
    case Rule::all:
      return fmt::format("all {}", size_);
    case Rule::train:
    case Rule::valid:
      return fmt::format("{} of stretches: {} of {} with seed {}", rule_ == Rule::valid ? "valid" : "train", valid_,
                         molecules_, seed_);
    case Rule::list:
      break;
  }
  std::string bytes = "list ";
  bytes.append(reinterpret_cast<const char*>(list_->data()), list_->size() * sizeof(std::uint64_t));
  return bytes;
}

Split random_split(std::uint64_t size, double valid_fraction, std::uint64_t seed) {
  if (!(valid_fraction >= 0 && valid_fraction <= 1))
    throw UsageError("a validation fraction of {} is impossible; choose one from 0 to 1", valid_fraction);
  auto valid = static_cast<std::uint64_t>(std::llround(valid_fraction * static_cast<double>(size)));
  if (valid_fraction > 0 && valid_fraction < 1 && size > 0)
    valid = size == 1 ? 0 : std::clamp<std::uint64_t>(valid, 1, size - 1);
  Split split;
  for (Subset* part : {&split.train, &split.valid}) {
    part->rule_ = part == &split.valid ? Subset::Rule::valid : Subset::Rule::train;
    part->size_ = part == &split.valid ? valid : size - valid;
    part->molecules_ = size;
    part->valid_ = valid;
    part->seed_ = seed;
  }
  return split;
}

}  // namespace moleblend
