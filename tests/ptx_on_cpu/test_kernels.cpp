// All kernels of the program, in the form nvcc gave them.

#include <gtest/gtest.h>

#include <algorithm>

#include "registered.h"

namespace ptx_on_cpu::testing {
namespace {

TEST(PtxKernels, AreAllUnderstood) {
  const auto names = decode_all();
  EXPECT_GT(names.size(), 200u);
  const auto one = std::find_if(names.begin(), names.end(),
                                [](const std::string& name) { return name.find("adam_update") != std::string::npos; });
  EXPECT_NE(one, names.end());
}

}  // namespace
}  // namespace ptx_on_cpu::testing
