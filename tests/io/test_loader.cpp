// Permutation, split, batches and the loader: steps are functions of their number.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "io/loader/batch.h"
#include "io/loader/loader.h"
#include "io/loader/step_plan.h"
#include "io/support/error.h"
#include "io/support/files.h"
#include "kernels/random/philox.h"
#include "tests/engine/temporary_folder.h"
#include "tests/io/molecules.h"

namespace moleblend {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::made_molecule;
using testing::make_dataset;
using testing::TemporaryFolder;

TEST(Permutation, Bijective) {
  for (std::uint64_t size = 1; size <= 300; ++size) {
    const Permutation p(size, size * 77);
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = 0; i < size; ++i) seen.insert(p(i));
    ASSERT_EQ(seen.size(), size);
    ASSERT_EQ(*seen.rbegin(), size - 1);
  }
  std::vector<bool> seen(1000003);
  const Permutation p(seen.size(), 5);
  for (std::uint64_t i = 0; i < seen.size(); ++i) seen[p(i)] = true;
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](bool b) { return b; }));
}

TEST(Permutation, Mixes) {
  // Every place of 16 gets every value about equally often over 4,096 keys: expected 256 each, standard deviation 15.5, so a
  // count 6 deviations away (one in 10⁹) is a fault. Successive places are uncorrelated likewise.
  constexpr std::uint64_t kSize = 16, kKeys = 4096;
  std::map<std::pair<std::uint64_t, std::uint64_t>, int> place, step;
  for (std::uint64_t key = 0; key < kKeys; ++key) {
    const Permutation p(kSize, key);
    for (std::uint64_t i = 0; i < kSize; ++i) ++place[{i, p(i)}];
    for (std::uint64_t i = 0; i + 1 < kSize; ++i) ++step[{i, (p(i + 1) + kSize - p(i)) % kSize}];
  }
  EXPECT_EQ(place.size(), kSize * kSize);
  for (const auto& [at, count] : place) EXPECT_NEAR(count, 256, 6 * 15.5) << at.first << " -> " << at.second;
  EXPECT_EQ(step.size(), (kSize - 1) * (kSize - 1));
  for (const auto& [at, count] : step) EXPECT_NEAR(count, 4096.0 / 15, 6 * 16) << at.first << " + " << at.second;
}

TEST(EpochOrder, IsABijectionFoundFromAnywhere) {
  // One window (up to 130,048 places), several, with and without a short last chunk.
  for (const std::uint64_t size : {1, 7, 1024, 1025, 130048, 130049, 131072, 200000, 262144}) {
    for (std::uint64_t key = 0; key < 3; ++key) {
      EpochOrder order(size, key);
      std::vector<bool> seen(size);
      for (std::uint64_t p = 0; p < size; ++p) {
        const std::uint64_t place = order(p);
        ASSERT_LT(place, size);
        ASSERT_FALSE(seen[place]) << "place " << place << " twice among " << size;
        seen[place] = true;
      }
      for (std::uint64_t k = 0; k < 50; ++k) {
        const std::uint64_t p = k * 7919 * 7919 % size;
        ASSERT_EQ(EpochOrder(size, key)(p), order(p)) << "reached at once, and after others";
      }
    }
  }
  EpochOrder first(5000, 1), second(5000, 2);
  int same = 0;
  for (std::uint64_t p = 0; p < 5000; ++p) same += first(p) == second(p);
  EXPECT_LE(same, 10) << "two orders agree in about one place";
}

TEST(EpochOrder, WindowsHoldTheirChunksAndNoMore) {
  for (const std::uint64_t size : {130049, 150000, 262144, 400001}) {
    EpochOrder order(size, 3);
    ASSERT_GT(order.windows(), 1u);
    std::uint64_t position = 0, chunks = 0;
    for (std::uint64_t w = 0; w < order.windows(); ++w) {
      std::vector<std::uint64_t> expected, places;
      order.for_each_chunk(w, [&](std::uint64_t first, std::uint64_t end) {
        for (std::uint64_t place = first; place < end; ++place) expected.push_back(place);
        ++chunks;
      });
      for (std::size_t k = 0; k < expected.size(); ++k, ++position) {
        ASSERT_EQ(order.window_of(position), w);
        places.push_back(order(position));
      }
      EXPECT_FALSE(std::is_sorted(places.begin(), places.end()));
      std::sort(expected.begin(), expected.end());
      std::sort(places.begin(), places.end());
      ASSERT_EQ(places, expected) << "window " << w << " of " << size;
    }
    EXPECT_EQ(position, size);
    EXPECT_EQ(chunks, (size + EpochOrder::kChunk - 1) / EpochOrder::kChunk);
  }
}

