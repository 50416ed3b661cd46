// The team of threads that runs every parallel region.

#include <gtest/gtest.h>

#include <chrono>

#include "kernels/common/cpu.h"
#include "kernels/common/thread_team.h"

namespace moleblend {
namespace {

TEST(ThreadTeam, EveryThreadWorksOnceARegion) {
  for (const int threads : {1, 2, 3, 5}) {
    Cpu cpu(threads);
    std::vector<int> calls(static_cast<std::size_t>(threads));
    constexpr int kRegions = 2000;
    for (int region = 0; region < kRegions; ++region) {
      cpu.parallel([&](int thread) { ++calls[static_cast<std::size_t>(thread)]; });
      // All have returned when parallel() does: no more than a plain read is needed.
      for (const int c : calls) ASSERT_EQ(c, region + 1);
    }
  }
}

TEST(ThreadTeam, WakesFromSleep) {
  Cpu cpu(2);
  int calls[2] = {};
  for (int region = 1; region <= 3; ++region) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // long past the time that threads watch
    cpu.parallel([&](int thread) { ++calls[thread]; });
    EXPECT_EQ(calls[0], region);
    EXPECT_EQ(calls[1], region);
  }
}

TEST(ThreadTeam, WaitsForTheSlowest) {
  Cpu cpu(3);
  bool done = false;
  cpu.parallel([&](int thread) {
    if (thread != 2) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    done = true;
  });
  EXPECT_TRUE(done);
}

TEST(ThreadTeam, TwoTeamsTakeTurns) {
  Cpu one(2), two(3);
  std::int64_t sum[3] = {};
  for (int k = 0; k < 500; ++k) {
    one.parallel([&](int thread) { sum[thread] += 1; });
    two.parallel([&](int thread) { sum[thread] += 10; });
  }
  EXPECT_EQ(sum[0], 5500);
  EXPECT_EQ(sum[1], 5500);
  EXPECT_EQ(sum[2], 5000);
}

TEST(Parts, CoverEverythingInOrder) {
  const std::int64_t cost[] = {0, 10, 10, 11, 500, 501, 505};  // an item without cost, and one that outweighs the rest
  for (const int parts : {1, 2, 3, 7}) {
    std::int64_t even = 0, by_cost = 0;
    for (int part = 0; part < parts; ++part) {
      const Range e = even_part(100, parts, part, 16), c = cost_part(cost, 6, parts, part);
      EXPECT_EQ(e.begin, even);
      EXPECT_EQ(c.begin, by_cost);
      EXPECT_LE(e.begin, e.end);
      EXPECT_LE(c.begin, c.end);
      EXPECT_TRUE(e.end % 16 == 0 || e.end == 100);
      even = e.end;
      by_cost = c.end;
    }
    EXPECT_EQ(even, 100);
    EXPECT_EQ(by_cost, 6);
  }
}

}  // namespace
}  // namespace moleblend
