#include "engine/property/splits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "engine/evaluation/fixed_batches.h"
#include "engine/property/parts.h"
#include "io/loader/permutation.h"
#include "io/support/checksum.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"

namespace moleblend {
namespace {

// Keeps the draws of splits apart from those of training with the same seed. Part of what a seed means: never change them.
constexpr std::uint64_t kPartsEpoch = 0x7061727473ull;  // "parts"
enum Order : std::uint64_t { kMolecules = 0, kLargeGroups = 1, kSmallGroups = 2 };

Permutation shuffled(std::uint64_t size, std::uint64_t seed, Order what) {
  return {size, molecule_key(seed, kPartsEpoch, what)};
}

void check(const Fractions& f) {
  const bool shares = f.train > 0 && f.valid > 0 && f.test > 0;
  if (!shares || !(std::abs(f.train + f.valid + f.test - 1) <= 1e-9))
    throw UsageError(
        "the shares {}, {} and {} of training, validation and test are impossible; choose three above 0 that add up to "
        "1",
        f.train, f.valid, f.test);
}

std::string rule_text(std::string_view name, const Fractions& f) {
  return fmt::format("{} {}/{}/{}", name, f.train, f.valid, f.test);
}

Parts by_permutation(std::uint64_t size, std::uint64_t train, std::uint64_t valid, std::uint64_t seed,
                     std::string rule) {
  const Permutation order = shuffled(size, seed, kMolecules);
  std::vector<Part> part(size);
  for (std::uint64_t k = 0; k < size; ++k)
    part[order(k)] = k < train ? Part::train : k < train + valid ? Part::valid : Part::test;
  return parts_of(part, std::move(rule));
}

std::vector<std::uint64_t> sizes_of(const ScaffoldGroups& groups) {
  std::vector<std::uint64_t> sizes(groups.count);
  for (const std::uint32_t group : groups.group) ++sizes[group];
  return sizes;
}

Parts by_groups(const ScaffoldGroups& groups, const std::vector<Part>& part_of_group, std::string rule) {
  std::vector<Part> part(groups.group.size());
  std::transform(groups.group.begin(), groups.group.end(), part.begin(),
                 [&](std::uint32_t group) { return part_of_group[group]; });
  return parts_of(part, std::move(rule));
}

}  // namespace

Parts parts_of(const std::vector<Part>& part, std::string rule) {
  std::array<std::vector<std::uint64_t>, 4> members;
  for (std::uint64_t k = 0; k < part.size(); ++k) members[static_cast<std::size_t>(part[k])].push_back(k);
  constexpr std::array kNames = {"training", "validation", "test"};
  for (std::size_t k = 0; k < kNames.size(); ++k) {
    if (members[k].empty())
      throw UsageError(
          "the split \"{}\" of {} molecules leaves none for the {} part; choose another split or other shares", rule,
          part.size(), kNames[k]);
  }
  return {std::move(members[0]), std::move(members[1]), std::move(members[2]), std::move(rule), members[3].size()};
}

PartsFingerprint fingerprint(const Dataset& data, const Parts& parts) {
  PartsFingerprint names{
      fingerprint(data, parts.train), fingerprint(data, parts.valid), fingerprint(data, parts.test), {}};
  names.all = sha256(names.train + names.valid + names.test).substr(0, names.train.size());
  return names;
}

Parts random_parts(std::uint64_t size, const Fractions& fractions, std::uint64_t seed) {
  check(fractions);
  const auto until = [&](double share) {
    return static_cast<std::uint64_t>(std::llround(share * static_cast<double>(size)));
  };
  const std::uint64_t train = until(fractions.train), valid = until(fractions.train + fractions.valid) - train;
  return by_permutation(size, train, valid, seed, fmt::format("{}, seed {}", rule_text("random", fractions), seed));
}

Parts counted_parts(std::uint64_t size, std::uint64_t train, std::uint64_t valid, std::uint64_t seed) {
  if (train > size || valid > size - train)
    throw UsageError("{} molecules can't give {} for training and {} for validation; choose fewer", size, train, valid);
  return by_permutation(size, train, valid, seed, fmt::format("random {}/{}/rest, seed {}", train, valid, seed));
}

Parts balanced_scaffold_parts(const ScaffoldGroups& groups, const Fractions& fractions, std::uint64_t seed) {
  check(fractions);
  const double size = static_cast<double>(groups.group.size());
  const double train_size = fractions.train * size, valid_size = fractions.valid * size,
               test_size = fractions.test * size;
  const std::vector<std::uint64_t> sizes = sizes_of(groups);
  std::vector<std::uint32_t> large, small;
  for (std::uint32_t group = 0; group < groups.count; ++group) {
    const double members = static_cast<double>(sizes[group]);
    (members > valid_size / 2 || members > test_size / 2 ? large : small).push_back(group);
  }
  std::vector<Part> part(groups.count);
  double train = 0, valid = 0;
  const auto place_all = [&](const std::vector<std::uint32_t>& some, Order what) {
    const Permutation order = shuffled(some.size(), seed, what);
    for (std::uint64_t k = 0; k < some.size(); ++k) {
      const std::uint32_t group = some[order(k)];
      const double members = static_cast<double>(sizes[group]);
      if (train + members <= train_size) {
        train += members;
        part[group] = Part::train;
      } else if (valid + members <= valid_size) {
        valid += members;
        part[group] = Part::valid;
      } else {
        part[group] = Part::test;
      }
    }
  };
  place_all(large, kLargeGroups);
  place_all(small, kSmallGroups);
  return by_groups(groups, part, fmt::format("{}, seed {}", rule_text("scaffold balanced", fractions), seed));
}

Parts largest_first_scaffold_parts(const ScaffoldGroups& groups, const Fractions& fractions) {
  check(fractions);
  const double size = static_cast<double>(groups.group.size());
  const double train_end = fractions.train * size, valid_end = (fractions.train + fractions.valid) * size;
  const std::vector<std::uint64_t> sizes = sizes_of(groups);
  std::vector<std::uint32_t> order(groups.count);
  std::iota(order.begin(), order.end(), 0);
  // Groups are numbered by their first molecules.
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return sizes[a] != sizes[b] ? sizes[a] > sizes[b] : a > b; });
  std::vector<Part> part(groups.count);
  double train = 0, valid = 0;
  for (const std::uint32_t group : order) {
    const double members = static_cast<double>(sizes[group]);
    if (!(train + members > train_end)) {
      train += members;
      part[group] = Part::train;
    } else if (!(train + valid + members > valid_end)) {
      valid += members;
      part[group] = Part::valid;
    } else {
      part[group] = Part::test;
    }
  }
  return by_groups(groups, part, rule_text("scaffold largest first", fractions));
}

}  // namespace moleblend