TEST(RandomSplit, PartsAreWholeAndNeverEmpty) {
  for (const std::uint64_t size : {2, 3, 10, 1000, 1023, 1024, 1025, 5000}) {
    for (const double fraction : {1e-9, 0.001, 0.1, 0.5, 1 - 1e-9}) {
      for (std::uint64_t seed = 0; seed < 5; ++seed) {
        const Split split = random_split(size, fraction, seed);
        std::set<std::uint64_t> all(split.train.begin(), split.train.end());
        all.insert(split.valid.begin(), split.valid.end());
        ASSERT_EQ(split.train.size() + split.valid.size(), size);
        ASSERT_EQ(all.size(), size);
        ASSERT_EQ(*all.rbegin(), size - 1);
        ASSERT_FALSE(split.train.empty());
        ASSERT_FALSE(split.valid.empty());
        ASSERT_EQ(split.train.bound(), size);
      }
    }
  }
  EXPECT_EQ(random_split(100000, 0.1, 1).valid.size(), 10000u);
  EXPECT_TRUE(random_split(10, 0, 1).valid.empty());
  EXPECT_TRUE(random_split(10, 1, 1).train.empty());
  EXPECT_EQ(random_split(1, 0.5, 1).train.size() + random_split(1, 0.5, 1).valid.size(), 1u);
  EXPECT_EQ(random_split(100, 0.5, 1).train, random_split(100, 0.5, 1).train);
  EXPECT_NE(random_split(100, 0.5, 1).train, random_split(100, 0.5, 2).train);
  EXPECT_THAT(error_of([] { random_split(10, std::nan(""), 1); }), HasSubstr("nan"));
  EXPECT_THAT(error_of([] { random_split(10, 0.5, 1).train[5]; }), HasSubstr("no molecule 5"));
}

TEST(RandomSplit, EveryStretchGivesItsShare) {
  const Split split = random_split(100 * 1024, 0.1, 4);
  std::vector<int> of_stretch(100), of_place(1024);
  for (const std::uint64_t index : split.valid) ++of_stretch[index / 1024], ++of_place[index % 1024];
  for (const int count : of_stretch) EXPECT_NEAR(count, 102.4, 1);
  // 100 stretches, each place with probability 0.1: 10 expected, standard deviation 3, so 7 deviations (of 1,024 places) are a fault.
  for (const int count : of_place) EXPECT_NEAR(count, 10, 21);
}

TEST(RandomSplit, ATrillionMoleculesTakeNoMemory) {
  const std::uint64_t size = 1'000'000'000'000;
  const Split split = random_split(size, 0.01, 9);
  EXPECT_EQ(split.valid.size(), size / 100);
  std::set<std::uint64_t> seen;
  std::size_t asked = 0;
  for (const Subset* part : {&split.train, &split.valid}) {
    for (std::uint64_t k = 0; k < 3000; ++k, asked += 3) {
      for (const std::uint64_t position : {k, part->size() / 2 + k, part->size() - 1 - k}) {
        const std::uint64_t index = (*part)[position];
        ASSERT_LT(index, size);
        const auto [first, end] = part->stretch(position, position + 1);
        ASSERT_TRUE(first <= index && index < end && end - first <= 1024);
        seen.insert(index);
      }
    }
    EXPECT_GE((*part)[part->size() - 1], size - 200 * 1024) << "the end of the part is at the end of the data set";
  }
  EXPECT_EQ(seen.size(), asked) << "no molecule twice, neither in a part nor in both";
}

