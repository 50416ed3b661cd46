#include "engine/evaluation/fixed_batches.h"

#include <algorithm>

#include "io/support/checksum.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {
constexpr std::size_t kBehind = 1 << 16;  // molecules; so many that were read are given back at once
}  // namespace

FixedBatches::FixedBatches(const Dataset& data, const Subset& subset, std::uint64_t seed, std::uint64_t draw,
                           std::int64_t atoms)
    : data_(data), subset_(subset), seed_(seed), draw_(draw), atoms_(atoms) {}

bool FixedBatches::next(Batch& out) {
  out.clear();
  while (position_ < subset_.size()) {
    const std::uint64_t index = subset_[position_];
    if (out.molecules() > 0 && out.atoms() + data_.atoms(index) > atoms_) break;
    data_.view(index, molecule_);
    out.add(molecule_, index, molecule_key(seed_, draw_, index), 0, scratch_);
    if (++position_ % kBehind == 0) {
      const auto [first, end] = subset_.stretch(position_ - kBehind, position_);
      data_.release(first, end);
    }
  }
  return out.molecules() > 0;
}

Subset sample(const Subset& subset, std::uint64_t count, std::uint64_t seed) {
  if (subset.size() <= count && subset.ascends()) return subset;
  const Permutation order(subset.size(), seed);
  std::vector<std::uint64_t> chosen(std::min(count, subset.size()));
  for (std::uint64_t k = 0; k < chosen.size(); ++k) chosen[k] = subset[order(k)];
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::string fingerprint(const Dataset& data, const Subset& subset) {
  Sha256 hash;
  hash.update(data.info().fingerprint);
  hash.update(subset.name());
  const Sha256::Digest digest = hash.digest();
  return hex(std::span(digest).first(8));
}

}  // namespace moleblend
