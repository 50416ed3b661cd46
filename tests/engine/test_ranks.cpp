// Sums over ranks, and what a run of many has to have in common with a run of one.

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/model/make_model.h"
#include "engine/ranks/agreement.h"
#include "engine/ranks/gradient_sum.h"
#include "engine/ranks/host.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"
#include "tests/engine/fake_model.h"
#include "tests/engine/thread_ranks.h"
#include "tests/engine/training_run.h"

namespace moleblend {
namespace {

using Json = nlohmann::ordered_json;
using testing::FakeModel;
using testing::run_ranks;
using testing::ThreadRanks;

/// A number between -1 and 1 that depends on both.
double value(int rank, std::size_t k) {
  return 2 * unit_float(philox(static_cast<std::uint64_t>(rank) + 1, k, Draw::noise, 0).word[0]) - 1;
}

template <class T>
void expect_sums(int size, std::size_t count) {
  std::vector<std::vector<T>> results(static_cast<std::size_t>(size));
  run_ranks(size, [&](ThreadRanks& ranks) {
    std::vector<T> values(count);
    for (std::size_t k = 0; k < count; ++k) values[k] = static_cast<T>(1000 * value(ranks.rank(), k));
    ranks.sum(std::span(values));
    results[static_cast<std::size_t>(ranks.rank())] = values;
  });
  for (std::size_t k = 0; k < count; ++k) {
    // In the order of the ranks, float in double: the same bits are expected.
    std::conditional_t<std::is_same_v<T, float>, double, T> expected = 0;
    for (int rank = 0; rank < size; ++rank) expected += static_cast<T>(1000 * value(rank, k));
    ASSERT_EQ(results[0][k], static_cast<T>(expected)) << size << " ranks, " << count << " values, value " << k;
  }
  for (const auto& r : results) {
    if (count > 0) {
      EXPECT_EQ(std::memcmp(r.data(), results[0].data(), count * sizeof(T)), 0) << "all ranks have the same bits";
    }
  }
}

TEST(Ranks, SumsAreThoseInTheOrderOfTheRanks) {
  for (const int size : {1, 2, 3, 5, 8})
    for (const std::size_t count : {0u, 1u, 3u, 7u, 511u, 513u, 1025u, 5000u}) {
      expect_sums<float>(size, count);
      expect_sums<double>(size, count);
      expect_sums<std::int64_t>(size, count);
    }
}

TEST(Ranks, GatherGivesEveryTextInOrder) {
  run_ranks(4, [](ThreadRanks& ranks) {
    const auto text = [](int rank) {
      return std::string(static_cast<std::size_t>(3 * rank), static_cast<char>('a' + rank));
    };
    const std::vector<std::string> all = ranks.gather(text(ranks.rank()));
    ASSERT_EQ(all.size(), 4u);
    for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(all[static_cast<std::size_t>(rank)], text(rank));
  });
}

TEST(Ranks, EachOfAMachineHasANumberOfItsOwn) {
  std::vector<int> numbers(3, -1);
  run_ranks(3, [&](ThreadRanks& ranks) { numbers[static_cast<std::size_t>(ranks.rank())] = rank_on_host(ranks); });
  EXPECT_EQ(numbers, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(rank_on_host(sole_rank()), 0);
}

TEST(Ranks, BucketsAreSummedAsTheyBecomeFinal) {
  constexpr std::size_t kCount = 5000;
  run_ranks(3, [&](ThreadRanks& ranks) {
    std::vector<float> gradient(kCount);
    const auto sum = make_gradient_sum(ranks, std::span(gradient), 1100);
    for (int round = 0; round < 3; ++round) {
      for (std::size_t k = 0; k < kCount; ++k) gradient[k] = static_cast<float>(value(ranks.rank() + 10 * round, k));
      // As layers end: other places on each rank, as never happens, must not matter either.
      for (std::int64_t begin = 4900 - 7 * ranks.rank(); begin > 0; begin -= 630 + 100 * ranks.rank())
        sum->ready(begin);
      sum->finish();
      for (std::size_t k = 0; k < kCount; ++k) {
        double expected = 0;
        for (int rank = 0; rank < 3; ++rank) expected += static_cast<float>(value(rank + 10 * round, k));
        ASSERT_EQ(gradient[k], static_cast<float>(expected)) << k;
      }
    }
  });
}

TEST(Ranks, ABucketThatIsNotFinalWaits) {
  run_ranks(2, [&](ThreadRanks& ranks) {
    std::vector<double> gradient(300, 1.0);
    const auto sum = make_gradient_sum(ranks, std::span(gradient), 100);
    sum->ready(150);  // the last bucket is final, the middle one is not
    gradient[120] = 5;
    sum->finish();
    EXPECT_EQ(gradient[120], 10);
    EXPECT_EQ(gradient[0], 2);
    EXPECT_EQ(gradient[299], 2);
  });
}

TEST(Ranks, ALostRankEndsTheOthersSums) {
  std::atomic<int> told{0};
  EXPECT_THROW(run_ranks(3,
                         [&](ThreadRanks& ranks) {
                           if (ranks.rank() == 1) throw Error("gone");
                           std::vector<float> gradient(100);
                           const auto sum = make_gradient_sum(ranks, std::span(gradient), 10);
                           try {
                             sum->finish();
                           } catch (const Error&) {
                             ++told;
                             throw;
                           }
                         }),
               Error);
  EXPECT_EQ(told, 2);
}

TEST(Ranks, AGradientThatIsGivenUpDoesNotWaitForTheOthers) {
  EXPECT_THROW(run_ranks(2,
                         [&](ThreadRanks& ranks) {
                           std::vector<float> gradient(100);
                           const auto sum = make_gradient_sum(ranks, std::span(gradient), 10);
                           if (ranks.rank() == 1) {
                             sum->ready(50);
                             throw Error("a molecule that can't be read");
                           }
                           sum->finish();
                         }),
               Error);
}

TEST(Ranks, RefusalsAreToldOnce) {
  const auto outcome = [](int size, const std::function<void(int)>& work) {
    std::vector<std::string> said(static_cast<std::size_t>(size));
    run_ranks(size, [&](ThreadRanks& ranks) {
      std::string& text = said[static_cast<std::size_t>(ranks.rank())];
      try {
        together(ranks, [&] { work(ranks.rank()); });
        text = "fine";
      } catch (const AnotherRankTells&) {
        text = "silent";
      } catch (const UsageError& e) {
        text = std::string("usage: ") + e.what();
      } catch (const Error& e) {
        text = std::string("error: ") + e.what();
      }
    });
    return said;
  };
  using Said = std::vector<std::string>;
  EXPECT_EQ(outcome(3, [](int) {}), (Said{"fine", "fine", "fine"}));
  EXPECT_EQ(outcome(3, [](int) { throw UsageError("no flag"); }), (Said{"usage: no flag", "silent", "silent"}));
  EXPECT_EQ(outcome(3,
                    [](int rank) {
                      if (rank == 2) throw Error("disk full");
                    }),
            (Said{"error: rank 2: disk full", "silent", "silent"}));
  EXPECT_EQ(outcome(4,
                    [](int rank) {
                      if (rank > 0) throw Error("no {}", rank == 1 ? "a" : "b");
                    }),
            (Said{"error: rank 1: no a; rank 2 and 1 more: no b", "silent", "silent", "silent"}));
}

TEST(Ranks, OtherValuesOnOneRankAreNoticed) {
  for (const int moment : {0, 1, 2}) {
    try {
      run_ranks(3, [&](ThreadRanks& ranks) {
        FakeModel model;
        model.fill(1, 0), model.fill(2, 0);
        check_same_values(ranks, model, 4);
        if (ranks.rank() == 2) model.fill(moment, 1e-3f);
        check_same_values(ranks, model, 5);
      });
      ADD_FAILURE() << "another value in " << moment << " was not noticed";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("after step 5"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("on rank 2"), std::string::npos) << e.what();
    }
  }
}

// ---- training ------------------------------------------------------------------------------------------

/// Sanitizers, with which a step takes many times as long, look for other faults than those of rounding.
constexpr std::int64_t kSteps = MOLEBLEND_SANITIZED ? 10 : 50;

class RanksTraining : public testing::TrainingRun {
 protected:
  RanksTraining() {
    settings_.model = ModelConfig::named("tiny");
    settings_.schedule = {.decay = Decay::cosine, .peak = 1e-3, .steps = kSteps, .warmup = 4};
    settings_.loader.batch_size = 8;
    settings_.loader.micro_batch_atoms = 20;
    settings_.valid_every = kSteps / 5;
    settings_.checkpoint_every = kSteps / 5;
  }

  /// Trains in a folder of this name on so many ranks, from its newest checkpoint on.
  void run(const std::string& name, int size, std::optional<std::int64_t> stop_at = std::nullopt) {
    const auto from = newest(name);
    run_ranks(size, [&](ThreadRanks& ranks) {
      const std::unique_ptr<Model> model = make_cpu_model(settings_.model, 1);
      initialise(*model, 5, false);
      train(name, from, *model, stop_at, ranks);
    });
  }
};

/// Every number of two lines to a relative difference.
void expect_near(const Json& a, const Json& b, double tolerance, const std::string& where) {
  if (a.is_object()) {
    ASSERT_EQ(a.size(), b.size()) << where;
    for (const auto& [key, value] : a.items()) expect_near(value, b.at(key), tolerance, where + "." + key);
  } else if (a.is_number_float()) {
    const double x = a, y = b;
    EXPECT_TRUE(std::abs(x - y) <= tolerance * std::max({std::abs(x), std::abs(y), 1e-3}))
        << where << ": " << x << " and " << y;
  } else {
    EXPECT_EQ(a, b) << where;
  }
}

TEST_F(RanksTraining, AnyNumberOfRanksLearnsTheSame) {
  run("1", 1);
  const std::vector<Json> expected = lines("1");
  ASSERT_EQ(expected.size(), kSteps + 5u);
  for (const int size : {2, 3, 4}) {
    const std::string name = std::to_string(size);
    run(name, size);
    const std::vector<Json> found = lines(name);
    ASSERT_EQ(found.size(), expected.size());
    // Gradients differ by the rounding of partial sums to float, 6e-8 of them, and Adam, which divides by their size, carries that on: 50
    // steps came to 1e-7 of the losses.
    for (std::size_t k = 0; k < found.size(); ++k)
      expect_near(expected[k], found[k], 1e-5, fmt::format("{} ranks, line {}", size, k));
    EXPECT_NE(final_model(name), "");
  }
}

TEST_F(RanksTraining, RerunOnAsManyRanksLeavesTheSameBytes) {
  settings_.schedule.steps = 12;
  run("a", 3);
  run("b", 3);
  EXPECT_EQ(final_model("a"), final_model("b"));
}

TEST_F(RanksTraining, ARunGoesOnOnAnotherNumberOfRanks) {
  settings_.schedule.steps = 15;
  run("straight", 1);
  run("elastic", 3, 3);
  run("elastic", 1, 6);
  run("elastic", 4, 7);
  run("elastic", 2);
  const std::vector<Json> expected = lines("straight"), found = lines("elastic");
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t k = 0; k < found.size(); ++k)
    expect_near(expected[k], found[k], 1e-5, fmt::format("line {}", k));  // as above
}

TEST_F(RanksTraining, ANumberThatIsNotFiniteIsToldOnceWithAllMolecules) {
  std::atomic<int> silent{0}, updates{0};
  const auto from = newest("poisoned");
  std::string text;
  run_ranks(3, [&](ThreadRanks& ranks) {
    FakeModel model;
    model.poisoned = split_.train[4];
    try {
      train("poisoned", from, model, std::nullopt, ranks);
    } catch (const AnotherRankTells&) {
      ++silent;
    } catch (const Error& e) {
      text = e.what();
    }
    updates += static_cast<int>(model.steps_seen.size());
  });
  EXPECT_EQ(silent, 2);
  EXPECT_NE(text.find("its 8 molecules"), std::string::npos) << text;
  EXPECT_NE(text.find(fmt::format("loss of step {} ", updates / 3 + 1)), std::string::npos) << text;
}

}  // namespace
}  // namespace moleblend