TEST(Batch, PacksMoleculesEndToEnd) {
  RelationScratch scratch;
  Batch batch;
  const std::vector<Molecule> molecules = {made_molecule(1, 3, 2, 2), made_molecule(2, 1, 0, 2),
                                           made_molecule(3, 8, 1, 2)};
  for (std::size_t b = 0; b < molecules.size(); ++b) batch.add(molecules[b], 10 + b, 20 + b, 3, scratch);
  EXPECT_EQ(batch.atom_offset, (std::vector<std::int64_t>{0, 3, 4, 12}));
  EXPECT_EQ(batch.pair_offset, (std::vector<std::int64_t>{0, 9, 10, 74}));
  EXPECT_EQ(batch.token_pair_offset, (std::vector<std::int64_t>{0, 16, 20, 101}));
  EXPECT_EQ(batch.has_positions, (std::vector<std::uint8_t>{1, 0, 1}));
  EXPECT_EQ(batch.label_count, 2);
  EXPECT_EQ(batch.labels.size(), 6u);
  EXPECT_EQ(batch.positions.size(), 36u);
  EXPECT_EQ(batch.position_known, (std::vector<std::uint8_t>{1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1}));
  for (std::size_t k = 0; k < 9; ++k)
    EXPECT_EQ(batch.positions[k], molecules[0].positions[9 + k]) << "conformer 3 mod 2 = 1";
  for (std::size_t k = 9; k < 12; ++k) EXPECT_EQ(batch.positions[k], 0);
  for (std::size_t b = 0; b < 3; ++b) {
    const std::size_t n = molecules[b].size();
    std::vector<std::uint16_t> spd(n * n), degree(n);
    std::vector<std::uint8_t> path(n * n * kPathHops);
    relations(n, molecules[b].bonds, spd.data(), path.data(), degree.data(), scratch);
    const auto pair = static_cast<std::size_t>(batch.pair_offset[b]),
               atom = static_cast<std::size_t>(batch.atom_offset[b]);
    EXPECT_TRUE(std::equal(spd.begin(), spd.end(), batch.spd.begin() + static_cast<std::ptrdiff_t>(pair)));
    EXPECT_TRUE(
        std::equal(path.begin(), path.end(), batch.path.begin() + static_cast<std::ptrdiff_t>(pair * kPathHops)));
    EXPECT_TRUE(std::equal(degree.begin(), degree.end(), batch.degree.begin() + static_cast<std::ptrdiff_t>(atom)));
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t f = 0; f < 9; ++f) EXPECT_EQ(batch.atom_codes[(atom + i) * 9 + f], molecules[b].atoms[i][f]);
  }
  EXPECT_THAT(error_of([&] { batch.add(made_molecule(4, 2, 0, 1), 0, 0, 0, scratch); }), HasSubstr("labels"));
}

TEST(Batch, NonFiniteAndUnwantedPositionsAreAbsent) {
  RelationScratch scratch;
  Batch batch;
  Molecule m = made_molecule(1, 4, 2, 0);
  m.positions[14] = std::nanf("");  // second conformer
  batch.add(m, 0, 0, 0, scratch);
  batch.add(m, 0, 0, 1, scratch);
  batch.add(m, 0, 0, -1, scratch);
  EXPECT_EQ(batch.has_positions, (std::vector<std::uint8_t>{1, 0, 0}));
  for (std::size_t k = 12; k < 36; ++k) EXPECT_EQ(batch.positions[k], 0);
  for (std::size_t k = 4; k < 12; ++k) EXPECT_EQ(batch.position_known[k], 0);
}

// ---- loader -------------------------------------------------------------------------------------------

struct LoaderTest : ::testing::Test {
  LoaderTest() : molecules(make_dataset(folder.path(), 3, 17)), data(Dataset::open(folder.path())) {
    std::vector<std::uint64_t> even;
    for (std::uint64_t i = 0; i < data.size(); i += 2) even.push_back(i);
    subset = even;
  }
  TemporaryFolder folder;
  std::vector<Molecule> molecules;
  Dataset data;
  Subset subset;  // 26 of 51
};

/// Everything of a batch, for comparison bit for bit.
auto content(const Batch& b) {
  std::vector<std::uint64_t> labels;
  for (const double label : b.labels) labels.push_back(std::bit_cast<std::uint64_t>(label));
  return std::tuple(b.atom_offset, b.pair_offset, b.token_pair_offset, b.index, b.key, b.has_positions, labels,
                    b.atom_codes, b.degree, b.positions, b.position_known, b.spd, b.path);
}
using Content = decltype(content(Batch()));

double cost_of(const Content& batch) {
  const auto& offset = std::get<0>(batch);
  double cost = 0;
  for (std::size_t b = 0; b + 1 < offset.size(); ++b)
    cost += step_cost(static_cast<std::uint32_t>(offset[b + 1] - offset[b]));
  return cost;
}

std::vector<std::vector<Content>> load(const Dataset& data, const Subset& subset, const LoaderOptions& options,
                                       std::int64_t first, std::int64_t end) {
  std::vector<std::vector<Content>> steps;
  Loader loader(data, subset, options, first, end);
  for (std::int64_t expected = first; auto step = loader.next(); ++expected) {
    EXPECT_EQ(step->step, expected);
    auto& batches = steps.emplace_back();
    for (const Batch& b : step->micro_batches) batches.push_back(content(b));
    loader.recycle(std::move(step));
  }
  EXPECT_EQ(loader.next(), nullptr);
  return steps;
}

