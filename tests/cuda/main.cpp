// Runs the tests where there is a device. Status 77 where there is none: ctest then shows one skipped test instead of a hundred.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "kernels/common/gpu.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (!::testing::GTEST_FLAG(list_tests)) {
    try {
      moleblend::Gpu gpu;
    } catch (const moleblend::GpuError& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return std::getenv("MOLEBLEND_REQUIRE_GPU") ? 1 : 77;
    }
  }
  return RUN_ALL_TESTS();
}
