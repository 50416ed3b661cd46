// Scaffolds of a whole data set.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "engine/property/splits.h"
#include "io/graph/scaffold.h"
#include "io/support/checksum.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

constexpr std::uint64_t kStretch = 4096;  // molecules that a thread takes at once

/// 128 bits of a key's SHA-256: among a billion scaffolds two different ones meet with a probability of 10⁻²¹.
struct Hash {
  std::array<std::uint64_t, 2> bits{};
  bool operator==(const Hash&) const = default;
};
struct HashOfHash {
  std::size_t operator()(const Hash& hash) const { return hash.bits[0]; }
};

Hash hash_of(const std::string& key) {
  Sha256 sha;
  sha.update(key);
  const Sha256::Digest digest = sha.digest();
  Hash hash;
  std::memcpy(hash.bits.data(), digest.data(), sizeof hash.bits);
  return hash;
}

std::vector<Hash> hashes(const Dataset& data, int threads) {
  std::vector<Hash> all(data.size());
  std::atomic<std::uint64_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    Molecule molecule;
    try {
      for (std::uint64_t first = next.fetch_add(kStretch); first < all.size(); first = next.fetch_add(kStretch)) {
        const std::uint64_t end = std::min<std::uint64_t>(first + kStretch, all.size());
        data.expect(first, end);
        for (std::uint64_t k = first; k < end; ++k) {
          data.read(k, molecule);
          all[k] = hash_of(scaffold(molecule).key);
        }
        data.release(first, end);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      next = all.size();  // the others stop too
    }
  };
  {
    std::vector<std::jthread> others;
    for (int k = 1; k < threads; ++k) others.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);
  return all;
}

}  // namespace

ScaffoldGroups scaffold_groups(const Dataset& data, int threads) {
  if (threads < 1) throw UsageError("{} threads can't work; choose one or more", threads);
  ScaffoldGroups groups;
  groups.group.resize(data.size());
  std::unordered_map<Hash, std::uint32_t, HashOfHash> number;
  const std::vector<Hash> all = hashes(data, threads);
  for (std::size_t k = 0; k < all.size(); ++k)
    groups.group[k] = number.emplace(all[k], static_cast<std::uint32_t>(number.size())).first->second;
  groups.count = static_cast<std::uint32_t>(number.size());
  return groups;
}

}  // namespace moleblend