TEST_F(LoaderTest, ThreadsAndFirstStepDecideNothing) {
  LoaderOptions options{.seed = 3, .batch_size = 10, .micro_batch_atoms = 40, .micro_batches = 2};
  const auto expected = load(data, subset, options, 0, 40);
  ASSERT_EQ(expected.size(), 40u);
  for (const int threads : {2, 5}) {
    for (const int prefetch : {1, 7}) {
      options.threads = threads;
      options.prefetch = prefetch;
      EXPECT_EQ(load(data, subset, options, 0, 40), expected) << threads << " threads";
    }
  }
  for (const std::int64_t first : {1, 13, 39}) {
    const auto later = load(data, subset, options, first, 40);
    EXPECT_EQ(later, decltype(later)(expected.begin() + first, expected.end())) << "from step " << first;
  }
}

TEST_F(LoaderTest, EpochsAreCompleteAndKeysTellThemApart) {
  for (const bool shuffle : {true, false}) {
    // 26 molecules in steps of 10: epochs end inside a step.
    const LoaderOptions options{.seed = 9, .batch_size = 10, .shuffle = shuffle};
    Loader loader(data, subset, options, 0, 13);
    std::vector<std::uint64_t> order;
    std::set<std::uint64_t> keys;
    while (auto step = loader.next()) {
      ASSERT_EQ(step->micro_batches.size(), 1u);
      ASSERT_EQ(step->micro_batches[0].molecules(), 10);
      for (std::size_t k = 0; k < 10; ++k) {
        const std::uint64_t epoch = order.size() / subset.size(), index = step->micro_batches[0].index[k];
        EXPECT_EQ(step->micro_batches[0].key[k], molecule_key(9, epoch, index));
        keys.insert(step->micro_batches[0].key[k]);
        order.push_back(index);
      }
    }
    ASSERT_EQ(order.size(), 130u);
    EXPECT_EQ(keys.size(), 130u) << "a molecule in two epochs has two keys";
    std::set<std::vector<std::uint64_t>> orders;
    for (std::size_t epoch = 0; epoch < 5; ++epoch) {
      std::vector<std::uint64_t> one(order.begin() + static_cast<std::ptrdiff_t>(26 * epoch),
                                     order.begin() + static_cast<std::ptrdiff_t>(26 * (epoch + 1)));
      orders.insert(one);
      std::sort(one.begin(), one.end());
      EXPECT_EQ(one, subset);
    }
    EXPECT_EQ(orders.size(), shuffle ? 5u : 1u);
  }
}

TEST_F(LoaderTest, AMoleculeTwiceInAStep) {
  const LoaderOptions options{.batch_size = 7};
  Loader loader(data, {4, 8}, options, 0, 1);
  const auto step = loader.next();
  const Batch& batch = step->micro_batches[0];
  EXPECT_EQ(batch.molecules(), 7);
  EXPECT_EQ(std::set<std::uint64_t>(batch.index.begin(), batch.index.end()).size(), 2u);
  EXPECT_EQ(std::set<std::uint64_t>(batch.key.begin(), batch.key.end()).size(), 7u);
}

TEST_F(LoaderTest, MicroBatchesKeepOrderLimitAndNumber) {
  LoaderOptions options{.seed = 4, .batch_size = 25};
  const auto whole = load(data, subset, options, 0, 6);
  for (const std::int64_t limit : {0, 1, 15, 30, 1000}) {
    for (const std::int64_t parts : {1, 2, 3, 25, 30}) {
      options.micro_batch_atoms = limit;
      options.micro_batches = parts;
      const auto cut = load(data, subset, options, 0, 6);
      for (std::size_t s = 0; s < cut.size(); ++s) {
        EXPECT_GE(cut[s].size(), static_cast<std::size_t>(parts));
        std::vector<std::uint64_t> indices;
        std::size_t empty = 0;
        for (const Content& batch : cut[s]) {
          const auto& index = std::get<3>(batch);
          indices.insert(indices.end(), index.begin(), index.end());
          empty += index.empty();
          if (limit > 0 && index.size() > 1) {
            EXPECT_LE(std::get<0>(batch).back(), limit);
          }
        }
        EXPECT_EQ(indices, std::get<3>(whole[s][0]));
        EXPECT_EQ(empty, parts > 25 ? static_cast<std::size_t>(parts - 25) : 0u);
      }
    }
  }
}

