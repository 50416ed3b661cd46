// The operations as `moleblend bench --kernels` runs them on a GPU: each is right by the bench's own check.

#include <gtest/gtest.h>

#include <iostream>

#include "engine/bench/kernel_bench.h"
#include "engine/bench/kernel_cases_impl.h"
#include "engine/model/gpu_batch.h"
#include "tests/cuda/device.h"

namespace moleblend::testing {
namespace {

class KernelCasesTest : public CudaTest {
 protected:
  /// `of_libraries`: how many cases are another library's, or say why they are not there.
  template <class T>
  void expect_right(const char* precision, int of_libraries) {
    ModelConfig config = ModelConfig::named("tiny");
    config.hidden_dropout = 0.1;
    const Batch batch = std::move(made_up_batches(kSmallMolecules, 3, 1)[0]);
    const KernelCasesOn<Gpu, T> found(config, batch, 0);
    const auto truth = make_exact_kernel_cases(config, batch, 1);
    ASSERT_EQ(found.cases().size(), truth->cases().size() + static_cast<std::size_t>(of_libraries));
    for (std::size_t k = found.cases().size(); k-- > 0;) {  // backwards: no case needs another to have run
      const KernelCase& one = found.cases()[k];
      of_libraries -= !one.library.empty() || !one.missing.empty();
      if (!one.missing.empty()) {
        std::cout << one.name << " left out: " << one.missing << "\n";
        continue;
      }
      const KernelError error = compare(one, truth_of(one, *truth));
      if (one.library.starts_with("cuDNN") && !(error.worst <= kernel_tolerance(precision)))
        std::cout << one.name << " is wrong: " << error.array << ", " << error.worst << "\n";  // no failure of ours
      else
        EXPECT_TRUE(error.worst <= kernel_tolerance(precision))
            << one.name << ", " << error.array << ": " << error.worst;
    }
    EXPECT_EQ(of_libraries, 0);
  }
};

TEST_F(KernelCasesTest, Float) {
  expect_right<float>("fp32", 0);
}
TEST_F(KernelCasesTest, Bf16) {
  expect_right<bf16>("bf16", 2);
}

}  // namespace
}  // namespace moleblend::testing
