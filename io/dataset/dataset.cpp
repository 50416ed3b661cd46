#include "io/dataset/dataset.h"

#include <algorithm>

#include "io/dataset/dataset_json.h"
#include "io/dataset/shard_reader.h"
#include "io/support/error.h"

namespace moleblend {

struct Dataset::State {
  std::filesystem::path folder;
  DatasetInfo info;
  std::vector<ShardReader> shards;
  std::vector<std::uint64_t> first;  // first molecule of each shard, and the number of all

  std::uint64_t bytes = 0;

  struct Place {
    const ShardReader& shard;
    std::uint64_t index;
  };
  Place find(std::uint64_t index) const {
    if (index >= first.back())
      throw Error("{} has no molecule {}: it has {}; ask for a smaller index", folder.string(), index, first.back());
    const std::size_t k = shard_of(index);
    return {shards[k], index - first[k]};
  }
  std::size_t shard_of(std::uint64_t index) const {
    // Shards are about equally large: mostly the first guess is right.
    const auto guess = static_cast<std::size_t>(static_cast<double>(index) * shards_a_molecule);
    if (guess < shards.size() && first[guess] <= index && index < first[guess + 1]) return guess;
    const auto after = std::upper_bound(first.begin(), first.end(), index);
    return static_cast<std::size_t>(after - first.begin()) - 1;
  }
  double shards_a_molecule = 0;

  /// Calls f(shard, first, end) for what each shard has of molecules [first, end).
  template <class F>
  void for_each_part(std::uint64_t begin, std::uint64_t end, F&& f) const {
    end = std::min(end, first.back());
    if (begin >= end) return;
    for (std::size_t k = shard_of(begin); k < shards.size() && first[k] < end; ++k)
      f(shards[k], std::max(begin, first[k]) - first[k], std::min(end, first[k + 1]) - first[k]);
  }
};

Dataset::Dataset(std::unique_ptr<State> state) : state_(std::move(state)) {}
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;
Dataset::~Dataset() = default;

Dataset Dataset::open(const std::filesystem::path& folder, bool verify) {
  auto state = std::make_unique<State>();
  state->folder = folder;
  state->info = read_dataset_json(folder);
  state->first.push_back(0);
  for (const ShardEntry& entry : state->info.shards) {
    // A name with a slash would reach outside the folder.
    if (std::filesystem::path(entry.name).filename() != entry.name)
      throw Error("{}: dataset.json names a shard \"{}\" outside the folder; prepare the data set again",
                  folder.string(), entry.name);
    const ShardReader& shard = state->shards.emplace_back(folder / entry.name, verify);
    if (shard.entry() != entry || shard.label_count() != state->info.labels.size())
      throw Error("{} is not the shard that dataset.json describes; run the same `moleblend prepare` with --resume",
                  (folder / entry.name).string());
    state->first.push_back(state->first.back() + entry.molecules);
    state->bytes += entry.bytes;
  }
  if (state->first.back() != state->info.molecules)
    throw Error(
        "{}: dataset.json counts {} molecules and its shards {}; run the same `moleblend prepare` with --resume",
        folder.string(), state->info.molecules, state->first.back());
  state->shards_a_molecule =
      static_cast<double>(state->shards.size()) / std::max(1.0, static_cast<double>(state->first.back()));
  return Dataset(std::move(state));
}

const DatasetInfo& Dataset::info() const {
  return state_->info;
}
std::uint64_t Dataset::size() const {
  return state_->first.back();
}

void Dataset::read(std::uint64_t index, Molecule& out) const {
  const auto [shard, i] = state_->find(index);
  shard.read(i, out);
}

void Dataset::view(std::uint64_t index, MoleculeView& out) const {
  const auto [shard, i] = state_->find(index);
  shard.view(i, out);
}

std::uint64_t Dataset::bytes() const {
  return state_->bytes;
}

void Dataset::expect(std::uint64_t first, std::uint64_t end) const {
  state_->for_each_part(first, end,
                        [](const ShardReader& shard, std::uint64_t from, std::uint64_t to) { shard.expect(from, to); });
}

void Dataset::release(std::uint64_t first, std::uint64_t end) const {
  state_->for_each_part(
      first, end, [](const ShardReader& shard, std::uint64_t from, std::uint64_t to) { shard.release(from, to); });
}

std::uint32_t Dataset::atoms(std::uint64_t index) const {
  const auto [shard, i] = state_->find(index);
  return shard.atoms(i);
}

}  // namespace moleblend