TEST_F(LoaderTest, MicroBatchesAreEvenByCost) {
  const LoaderOptions options{.seed = 4, .batch_size = 200, .micro_batches = 4};
  for (const auto& step : load(data, subset, options, 0, 5)) {
    ASSERT_EQ(step.size(), 4u);
    double total = 0, most = 0;
    for (const Content& batch : step) {
      const double cost = cost_of(batch);
      total += cost;
      most = std::max(most, cost);
    }
    // The largest molecule has 20 atoms; each border is off by at most half of it.
    EXPECT_LE(most, total / 4 + step_cost(20));
  }
}

TEST_F(LoaderTest, RanksShareAStepByCost) {
  const LoaderOptions whole_options{.seed = 4, .batch_size = 50, .micro_batch_atoms = 60};
  const auto whole = load(data, subset, whole_options, 2, 6);
  for (const int ranks : {1, 2, 3, 7, 50}) {
    std::vector<std::vector<std::uint64_t>> keys(whole.size());
    std::vector<double> total(whole.size(), 0), most(whole.size(), 0);
    for (int rank = 0; rank < ranks; ++rank) {
      LoaderOptions options = whole_options;
      options.rank = rank, options.ranks = ranks;
      const auto part = load(data, subset, options, 2, 6);
      ASSERT_EQ(part.size(), whole.size());
      for (std::size_t s = 0; s < part.size(); ++s) {
        double cost = 0;
        for (const Content& batch : part[s]) {
          keys[s].insert(keys[s].end(), std::get<4>(batch).begin(), std::get<4>(batch).end());
          cost += cost_of(batch);
        }
        EXPECT_GT(cost, 0) << "a rank without a molecule";
        total[s] += cost;
        most[s] = std::max(most[s], cost);
      }
    }
    for (std::size_t s = 0; s < whole.size(); ++s) {
      std::vector<std::uint64_t> expected;
      for (const Content& batch : whole[s])
        expected.insert(expected.end(), std::get<4>(batch).begin(), std::get<4>(batch).end());
      EXPECT_EQ(keys[s], expected) << ranks << " ranks, the same molecules with the same keys, in the same order";
      EXPECT_LE(most[s], total[s] / ranks + step_cost(20)) << ranks;
    }
  }
  LoaderOptions too_many = whole_options;
  too_many.ranks = 51;
  EXPECT_THROW(Loader(data, subset, too_many, 0, 1), UsageError);
}

TEST_F(LoaderTest, ConformersAreDrawn) {
  const LoaderOptions options{.seed = 4, .batch_size = 1, .shuffle = false};
  // Molecule 3 has three conformers.
  ASSERT_EQ(molecules[3].conformers, 3u);
  const std::size_t n = molecules[3].size();
  std::set<std::size_t> drawn;
  Loader loader(data, {3}, options, 0, 40);
  while (auto step = loader.next()) {
    const Batch& batch = step->micro_batches[0];
    const std::size_t c = philox(batch.key[0], 0, Draw::conformer, 0).word[0] % 3;
    EXPECT_TRUE(std::equal(batch.positions.begin(), batch.positions.end(),
                           molecules[3].positions.begin() + static_cast<std::ptrdiff_t>(c * n * 3)));
    drawn.insert(c);
  }
  EXPECT_EQ(drawn.size(), 3u);
  Loader fixed(data, {3}, {.batch_size = 1, .random_conformer = false}, 0, 5);
  while (auto step = fixed.next()) EXPECT_EQ(step->micro_batches[0].positions[0], molecules[3].positions[0]);
  Loader none(data, {3}, {.batch_size = 1, .use_positions = false}, 0, 5);
  while (auto step = none.next()) EXPECT_EQ(step->micro_batches[0].has_positions[0], 0);
}

TEST_F(LoaderTest, MemoryIsUsedAgain) {
  // Each step holds two whole epochs, so every step needs the same sizes: memory that comes again must not have moved.
  const LoaderOptions options{.batch_size = 52, .prefetch = 1};
  Loader loader(data, subset, options, 0, 60);
  std::map<const LoadedStep*, std::vector<const void*>> memory;
  while (auto step = loader.next()) {
    const Batch& batch = step->micro_batches[0];
    const std::vector<const void*> here = {batch.spd.data(), batch.path.data(), batch.positions.data(),
                                           batch.index.data()};
    const auto [known, first_time] = memory.try_emplace(step.get(), here);
    if (!first_time) {
      EXPECT_EQ(here, known->second);
    }
    loader.recycle(std::move(step));
  }
  EXPECT_LE(memory.size(), 2u) << "one step at the consumer and one ahead";
}

