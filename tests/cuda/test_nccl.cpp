// Gradients added up between GPUs. On a machine with GPUs by NCCL itself, each rank a thread with a GPU of its own; in the executor by a
// stand-in, which also fails when it is told to.

#include "engine/ranks/gpu/gpu_gradient_sum.h"

#ifdef MOLEBLEND_WITH_NCCL
#include <array>
#include <cstdlib>

#include "engine/ranks/gpu/nccl_gradient_sum.h"
#include "io/support/error.h"
#include "kernels/random/philox.h"
#include "tests/cuda/device.h"
#include "tests/engine/thread_ranks.h"
#ifdef MOLEBLEND_FAKE_NCCL
#include "tests/cuda/fake_nccl/fake_nccl.h"
#endif

namespace moleblend::testing {
namespace {

#ifdef MOLEBLEND_FAKE_NCCL
int ranks_here() {
  return 3;
}
int gpu_of(int) {
  return 0;
}
#else
int ranks_here() {
  return visible_gpus();
}
int gpu_of(int rank) {
  return rank;
}
#endif

class Nccl : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string cause;
    nccl_ = nccl_library(cause);
    if (nccl_) return;
    if (std::getenv("MOLEBLEND_REQUIRE_GPU")) FAIL() << cause;  // where GPUs are what is checked
    GTEST_SKIP() << cause;
  }
  const NcclLibrary* nccl_ = nullptr;
};

/// A number between -1 and 1.
float value(int rank, std::size_t k, std::uint64_t round) {
  return 2 * unit_float(philox(static_cast<std::uint64_t>(rank) + 1, k, Draw::noise, round).word[0]) - 1;
}

TEST_F(Nccl, SumsAreThoseOfAllRanks) {
  constexpr std::size_t kValues = 10007;
  constexpr std::int64_t kBucket = 3000;
  std::vector<std::array<std::vector<float>, 3>> results(static_cast<std::size_t>(ranks_here()));
  run_ranks(ranks_here(), [&](ThreadRanks& ranks) {
    Gpu gpu(gpu_of(ranks.rank()));
    DeviceVector<float> gradient(gpu, kValues);
    NcclGradientSum sum(gpu, *nccl_, ranks, {gradient.data(), kValues}, kBucket);
    for (std::uint64_t round = 0; round < 3; ++round) {
      std::vector<float> own(kValues);
      for (std::size_t k = 0; k < kValues; ++k) own[k] = value(ranks.rank(), k, round);
      gpu.upload(gradient.data(), own.data(), static_cast<std::int64_t>(kValues));
      if (round > 0) sum.ready(5000);
      if (round > 1) sum.ready(40);
      sum.finish();
      results[static_cast<std::size_t>(ranks.rank())][round] = gradient.host();
    }
  });
  for (std::uint64_t round = 0; round < 3; ++round) {
    for (std::size_t k = 0; k < kValues; ++k) {
      double expected = 0;
      for (int rank = 0; rank < ranks_here(); ++rank) expected += value(rank, k, round);
      // As many roundings to float as there are ranks, of partial sums no larger than their number.
      const double tolerance = 6e-8 * ranks_here() * ranks_here();
      ASSERT_TRUE(std::abs(results[0][round][k] - expected) <= tolerance) << "round " << round << ", value " << k;
    }
    for (const auto& r : results)
      EXPECT_EQ(std::memcmp(r[round].data(), results[0][round].data(), kValues * sizeof(float)), 0)
          << "all ranks have the same bits";
  }
}

TEST_F(Nccl, EveryRunHasTheSameBits) {
  constexpr std::size_t kValues = 100003;
  std::array<std::vector<float>, 2> results;
  for (std::vector<float>& result : results)
    run_ranks(ranks_here(), [&](ThreadRanks& ranks) {
      Gpu gpu(gpu_of(ranks.rank()));
      std::vector<float> own(kValues);
      for (std::size_t k = 0; k < kValues; ++k) own[k] = value(ranks.rank(), k, 0);
      DeviceVector<float> gradient(gpu, own);
      NcclGradientSum sum(gpu, *nccl_, ranks, {gradient.data(), kValues});
      sum.finish();
      if (ranks.first()) result = gradient.host();
    });
  EXPECT_EQ(std::memcmp(results[0].data(), results[1].data(), kValues * sizeof(float)), 0);
}

