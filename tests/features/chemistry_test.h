#pragma once
// Tests that read molecules: they skip in a build without Open Babel.

#include <gtest/gtest.h>

#include "io/chemistry/chemistry.h"

namespace moleblend::testing {

#ifdef MOLEBLEND_WITH_OPENBABEL
inline constexpr bool kWithOpenBabel = true;
#else
inline constexpr bool kWithOpenBabel = false;
#endif

/// One for all tests of the program, loaded on first use.
inline Chemistry& chemistry() {
  static const auto loaded = load_chemistry();
  return *loaded;
}

class ChemistryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kWithOpenBabel) GTEST_SKIP() << "this build has no Open Babel";
  }
};

}  // namespace moleblend::testing