TEST_F(LoaderTest, AFarStepIsReachedAtOnce) {
  const LoaderOptions options{.seed = 5, .batch_size = 10};
  const std::int64_t far = std::int64_t{1} << 50;
  Loader loader(data, subset, options, far, far + 2);
  for (std::int64_t s = far; auto step = loader.next(); ++s) {
    ASSERT_EQ(step->step, s);
    for (std::uint64_t k = 0; k < 10; ++k) {
      const std::uint64_t sample = static_cast<std::uint64_t>(s) * 10 + k, epoch = sample / subset.size();
      EpochOrder order(subset.size(), molecule_key(5, epoch, ~std::uint64_t{0}));
      EXPECT_EQ(step->micro_batches[0].index[k], subset[order(sample % subset.size())]);
    }
  }
}

TEST(LargeLoader, ManyWindowsGiveEveryMoleculeOnce) {
  // 150,000 molecules: two windows an epoch, whose memory is given back one after the other.
  const TemporaryFolder folder;
  constexpr std::uint64_t kShard = 50'000, kAll = 150'000;
  for (std::uint64_t block = 0; block < 3; ++block) {
    ShardWriter writer(folder.path(), block, 0);
    for (std::uint64_t i = 0; i < kShard; ++i) {
      Molecule m = made_molecule(i % 10, 1 + i % 3, 0, 0);
      writer.add(m);
    }
    writer.finish();
  }
  write_dataset_json(folder.path(), {.labels = {}, .sources = {}, .options = "{}", .program_version = "test"});
  const Dataset data = Dataset::open(folder.path());
  const Split split = random_split(kAll, 0.04, 1);
  const LoaderOptions options{.seed = 2, .batch_size = 1000, .threads = 2};
  const std::uint64_t n = split.train.size();
  ASSERT_GT(EpochOrder(n, 0).windows(), 1u);
  ASSERT_EQ(n % 1000, 0u);
  std::vector<int> times(kAll);
  Loader loader(data, split.train, options, 0, static_cast<std::int64_t>(3 * n / 1000));
  while (auto step = loader.next()) {
    for (const std::uint64_t index : step->micro_batches[0].index) ++times[index];
    loader.recycle(std::move(step));
  }
  for (const std::uint64_t index : split.train) ASSERT_EQ(times[index], 3);
  for (const std::uint64_t index : split.valid) ASSERT_EQ(times[index], 0);
}

TEST_F(LoaderTest, ErrorsOfThreadsArriveInTheirTurn) {
  const auto shard = folder.path() / shard_file_name(2);
  std::string bad = read_file(shard);
  bad[bad.size() - 40] ^= 1;  // the last record: molecule 50
  write_file(shard, bad);
  const Dataset damaged = Dataset::open(folder.path());
  const LoaderOptions options{.batch_size = 10, .threads = 3, .shuffle = false};
  Loader loader(damaged, Subset::all(damaged.size()), options, 0, 20);
  for (int k = 0; k < 5; ++k) EXPECT_NE(loader.next(), nullptr);
  EXPECT_THAT(error_of([&] { loader.next(); }), HasSubstr("record 16 of the shard is damaged"));
  EXPECT_THAT(error_of([&] { loader.next(); }), HasSubstr("record 16")) << "asked again, it fails again";
}

TEST_F(LoaderTest, RefusesImpossibleSettings) {
  EXPECT_NE(error_of([&] { Loader loader(data, {}, {}, 0, 1); }), "");
  EXPECT_NE(error_of([&] { Loader loader(data, {51}, {}, 0, 1); }), "");
  EXPECT_NE(error_of([&] { Loader loader(data, {0}, {.batch_size = 0}, 0, 1); }), "");
  EXPECT_NE(error_of([&] { Loader loader(data, {0}, {.threads = 0}, 0, 1); }), "");
  Loader nothing(data, {0}, {}, 5, 5);
  EXPECT_EQ(nothing.next(), nullptr);
  Loader abandoned(data, subset, {.threads = 4}, 0, 1000000);  // ends promptly
}

}  // namespace
}  // namespace moleblend