#ifdef MOLEBLEND_FAKE_NCCL

/// What f throws as Error.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST_F(Nccl, BucketsGoAsTheyBecomeFinal) {
  fake_nccl_lengths();
  run_ranks(2, [&](ThreadRanks& ranks) {
    Gpu gpu;
    DeviceVector<float> gradient(gpu, std::vector<float>(1000, 1.f));
    NcclGradientSum sum(gpu, *nccl_, ranks, {gradient.data(), 1000}, 300);
    using Lengths = std::vector<std::size_t>;
    const auto expect = [&](const Lengths& lengths) {
      // Nobody asks for the next sum before the first rank has looked.
      if (ranks.first()) {
        EXPECT_EQ(fake_nccl_lengths(), lengths);
      }
      ranks.gather("");
    };
    sum.ready(701);
    expect({});
    sum.ready(700);
    expect({300});
    sum.ready(50);
    expect({300, 300});
    sum.finish();
    expect({100});
  });
}

TEST_F(Nccl, ALostRankEndsTheOthersByTheDeadline) {
  run_ranks(3, [&](ThreadRanks& ranks) {
    ranks.deadline = 0.05;
    Gpu gpu;
    DeviceVector<float> gradient(gpu, std::vector<float>(1000, 1.f));
    NcclGradientSum sum(gpu, *nccl_, ranks, {gradient.data(), 1000}, 300);
    if (ranks.rank() == 2) return;
    const std::string text = error_of([&] { sum.finish(); });
    EXPECT_NE(text.find("no answer from another rank's GPU for 0.05 s"), std::string::npos) << text;
    EXPECT_NE(text.find("--resume"), std::string::npos) << text;
  });
}

TEST_F(Nccl, AFailureIsToldByItsName) {
  run_ranks(1, [&](ThreadRanks& ranks) {
    ranks.deadline = 0.05;
    NcclGroup group(*nccl_, ranks);
    fake_nccl_break(ncclRemoteError);
    const std::string failed = error_of([&] { group.wait([] { return false; }); });
    fake_nccl_break(ncclSuccess);
    EXPECT_NE(failed.find("remote process exited"), std::string::npos) << failed;
    const std::string late = error_of([&] { group.wait([] { return false; }); });
    EXPECT_NE(late.find("no answer"), std::string::npos) << late;
  });
}

#endif  // MOLEBLEND_FAKE_NCCL

TEST(GpuGradientSum, NcclNeedsAGpuForEachRank) {
  std::array<std::string, 4> why;
  const auto ask = [&](const std::function<GpuOfRank(int)>& gpu) {
    why.fill("not asked");
    run_ranks(4, [&](ThreadRanks& ranks) {
      why[static_cast<std::size_t>(ranks.rank())] = why_not_nccl(ranks, gpu(ranks.rank()));
    });
    for (const std::string& w : why) EXPECT_EQ(w, why[0]) << "all ranks go the same way";
    return why[0];
  };
  const auto address = [](int rank) { return "gpu " + std::to_string(rank); };
  EXPECT_EQ(ask([&](int r) { return GpuOfRank{address(r), "2.28.9", ""}; }), "");
  EXPECT_EQ(ask([&](int r) { return GpuOfRank{address(r % 3), "2.28.9", ""}; }), "ranks 0 and 3 share a GPU");
  EXPECT_EQ(ask([&](int r) {
              return r == 2 ? GpuOfRank{address(r), "", "no file"} : GpuOfRank{address(r), "2.28.9", ""};
            }),
            "rank 2 has no NCCL: no file");
  EXPECT_THROW(ask([&](int r) { return GpuOfRank{address(r), r == 1 ? "2.20.5" : "2.28.9", ""}; }), Error);
}

}  // namespace
}  // namespace moleblend::testing
#endif
